"""`make drill-drain`: a service and a worker get SIGTERM under load, twenty times."""

import argparse
import asyncio
import pathlib
import sys
import time

from devstack import stack
from tests.benchmarks import facts, report
from tests.benchmarks.drain import load

SERVICE_GRACE = 20.0 + 5.0 + 5.0
"""INDEXER_DRAIN, first turns and closing: the pod's grace period without its initial pause."""
WORKER_GRACE = 55.0
ENVIRONMENT = {
    "INDEXER_DRAIN": "20",
    "WORKERS_SHUTDOWN_TIMEOUT": "25",
    "USER_BUDGET": "40/1",
    "INDEXING_LIST_MAX_AGE": "0",
    "INDEXING_MAX_AGE": "1",
}


def main() -> int:
    """Run the drill; the exit code is 0 if no caller saw a failure."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.drain")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--users", type=int, default=8)
    parser.add_argument("--out", type=pathlib.Path, help="file for the JSON")
    asked = parser.parse_args()
    options = stack.Options(
        users=asked.users,
        services=2,
        workers=2,
        guilds_per_user=15,
        latency="20-60",
        simulator=("--user-limit", "40/1", "--guilds", "40"),
        environment=ENVIRONMENT,
    )
    with stack.Stack(options) as running:
        running.put_credentials()
        found = asyncio.run(drill(running, asked.rounds, load.Observations()))
    report.keep({"machine": facts.machine(), **found}, asked.out)
    return int(bool(found["failures"]))


async def drill(running: stack.Stack, rounds: int, seen: load.Observations) -> dict[str, object]:
    """Terminate and restart a service and a worker in each round; returns the observations."""
    busy = load.Load(running.addresses, [user.id for user in running.users], seen)
    seconds: dict[str, list[float]] = {"service": [], "worker": []}
    async with busy.running():
        for number in range(rounds):
            which = number % 2 + 1
            for kind, grace in (("service", SERVICE_GRACE), ("worker", WORKER_GRACE)):
                name = f"{kind}-{which}"
                if kind == "service":
                    await _wait_for_stream(busy, running.addresses[which - 1])
                began = time.monotonic()
                code = await asyncio.to_thread(running.terminate, name)
                took = time.monotonic() - began
                seconds[kind].append(round(took, 2))
                if code or took > grace:
                    seen.failures[f"{kind} ended with {code} after {took:.0f} s"] += 1
                if number < rounds - 1:
                    await asyncio.to_thread(running.restart, name)
    return {
        "rounds": rounds,
        "calls_answered": seen.answers,
        "calls_repeated_after_unavailable": seen.repeated,
        "jobs": seen.jobs,
        "units": seen.units,
        "streams": seen.streams,
        "goodbyes": seen.going_away,
        "seconds_to_end": {
            kind: {"longest": max(found), "median": sorted(found)[len(found) // 2]} for kind, found in seconds.items()
        },
        "failures": dict(seen.failures),
    }


async def _wait_for_stream(busy: load.Load, address: str) -> None:
    """Wait until a stream is open at that service, so that its end is observed."""
    async with asyncio.timeout(load.TIMEOUT):
        while not busy.watched[address]:  # noqa: ASYNC110 -- a benchmark may poll
            await asyncio.sleep(load.PAUSE / 10)


if __name__ == "__main__":
    sys.exit(main())
