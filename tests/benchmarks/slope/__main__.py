"""
`make bench-slope`: 20 users with 60 guilds each, on four workers, while MongoDB or Redis is slow.

Each process reaches the slow server through a TCP proxy that delays every operation by the same time, half on the way
to the server and half on the way back. Shown are the seconds until all jobs have ended, calls to Discord for each turn,
the most operations that a process could have under way at MongoDB, and what the product says: lines of the log,
metrics, and whether processes are ready. Each run has a new stack.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import pathlib
import statistics
import sys
from collections.abc import Iterator, Mapping

from devstack import supervisor
from tests.benchmarks import facts, report
from tests.benchmarks.index import runs, scenarios
from tests.benchmarks.slope import said, slow

OUT = pathlib.Path("docs/benchmarks/slope.json")
DELAYS = (0, 20, 100, 500, 2000)
WORKERS = 4
COLUMNS = {
    "server": "server",
    "delay_ms": "+ms",
    "ended": "ended",
    "ended_s": "seconds",
    "calls": "calls",
    "turns": "turns",
    "calls_a_turn": "calls a turn",
    "turns_without_task": "began nothing",
    "waits": "said of",
    "most_operations": "operations",
    "unready": "unready",
    "http_429": "429",
    "states": "states",
    "log": "log",
}


def main() -> int:
    """Measure, print a table and write JSON; returns 1 when a run did not end within its limit."""
    options = _options()
    rows = []
    for server in options.server or slow.SERVERS:
        for delay in options.delay or DELAYS:
            for _ in range(options.rounds):
                rows.append(measure(server, delay, options))
                report.show(f"{server} +{delay} ms", [{shown: rows[-1][key] for key, shown in COLUMNS.items()}])
    report.show("all", [{shown: row[key] for key, shown in COLUMNS.items()} for row in rows])
    if options.out:
        for server in slow.SERVERS:
            for delay in options.delay or DELAYS:
                same = [row for row in rows if (row["server"], row["delay_ms"]) == (server, delay)]
                if same:
                    ended = [row["ended_s"] for row in same if row["ended_s"] is not None]
                    median = round(statistics.median(ended), 1) if ended else None
                    found = {"machine": facts.machine(), "median_ended_s": median, "runs": same}
                    report.merge(f"{server} +{delay} ms", found, options.out)
    return 0 if all(row["ended"] for row in rows) else 1


def measure(server: str, delay: int, options: argparse.Namespace) -> runs.Row:
    """Run the jobs once with so many milliseconds more an operation."""
    table = scenarios.QUICK if options.quick else scenarios.SCENARIOS
    scenario = dataclasses.replace(table["B"], limit=options.limit_seconds)
    place = f"{server} +{delay} ms"
    with slow.SlowStack(scenario.options(WORKERS), server) as running:
        running.put_credentials()
        running.delay(delay / 1000)
        with _listening(running) as heard:
            row = asyncio.run(
                runs.index_all(scenario, running, lambda line: report.SCREEN.print(f"{place}: {line}", highlight=False))
            )
            spoken = heard.read()
        running.delay(0.0)
    turns = spoken["turns"]
    return {
        "server": server,
        "delay_ms": delay,
        **spoken,
        **{key: row[key] for key in ("ended", "ended_s", "calls", "http_429", "states", "load_at_start")},
        "calls_a_turn": round(row["calls"] / turns, 2) if turns else None,
        "cores_used_by_others": row.get("cores_used_by_others"),
    }


@contextlib.contextmanager
def _listening(running: slow.SlowStack) -> Iterator[said.Listener]:
    pages: Mapping[str, str] = running.metrics_urls
    with said.Listener(pages, running.logs) as listener:
        yield listener


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", choices=slow.SERVERS, action="append", help="default: both")
    parser.add_argument("--delay", type=int, action="append", help=f"milliseconds; default: {DELAYS}")
    parser.add_argument("--rounds", type=int, default=1, help="runs of each (default 1)")
    parser.add_argument("--limit-seconds", type=float, default=400.0, help="of a run (default 400)")
    parser.add_argument("--quick", action="store_true", help="a small world; nothing is written without --out")
    parser.add_argument("--out", type=pathlib.Path, help=f"file for the JSON (default {OUT})")
    options = parser.parse_args()
    if options.out is None and not options.quick:
        options.out = OUT
    return options


if __name__ == "__main__":
    try:
        sys.exit(main())
    except supervisor.StackFailed as problem:
        sys.exit(f"{problem}\n" + "\n".join(problem.tail))
