"""
`make drill-losses`: FLUSHALL on Redis during 20 jobs.

All jobs must succeed, and no guild may be fetched twice, except those in flight at that moment.
"""

import argparse
import concurrent.futures
import contextlib
import dataclasses
import pathlib
import random
import sys
import time

import redis
from rich import progress

from devstack import stack
from tests.benchmarks import facts, report
from tests.benchmarks.drills import client, kills

SHARES = (0.1, 0.5)
"""Share of all guilds that is fetched before the FLUSHALL; guilds without the bot are never fetched."""
GLANCE = 0.05
FLIGHT = 0.3
"""Seconds after the loss within which calls may arrive that got their permit before it."""
HOLD = "3"
"""
Warm-up hold of the limiter after the loss, in seconds.

The product's default is the longest window plus 2 s. The simulator keeps its counters, so a hold is needed, but here
the users' window is one second.
"""


def fleet(users: int, guilds: int) -> stack.Options:
    """Return a fleet of two services and two workers."""
    options = kills.fleet(users, guilds)
    return dataclasses.replace(options, environment={**options.environment, "LIMITER_HOLD": HOLD})


def lose(users: int, guilds: int, share: float) -> dict[str, object]:
    """Run one round on a new fleet; returns its result."""
    with stack.Stack(fleet(users, guilds)) as running, contextlib.ExitStack() as opened:
        pool = opened.enter_context(concurrent.futures.ThreadPoolExecutor(users))
        running.put_credentials()
        known = {guild["id"] for user in running.users for guild in client.ask(running, f"truth/{user.id}")["guilds"]}
        wanted = share * len(known)
        began = time.monotonic()
        jobs = client.start_all(running)
        watching = [pool.submit(client.follow, running, job_id, number) for number, job_id in enumerate(jobs)]
        while client.ask(running, "stats")["channel_fetches"] < wanted and not all(one.done() for one in watching):
            time.sleep(GLANCE)
        before = client.ask(running, "stats")
        redis.Redis.from_url(running.redis_url).flushall()
        lost = time.monotonic()
        watched = [one.result() for one in watching]
        ended, stats = time.monotonic(), client.ask(running, "stats?log=1")
    pauses = [at - before["last_request"] for at, *_ in stats["log"] if at > before["last_request"] + FLIGHT]
    return {
        "share": share,
        "jobs": len(jobs),
        "good": sum(one.state in kills.GOOD for one in watched),
        "ends_seen": sum(one.state != "NEVER_SEEN" for one in watched),
        "fetched_before": before["channel_fetches"],
        "in_flight": before["in_flight"],
        "guilds": stats["channel_fetches_guilds"],
        "fetched_twice": stats["duplicate_guild_fetches"],
        "http_429": stats["http_429"],
        "pause_s": min(pauses, default=0.0),
        "flush_at_s": lost - began,
        "all_ended_s": ended - began,
    }


def main() -> int:
    """Run all rounds, print a table and JSON; returns 1 when a job was lost or too many guilds were fetched twice."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--users", type=int, default=20)
    parser.add_argument("--guilds", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=pathlib.Path, help="file for the JSON")
    options = parser.parse_args()
    dice = random.Random(options.seed)
    before = facts.machine()
    rounds = [
        lose(options.users, options.guilds, dice.uniform(*SHARES))
        for _ in progress.track(range(options.rounds), "losing", console=report.SCREEN)
    ]
    good = all(
        row["good"] == row["ends_seen"] == row["jobs"] and int(str(row["fetched_twice"])) <= int(str(row["in_flight"]))
        for row in rounds
    )
    report.show(f"FLUSHALL in the middle of {options.users} jobs", rounds)
    report.keep(
        {
            "machine": before,
            "load_after": facts.machine()["load"],
            "options": {key: value for key, value in vars(options).items() if key != "out"},
            "rounds": rounds,
            "good": good,
        },
        options.out,
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
