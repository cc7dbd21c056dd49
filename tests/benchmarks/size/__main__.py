"""`make bench-size`: one service and one worker under ever more work; prints a table in Markdown."""

import argparse
import asyncio
import sys
import time

import bson
import pymongo

from indexer_service.embedded import stack
from tests.benchmarks.drain import load
from tests.benchmarks.size import processes
from tests.system import conftest

BUDGET = 50
"""Calls a second: Discord's global budget of one bot."""
FULL = 100
WARM_UP = 15.0
GUILDS = 40
"""Of each user; nearly no two users share one, so that every unit costs a call."""
UNHELD = (
    *("--user-limit", "40/1"),
    *("--route-limit", "GET /users/@me/guilds/{guild.id}/member=400/1"),
    *("--route-limit", "GET /users/@me/guilds=100/1"),
)
"""Limits that would hold users back before the bot's budget does, raised: the bot's is the thing under test."""
PROGRAMS = ("service-1", "worker-1", "valkey", "mongodb")


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.size")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--users", type=int, default=40)
    asked = parser.parse_args()
    say("| of the budget | calls a second with the bot's token | program | CPU | CPU a call | memory | peak |")
    say("|---|---|---|---|---|---|---|")
    for share in (0, 50, FULL):
        measure(share, asked.seconds, asked.users)
    say("\nWhere the calls a second are fewer than the share asks for, this machine had no more; CPU a call holds.")
    return 0


def measure(share: int, seconds: float, users: int) -> None:
    """Run one stack whose budget is that share, with more work than it can do, and print its rows."""
    budget = f"{max(1, BUDGET * share // 100)}/1"
    options = stack.Options(
        users=users,
        guilds_per_user=GUILDS,
        latency="typical",
        simulator=(*UNHELD, "--guilds", str(users * GUILDS)),
        environment={
            "USER_BUDGET": "40/1",
            "GLOBAL_BUDGET": budget,
            "INDEXING_MAX_AGE": "0",
            "INDEXING_LIST_MAX_AGE": "0",
        },
    )
    with stack.Stack(options) as running:
        running.put_credentials()
        asyncio.run(_under_load(running, share, seconds))
        if share == FULL:
            _show_documents(running, users)


async def _under_load(running: stack.Stack, share: int, seconds: float) -> None:
    seen = load.Seen()
    busy = load.Load(running.addresses, [user.id for user in running.users] if share else [], seen)
    async with busy.running(patient=False, browsing=False):
        await asyncio.sleep(WARM_UP)
        before, calls, began = _uses(running), await _calls(running), time.monotonic()
        await asyncio.sleep(seconds)
        after, took = _uses(running), time.monotonic() - began
        rate = (await _calls(running) - calls) / took
        for name in PROGRAMS:
            cpu = (after[name].cpu - before[name].cpu) / took
            each = f"{cpu / rate * 1000:.1f} ms" if rate else "-"
            use = after[name]
            say(f"| {share} % | {rate:.1f} | {name} | {cpu:.2f} | {each} | {use.memory:.0f} MiB | {use.peak:.0f} MiB |")


def _show_documents(running: stack.Stack, users: int) -> None:
    say(f"\n| stored for {users} users with {GUILDS} guilds each | documents | bytes each |")
    say("|---|---|---|")
    client: pymongo.MongoClient[dict[str, object]] = pymongo.MongoClient(running.mongodb_url)
    with client:
        database = client[running.database]
        for name in sorted(database.list_collection_names()):
            sizes = [len(bson.encode(row)) for row in database[name].find({}).limit(2000)]
            say(f"| {name} | {database[name].count_documents({})} | {sum(sizes) / max(1, len(sizes)):.0f} |")


def _uses(running: stack.Stack) -> dict[str, processes.Use]:
    runs = running._supervisor._runs
    return {name: processes.use_of(runs[name].child.process.pid) for name in PROGRAMS}


async def _calls(running: stack.Stack) -> int:
    stats = await asyncio.to_thread(conftest.Simulator(running.simulator_url).ask, "stats")
    return int(stats["by_token"].get("bot", 0))


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
