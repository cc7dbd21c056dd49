"""
`make mutants`: change the product in one place at a time, and run the tests that should notice.

The tests run in a copy of the checkout, one mutation at a time, in an order drawn with a seed, so that the first ones
are a sample of all. `--seconds` stops after a while, and a later run with the same file goes on. Which tests run which
lines is traced at first. A mutation is tried with the quickest of the tests that run its statement (`--within`), so one
that survives may be noticed by slower ones. A run of tests that takes too long is counted apart: on a busy machine it
may be no proof.
"""

import argparse
import collections
import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

from rich import progress

from tests import servers
from tests.benchmarks import report
from tests.mutants import forks, mutations, reached

ROOT = pathlib.Path(__file__).parents[2]
OUT = pathlib.Path("build/mutants.json")
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "build", "dist", "__pycache__", ".mypy_cache", ".ruff_cache")
LEAST, FACTOR = 30.0, 4.0
"""A run of tests may take so many seconds, or so many times what the tests took before."""
WITHIN = 20.0
"""A mutation is tried with the quickest tests that took so many seconds together."""
KILLED, SURVIVED, TIMED_OUT, UNREACHED = "killed", "survived", "timed out", "not run by any test"
TRACE = 300.0
"""Most seconds for all tests of a file."""
VERDICTS = {forks.FAILED: KILLED, forks.PASSED: SURVIVED, forks.TIMED_OUT: TIMED_OUT}


@dataclasses.dataclass(frozen=True, slots=True)
class Folder:
    """Code to mutate, and the tests that should notice."""

    code: Sequence[str]
    tests: Sequence[str]


STORE = ("users", "guilds", "jobs", "credentials", "erasure", "writer", "tombstones", "idempotency", "guild_documents")
"""Modules with the conditions of writes; not the rows of the previous release, the migration and the boot checks."""
STORE_TESTS = (
    *("users", "guilds", "jobs", "credentials", "erasure", "writer", "idempotency"),
    *("late_writes", "purge", "listings", "one_renewal", "stops", "feed_stores"),
)
FOLDERS = {
    "domain": Folder(["indexing/domain"], ["tests/unit/domain", "tests/unit/usecases", "tests/unit/gateway"]),
    "ratelimit": Folder(
        ["indexing/ratelimit"], ["tests/unit/ratelimit", "tests/contract/ratelimit", "tests/contract/test_stops.py"]
    ),
    "store": Folder(
        [f"indexing/store/{name}.py" for name in STORE],
        ["tests/unit/store", *(f"tests/contract/test_{name}.py" for name in STORE_TESTS)],
    ),
    "interceptors": Folder(["indexer_service/interceptors"], ["tests/unit/indexer_service"]),
}


class Checkout:
    """A copy of the checkout in which one file at a time is mutated."""

    def __init__(self, folder: str, environment: dict[str, str]) -> None:
        self.root = pathlib.Path(folder, "checkout")
        shutil.copytree(ROOT, self.root, ignore=LEFT_OUT)
        self._out = self.root / "reached.json"
        own = {"PYTHONPATH": str(self.root), "PYTHONDONTWRITEBYTECODE": "1", reached.OUT: str(self._out)}
        self.environment = {**environment, **own}

    @contextlib.contextmanager
    def noting(self, folder: Folder) -> Iterator[None]:
        """Let the code note its statements while the block runs."""
        texts = {path: path.read_text() for path in _files(self.root, folder, {".py"})}
        for path, text in texts.items():
            path.write_text(reached.noting(path.relative_to(self.root).as_posix(), text))
        try:
            yield
        finally:
            for path, text in texts.items():
                path.write_text(text)

    def trace(self, test_file: pathlib.Path, process: forks.Forks) -> reached.Reached:
        """Return the lines that each test of a file runs, if it passes while nothing is mutated."""
        self._out.unlink(missing_ok=True)
        verdict = process.trace(str(test_file), TRACE)
        if not self._out.exists():
            sys.exit(f"the tests do not run without a mutation: {test_file} {verdict}")
        found: reached.Reached = json.loads(self._out.read_text())
        return found

    @contextlib.contextmanager
    def mutated(self, mutation: mutations.Mutation) -> Iterator[str]:
        """Mutate a file while the block runs; yields its text without the mutation."""
        path = self.root / mutation.path.relative_to(ROOT)
        right = path.read_text(encoding="utf-8")
        path.write_text(mutation.text, encoding="utf-8")
        try:
            yield right
        finally:
            path.write_text(right, encoding="utf-8")


def all_mutations(folder: Folder) -> list[mutations.Mutation]:
    """Return all mutations of a folder's files."""
    return [mutation for path in _files(ROOT, folder, {".py", ".lua"}) for mutation in mutations.mutations_of(path)]


def _files(root: pathlib.Path, folder: Folder, kinds: set[str]) -> list[pathlib.Path]:
    found = [path for code in folder.code for path in [root / code, *sorted((root / code).rglob("*"))]]
    return [path for path in found if path.is_file() and path.suffix in kinds]


def key_of(mutation: mutations.Mutation) -> str:
    """Return a line of text that names the mutation."""
    return f"{mutation.path.relative_to(ROOT)}:{mutation.line}: {mutation.what}"


