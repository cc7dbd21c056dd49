"""Output of chaos runs: a table scenario x invariant with counts, as text and as JSON."""

import collections
import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import pathlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

from rich import text

from tests.benchmarks import facts
from tests.benchmarks import report as output
from tests.chaos import invariants, runs

ROOT = pathlib.Path(__file__).parents[2]
PRODUCT = ("indexing", "indexer_service", "workers")
SHOWN = 5
"""Failures of an invariant that are printed for one run."""


def print_failures(result: runs.Result) -> None:
    """Print the failures of a run, and the command that repeats it."""
    if result.good:
        return
    output.SCREEN.print(f'make chaos ARGS="{_again(result)}"', style="bold red")
    for name, verdict in result.verdicts.items():
        for line in verdict.failures[:SHOWN]:
            output.SCREEN.print(text.Text(f"  {name}: {line}"), soft_wrap=True)
        if len(verdict.failures) > SHOWN:
            output.SCREEN.print(f"  {name}: and {len(verdict.failures) - SHOWN} more")


def _again(result: runs.Result) -> str:
    """Return the options that repeat a run, with the seeds that its fleet played before."""
    first = int(str(result.notes.get("fleet", result.seed)))
    options = f"--scenario {result.scenario} --seed {first}"
    played = result.seed - first + 1
    return options if played == 1 else f"{options} --seeds {played} --together {played}"


def show(results: Sequence[runs.Result]) -> None:
    """Print the table."""
    rows = [
        {"scenario": name, "runs": len(of), "s": max(one.seconds for one in of), **_cells(of)}
        for name, of in _by_scenario(results).items()
    ]
    output.show("failures / checks of each invariant", rows)


def _cells(of: Sequence[runs.Result]) -> dict[str, str]:
    return {name: "-" if count is None else f"{count[1]}/{count[0]}" for name, count in counts(of).items()}


def counts(of: Sequence[runs.Result]) -> dict[str, tuple[int, int] | None]:
    """Return checks and failures by invariant, None for one that is not checked."""
    found: dict[str, tuple[int, int] | None] = {}
    for name in invariants.INVARIANTS:
        verdicts = [one.verdicts[name] for one in of if name in one.verdicts]
        sums = (sum(each.checked for each in verdicts), sum(len(each.failures) for each in verdicts))
        found[name] = sums if verdicts else None
    return found


def keep(results: Sequence[runs.Result], path: pathlib.Path) -> None:
    """
    Merge results into a JSON file, where the result of a scenario with a seed replaces the older one.

    Several commands may keep their results in one file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path.parent):
        kept = json.loads(path.read_text())["scenarios"] if path.exists() else {}
        for name, of in _by_scenario(results).items():
            runs_ = {run["seed"]: run for run in kept.get(name, [])} | {one.seed: _document(one) for one in of}
            kept[name] = [run for _, run in sorted(runs_.items())]
        document = {"machine": facts.machine(), "scenarios": dict(sorted(kept.items()))}
        path.write_text(json.dumps(document, indent=1) + "\n")


@contextlib.contextmanager
def _locked(folder: pathlib.Path) -> Iterator[None]:
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _document(result: runs.Result) -> Mapping[str, object]:
    document = dataclasses.asdict(result)
    verdicts = {
        name: {"checked": verdict.checked, "failures": verdict.failures} for name, verdict in result.verdicts.items()
    }
    made = {"at": time.strftime("%Y-%m-%d %H:%M", time.gmtime()), "code": _digest()}
    return {**document, **made, "seconds": round(result.seconds, 1), "verdicts": verdicts}


def _digest() -> str:
    """Return a hash of the product's code, so that results of different code are told apart."""
    paths = [
        path for folder in PRODUCT for path in sorted((ROOT / folder).rglob("*")) if path.suffix in {".py", ".lua"}
    ]
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:12]


def _by_scenario(results: Iterable[runs.Result]) -> dict[str, list[runs.Result]]:
    found: dict[str, list[runs.Result]] = collections.defaultdict(list)
    for result in results:
        found[result.scenario].append(result)
    return found
