"""
`make bench-read`: pages through the API against an empty handler, and hidden channels under concurrent reads.

Another process alternates between the service and an empty handler on the same transport, so that other load on the
machine affects both; each round reverses their order. The measure is the median of the rounds' ratios of calls a
second. The worker is stopped before, so that only reads use the CPU; with --beside-job another user is indexed again
and again meanwhile, as fast as the processes can.

one guild, first page, list of guilds  the demo's user, who has 60 guilds: channels of one guild, the first 100 of all,
50 rows of guilds; any page  a user with 200 guilds of 100 channels on average, page tokens in random order;
one channel, check of 500, search  a user who sees some 5,000 channels in 200 guilds.
"""

import argparse
import dataclasses
import pathlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

from devstack import stack, supervisor
from tests.benchmarks import facts, report
from tests.benchmarks.read import callers, rates, visibility, worlds

OUT = pathlib.Path("docs/benchmarks/read.json")
IN_FLIGHT = (1, 4, 16)
ROUNDS, SECONDS = 10, 2.0
QUICK_ROUNDS, QUICK_SECONDS = 4, 0.5
READING, QUICK_READING = 60.0, 15.0
"""Seconds of concurrent reads and writes."""
Cases = Callable[[stack.Stack], tuple[list[callers.Case], rates.Row]]


@dataclasses.dataclass(frozen=True, slots=True)
class World:
    """One stack and the cases that read from it."""

    guilds_per_user: int
    simulator: tuple[str, ...]
    cases: Cases


LOOKUPS = World(200, ("--channels-per-guild", "40", "--without-bot", "0"), rates.cases_of_lookups)
PAGES = (
    World(60, (), rates.cases_of_demo),
    World(200, ("--channels-per-guild", "100", "--without-bot", "0"), rates.case_of_large_user),
)
WORLDS = (*PAGES, LOOKUPS)
COLUMNS = (
    *("case", "in_flight", "share", "per_s", "empty_per_s", "p50_ms", "p99_ms"),
    *("service_cpu_ms", "empty_cpu_ms", "mongodb_cpu_ms", "failed", "rounds"),
)


def main() -> int:
    """Measure, print tables and write JSON; returns 1 if a page showed a hidden channel."""
    options = _options()
    environment = dict(options.environment)
    found: dict[str, Any] = {
        "machine": facts.machine(),
        "environment": environment,
        "rounds": options.rounds,
        "seconds": options.seconds,
    }
    if options.only != "visibility":
        found |= _rates(options, environment)
    if options.only in {None, "visibility"}:
        _tell(f"hidden channels, {visibility.READERS} readers and {visibility.WRITERS} writers")
        found["visibility"] = visibility.measure(options.reading_seconds, environment)
        shown = {name: value for name, value in found["visibility"].items() if name != "examples"}
        report.show("hidden channels under concurrent reads", [shown])
    found["load_after"] = facts.machine()["load"]
    if options.out:
        report.merge(options.name, found, options.out)
    return 1 if found.get("visibility", {}).get("wrong_pages") else 0


def _rates(options: argparse.Namespace, environment: Mapping[str, str]) -> dict[str, Any]:
    chosen = {None: WORLDS, "rates": WORLDS, "pages": PAGES, "lookups": (LOOKUPS,)}[options.only]
    effort = rates.Effort(options.in_flight, options.rounds, options.seconds, options.limit_seconds)
    rows, read = [], []
    for world in chosen:
        _tell(f"indexing a user with {world.guilds_per_user} guilds")
        users = 2 if options.beside_job else 1
        wanted = worlds.options(users, world.guilds_per_user, world.simulator, environment)
        with worlds.indexed(wanted) as running:
            cases, size = world.cases(running)
            read.append(size)
            _tell(", ".join(f"{name} {count:,}" for name, count in size.items()))
            if options.beside_job:
                with worlds.indexing(running, running.users[1].id) as jobs:
                    rows += rates.measure(running, cases, effort, _tell)
                size["jobs_beside"] = len(jobs)
            else:
                running.terminate("worker-1")
                rows += rates.measure(running, cases, effort, _tell)
    report.show("pages against an empty handler", [_shown(row) for row in rows])
    return {"users": read, "rows": rows}


def _shown(row: rates.Row) -> rates.Row:
    return {name: f"{row[name]:.2%}" if name == "share" else row[name] for name in COLUMNS}


def _tell(line: str) -> None:
    report.SCREEN.print(line, highlight=False)


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"must look like NAME=VALUE, not {text!r}")
    return name, value


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--environment", type=_setting, action="append", default=[], metavar="NAME=VALUE", help="of the service")
    add("--in-flight", type=int, nargs="+", default=list(IN_FLIGHT), help="calls in flight (default 1 4 16)")
    add("--rounds", type=int, help=f"turns of each side (default {ROUNDS})")
    add("--seconds", type=float, help=f"of a turn (default {SECONDS})")
    add("--limit-seconds", type=float, default=120.0, help="of all rounds of a row, after which none begins")
    add("--reading-seconds", type=float, help=f"of concurrent reads and writes (default {READING:.0f})")
    add("--only", choices=("rates", "pages", "lookups", "visibility"), help="measure this part alone")
    add("--beside-job", action="store_true", help="index another user meanwhile")
    add("--quick", action="store_true", help="few short rounds, nothing written without --out")
    add("--name", help="under which the file keeps the figures (default: the environment, or plain)")
    add("--out", type=pathlib.Path, help=f"file for the JSON, merged by name (default {OUT})")
    options = parser.parse_args()
    options.rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    options.seconds = options.seconds or (QUICK_SECONDS if options.quick else SECONDS)
    options.reading_seconds = options.reading_seconds or (QUICK_READING if options.quick else READING)
    named = [*("=".join(pair) for pair in options.environment), *(["beside a job"] if options.beside_job else [])]
    options.name = options.name or " ".join(named) or "plain"
    if options.out is None and not options.quick:
        options.out = OUT
    return options


if __name__ == "__main__":
    try:
        sys.exit(main())
    except supervisor.StackFailed as problem:
        sys.exit(f"{problem}\n" + "\n".join(problem.tail))