class Kept:
    """The verdicts so far, in a file, and the traces beside it; `totals` by folder, until the monotonic time `ends`."""

    def __init__(self, path: pathlib.Path, seed: int, ends: float) -> None:
        self._path, self._seed, self.ends = path, seed, ends
        before = json.loads(path.read_text()) if path.exists() else {"verdicts": {}, "folders": []}
        self.verdicts: dict[str, dict[str, str]] = before["verdicts"]
        self.totals: dict[str, int] = {row["folder"]: row["mutations"] for row in before["folders"]}

    def save(self) -> list[dict[str, object]]:
        """Write the file; returns a row for each folder."""
        rows = []
        for name, found in self.verdicts.items():
            counts = collections.Counter(found.values())
            decided = counts[KILLED] + counts[SURVIVED] + counts[UNREACHED]
            shares = {verdict: counts[verdict] for verdict in (KILLED, SURVIVED, UNREACHED, TIMED_OUT)}
            row = {"folder": name, "mutations": self.totals.get(name, 0), "tried": len(found), **shares}
            rows.append({**row, "share": counts[KILLED] / max(1, decided)})
        self._path.parent.mkdir(parents=True, exist_ok=True)
        document = {"seed": self._seed, "folders": rows, "verdicts": self.verdicts}
        self._path.write_text(json.dumps(document, indent=1) + "\n")
        return rows

    def trace(self, name: str, checkout: Checkout, process: forks.Forks) -> reached.Reached | None:
        """Return the trace of a folder, each test file of which is run once; None when there is no time for all."""
        path, folder = self._path.with_suffix(f".{name}.json"), FOLDERS[name]
        found: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}
        code = b"".join(each.read_bytes() for each in _files(ROOT, folder, {".py"}))
        tests = [ROOT / each for each in folder.tests]
        files = [file for each in tests for file in ([each] if each.is_file() else sorted(each.rglob("test_*.py")))]
        with checkout.noting(folder):
            for file in files:
                digest = hashlib.sha256(code + file.read_bytes()).hexdigest()
                name = str(file.relative_to(ROOT))
                if found.get(name, {}).get("of") != digest:
                    if time.monotonic() > self.ends:
                        return None
                    found[name] = {"of": digest, "tests": checkout.trace(file.relative_to(ROOT), process)}
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(json.dumps(found))
        return {test: each for file in found.values() for test, each in file["tests"].items()}


def _try_all(chosen: Sequence[mutations.Mutation], checkout: Checkout, kept: Kept, name: str, within: float) -> None:
    """
    Try mutations of the folder *name* while there is time; keep and save each verdict.

    The tests of each are those that took *within* seconds together when they were traced.
    """
    verdicts = kept.verdicts[name]
    with forks.Forks(checkout.root, checkout.environment) as process:
        traced = kept.trace(name, checkout, process)
        if traced is None:
            return
        for mutation in progress.track(chosen, console=report.SCREEN, transient=True):
            if time.monotonic() > kept.ends:
                return
            with checkout.mutated(mutation) as text:
                tests = reached.choose_tests(traced, mutation.path.relative_to(ROOT), mutation.line, text)
                tests, usual = reached.within(traced, tests, within)
                limit = max(LEAST, FACTOR * usual)
                verdicts[key_of(mutation)] = VERDICTS[process.run(tests, limit)] if tests else UNREACHED
            kept.save()


def main() -> int:
    """Mutate what the command line asks for, print a table, and write JSON."""
    options = _parse()
    kept = Kept(options.out, options.seed, time.monotonic() + (options.seconds or float("inf")))
    with contextlib.ExitStack() as stack:
        environment = dict(os.environ)  # noqa: TID251 -- passed on
        environment.setdefault("TEST_REDIS_URL", stack.enter_context(servers.valkey()))
        environment.setdefault("TEST_MONGODB_URL", stack.enter_context(servers.mongodb()))
        checkout = Checkout(stack.enter_context(tempfile.TemporaryDirectory(prefix="mutants-")), environment)
        for name, folder in FOLDERS.items():
            if options.folder and name not in options.folder:
                continue
            found = all_mutations(folder)
            kept.totals[name] = len(found)
            random.Random(options.seed).shuffle(found)
            present = {key_of(mutation) for mutation in found}
            # Verdicts about code that has changed since say nothing.
            verdicts = {key: verdict for key, verdict in kept.verdicts.get(name, {}).items() if key in present}
            kept.verdicts[name] = verdicts
            named = [one for one in found if options.file in one.path.as_posix()]
            sample = options.sample or len(named)
            chosen = [one for at, one in enumerate(named) if at < sample or key_of(one) in verdicts]
            left = [one for one in chosen if _is_left(verdicts.get(key_of(one)), options)]
            if left and time.monotonic() < kept.ends:
                _try_all(left, checkout, kept, name, options.within)
    rows = kept.save()
    report.show("mutations that the tests notice", rows)
    for verdicts in kept.verdicts.values():
        for key, verdict in sorted(verdicts.items()):
            if verdict != KILLED:
                report.SCREEN.print(f"{verdict}: {key}", markup=False, emoji=False, soft_wrap=True)
    return 0


def _is_left(verdict: str | None, options: argparse.Namespace) -> bool:
    """Tell whether to try a mutation that has a verdict, or None."""
    return verdict is None or options.again or (options.survivors and verdict != KILLED)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", action="append", choices=[*FOLDERS], help="may be repeated (default: all)")
    parser.add_argument("--file", default="", help="mutate only files whose paths contain this")
    parser.add_argument("--sample", type=int, default=0, help="number of mutations of each folder (default: all)")
    parser.add_argument("--seconds", type=float, default=0.0, help="stop after so long (default: never)")
    parser.add_argument(
        "--within", type=float, default=WITHIN, help="seconds of tests a mutation (default %(default)s)"
    )
    parser.add_argument("--again", action="store_true", help="try also mutations that have a verdict")
    parser.add_argument("--survivors", action="store_true", help="try also those that were not killed before")
    parser.add_argument("--seed", type=int, default=1, help="of the order (default 1)")
    parser.add_argument("--out", type=pathlib.Path, default=OUT, help=f"file of the verdicts (default {OUT})")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
