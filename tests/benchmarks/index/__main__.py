"""
`make bench-index`: jobs through the API, on stacks of services, workers and the simulator with Discord's limits.

Measured are the seconds until the channels of all guilds are read and until all jobs have ended, against the time that
the calls take at the rate of the global limit; the wait for a user's first guild; and the cost of a Discord call in CPU
and in commands to MongoDB and Redis. All figures are from the API, the simulator, metrics pages, the servers and /proc.

A  one user with 200 guilds; B  20 users with 60 guilds each, 418 different; first  B until every user has a guild;
crowd  300 users with 30 guilds each, 1,825 different, started over 3 s; starts  150 users with 190 unshared
guilds each, and visitors meanwhile; saturation  1,500 guilds of 2 to 4 channels.
Users' own limits have no effect, except in crowd and starts. Each run has a new stack.
"""

import argparse
import asyncio
import dataclasses
import pathlib
import statistics
import sys
from collections.abc import Sequence

from devstack import stack, supervisor
from tests.benchmarks import facts, report
from tests.benchmarks.index import runs, scenarios

OUT = pathlib.Path("docs/benchmarks/index.json")
TIMES = {
    "ended": "ended",
    "channels_s": "channels",
    "channels_seen_s": "seen",
    "ended_s": "all",
    "minimum_s": "minimum",
    "first_guild_s_p50": "first p50",
    "first_guild_s_p95": "first p95",
    "steady_share": "steady",
    "calls": "calls",
    "http_429": "429",
    "rejections": "rejected",
    "duplicates": "twice",
    "silent_but_free_s": "silent s",
}
COSTS = {
    "calls": "calls",
    "cpu_ms_product": "product ms",
    "cpu_ms_mongodb": "MongoDB ms",
    "cpu_ms_redis": "Redis ms",
    "mongodb_commands": "to MongoDB",
    "redis_commands": "to Redis",
    "mongodb_connections": "connections",
    "service_peak_mib": "service MiB",
    "load_at_start": "load",
    "cores_used_by_others": "other cores",
}
"""Columns of the tables; CPU and commands are per call to Discord."""


def main() -> int:
    """Measure, print tables and write JSON; returns 1 when a run did not end within its limit."""
    options = _options()
    table = scenarios.QUICK if options.quick else scenarios.SCENARIOS
    ended = True
    for name in options.scenario or list(table):
        scenario = table[name]
        if options.limit_seconds:
            scenario = dataclasses.replace(scenario, limit=options.limit_seconds)
        for workers in options.workers or scenario.workers:
            rounds = options.rounds or (1 if options.quick else scenario.rounds)
            title = f"{name}, {workers} worker{'s' * (workers > 1)}"
            found = measure(scenario, title, workers, rounds)
            ended = ended and found["all_ended"]
            if options.out:
                report.merge(title, found, options.out)
    return 0 if ended else 1


def measure(scenario: scenarios.Scenario, title: str, workers: int, rounds: int) -> runs.Row:
    """Run a scenario some times; returns all runs and their medians."""
    machine, rows = facts.machine(), []
    for number in range(rounds):
        place = f"{title}, run {number + 1} of {rounds}"

        def tell(line: str, place: str = place) -> None:
            report.SCREEN.print(f"{place}: {line}", highlight=False)

        tell("starting")
        with stack.Stack(scenario.options(workers)) as running:
            running.put_credentials()
            rows.append(asyncio.run(runs.index_all(scenario, running, tell)))
    for name, columns in (("seconds and calls", TIMES), ("cost of a call to Discord", COSTS)):
        report.show(f"{title}: {name}", [{shown: row.get(key) for key, shown in columns.items()} for row in rows])
    first = [seconds for row in rows for seconds in row.pop(runs.FIRST_GUILDS)]
    return {
        "machine": machine,
        "users": scenario.users,
        "guilds_per_user": scenario.guilds_per_user,
        "simulator": list(scenario.options(workers).simulator),
        "latency_ms": scenarios.LATENCY,
        "limit_s": scenario.limit,
        "all_ended": all(row["ended"] for row in rows),
        "median": medians(rows),
        "all_runs": runs.spread("first_guild_s", first),
        "runs": rows,
    }


def medians(rows: Sequence[runs.Row]) -> runs.Row:
    """Return the median of each figure over the runs that have it."""
    found: runs.Row = {}
    for name in rows[0]:
        values = [row[name] for row in rows if isinstance(row.get(name), int | float)]
        if values and name != "ended":
            found[name] = round(statistics.median(values), 3)
    return found


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", choices=list(scenarios.SCENARIOS), action="append", help="default: all")
    parser.add_argument("--workers", type=int, action="append", help="worker processes; default: 1 and 4, or 4")
    parser.add_argument("--rounds", type=int, help="runs of each; default: 10 of A, B and first, 1 of the others")
    parser.add_argument("--limit-seconds", type=float, help="of a run, after which it is reported as unfinished")
    parser.add_argument("--quick", action="store_true", help="small worlds, one run, nothing written without --out")
    parser.add_argument("--out", type=pathlib.Path, help=f"file for the JSON, merged by scenario (default {OUT})")
    options = parser.parse_args()
    if options.out is None and not options.quick:
        options.out = OUT
    return options


if __name__ == "__main__":
    try:
        sys.exit(main())
    except supervisor.StackFailed as problem:
        sys.exit(f"{problem}\n" + "\n".join(problem.tail))
