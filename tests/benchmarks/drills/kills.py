"""
`make drill-kills`: SIGKILL of one of two services and two workers at a random time, many rounds.

Every job must succeed, and every watcher that reconnects must see the end. The killed process is restarted only after
all jobs of the round have ended, so that its replacement cannot help.
"""

import argparse
import concurrent.futures
import pathlib
import random
import sys
import time

from rich import progress

from devstack import stack
from tests.benchmarks import facts, report
from tests.benchmarks.drills import client

VICTIMS = ("service-1", "service-2", "worker-1", "worker-2")
LATEST = 40.0
"""
Latest time of the kill after the start, in seconds; about the duration of the jobs.

Most of the duration is for roles: the simulator's route limit is ten in ten seconds per user.
"""
GOOD = {"JOB_STATE_SUCCEEDED"}


def fleet(users: int, guilds: int) -> stack.Options:
    """Return a fleet whose jobs take a while; a lost turn is resumed after 12 s instead of 40."""
    return stack.Options(
        users=users,
        services=2,
        workers=2,
        guilds_per_user=guilds,
        latency="20-60",
        simulator=("--user-limit", "10/1"),
        environment={
            "USER_BUDGET": "10/1",
            "INDEXING_LIST_MAX_AGE": "0",
            "DISCORD_TIMEOUT": "3",
            "INDEXING_TURN_LEASE": "12",
            "INDEXING_GUILD_LEASE": "11",
            "INDEXING_SWEEP_INTERVAL": "2",
        },
    )


def kill_one(running: stack.Stack, victim: str, moment: float) -> dict[str, object]:
    """Run one round; returns its result."""
    began = time.monotonic()
    watchers = 2 * len(running.users)
    with concurrent.futures.ThreadPoolExecutor(watchers + 1) as pool:
        killing = pool.submit(_kill, running, victim, moment)
        jobs = client.start_all(running, force=True)
        watched = list(pool.map(lambda number: client.follow(running, jobs[number // 2], number), range(watchers)))
        ended = time.monotonic() - began
        killing.result()
    running.restart(victim)
    return {
        "victim": victim,
        "at_s": moment,
        "in_time": moment < ended,
        "all_ended_s": ended,
        "jobs": len(jobs),
        "good": sum(one.state in GOOD for one in watched) // 2,
        "watchers": watchers,
        "ends_seen": sum(one.state != "NEVER_SEEN" for one in watched),
        "reconnects": sum(max(0, one.breaks) for one in watched),
    }


def _kill(running: stack.Stack, victim: str, moment: float) -> None:
    time.sleep(moment)
    running.kill(victim)


def main() -> int:
    """Run all rounds, print a table and JSON; returns 1 when a job or a terminal event was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--users", type=int, default=4)
    parser.add_argument("--guilds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=pathlib.Path, help="file for the JSON")
    options = parser.parse_args()
    dice = random.Random(options.seed)
    before = facts.machine()
    with stack.Stack(fleet(options.users, options.guilds)) as running:
        running.put_credentials()
        rounds = [
            kill_one(running, dice.choice(VICTIMS), dice.uniform(0.0, LATEST))
            for _ in progress.track(range(options.rounds), "killing", console=report.SCREEN)
        ]
        stats = client.ask(running, "stats")
    good = all(row["good"] == row["jobs"] and row["ends_seen"] == row["watchers"] for row in rounds)
    report.show(f"{options.rounds} kills, {options.users} jobs each, two watchers a job", rounds)
    report.keep(
        {
            "machine": before,
            "load_after": facts.machine()["load"],
            "options": {key: value for key, value in vars(options).items() if key != "out"},
            "rounds": rounds,
            "http_429": stats["http_429"],
            "good": good,
        },
        options.out,
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
