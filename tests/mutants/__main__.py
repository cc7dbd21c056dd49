"""
`make mutants`: change the product in one place at a time, and run the tests that should notice.

The tests run in a copy of the checkout, one mutation at a time. `--sample` draws some of all mutations with a seed.
"""

import argparse
import dataclasses
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

from rich import progress

from tests.benchmarks import report
from tests.mutants import mutations

ROOT = pathlib.Path(__file__).parents[2]
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "build", "dist", "__pycache__", ".mypy_cache", ".ruff_cache")
LONGEST = 240.0
"""Seconds after which a run of tests counts as failed: the mutation made something endless."""


@dataclasses.dataclass(frozen=True, slots=True)
class Folder:
    """Code to mutate, and the tests that should notice, in the order in which they run."""

    code: Sequence[str]
    tests: Sequence[str]


FOLDERS = {
    "domain": Folder(["indexing/domain"], ["tests/unit/domain", "tests/unit/usecases"]),
    "ratelimit": Folder(["indexing/ratelimit"], ["tests/unit/ratelimit", "tests/contract/ratelimit"]),
    "store": Folder(["indexing/store"], ["tests/unit/store", "tests/contract"]),
    "interceptors": Folder(["indexer_service/interceptors"], ["tests/unit/indexer_service"]),
}


class Checkout:
    """A copy of the checkout in which one file at a time is mutated."""

    def __init__(self, folder: str) -> None:
        self._root = pathlib.Path(folder, "checkout")
        shutil.copytree(ROOT, self._root, ignore=LEFT_OUT)

    def passes(self, tests: Sequence[str]) -> bool:
        """Return whether the tests pass."""
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:randomly", *tests]
        environment = {**os.environ, "PYTHONPATH": str(self._root), "PYTHONDONTWRITEBYTECODE": "1"}  # noqa: TID251 -- passed on
        try:
            done = subprocess.run(
                command, cwd=self._root, env=environment, capture_output=True, timeout=LONGEST, check=False
            )
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    def survives(self, mutation: mutations.Mutation, tests: Sequence[str]) -> bool:
        """Return whether the tests pass although the file is mutated."""
        path = self._root / mutation.path.relative_to(ROOT)
        right = path.read_text(encoding="utf-8")
        path.write_text(mutation.text, encoding="utf-8")
        try:
            return self.passes(tests)
        finally:
            path.write_text(right, encoding="utf-8")


def all_mutations(folder: Folder) -> list[mutations.Mutation]:
    """Return all mutations of a folder's files."""
    files = [
        path for code in folder.code for path in sorted((ROOT / code).rglob("*")) if path.suffix in {".py", ".lua"}
    ]
    return [mutation for path in files for mutation in mutations.mutations_of(path)]


def main() -> int:
    """Mutate what the command line asks for; returns 1 when the tests fail without a mutation."""
    options = _parse()
    rows, survivors = [], []
    for name in options.folder or FOLDERS:
        found = all_mutations(FOLDERS[name])
        chosen = random.Random(options.seed).sample(found, min(options.sample or len(found), len(found)))
        chosen = [mutation for mutation in chosen if options.file in mutation.path.as_posix()]
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
            checkout = Checkout(folder)
            if not checkout.passes(FOLDERS[name].tests):
                report.SCREEN.print(f"{name}: the tests fail without a mutation")
                return 1
            survived = [
                mutation
                for mutation in progress.track(chosen, name, console=report.SCREEN)
                if checkout.survives(mutation, FOLDERS[name].tests)
            ]
        survivors += [f"{one.path.relative_to(ROOT)}:{one.line}: {one.what}" for one in survived]
        rows.append(
            {
                "folder": name,
                "mutations": len(found),
                "tried": len(chosen),
                "killed": len(chosen) - len(survived),
                "share": (len(chosen) - len(survived)) / max(1, len(chosen)),
                "s": time.monotonic() - began,
            }
        )
    report.show("mutations that the tests notice", rows)
    report.keep({"seed": options.seed, "folders": rows, "survivors": survivors}, options.out)
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", action="append", choices=[*FOLDERS], help="may be repeated (default: all)")
    parser.add_argument("--file", default="", help="mutate only files whose paths contain this")
    parser.add_argument("--sample", type=int, default=0, help="number of mutations of each folder (default: all)")
    parser.add_argument("--seed", type=int, default=1, help="of the sample (default 1)")
    parser.add_argument("--out", type=pathlib.Path, help="file for the JSON")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
