"""
`make bench-size`: memory and CPU of one service, one worker and one refresh process at several shares of the budget.

Each share is measured on a separate stack whose budget is that share, with more work than it can do: users who start a
new job when the last one has ended. Their number fills the limiter's queue for one second; more users would only make
turns shorter and calls more expensive. Calls per second show how much of the budget was used: a permit is occupied
until its response is read, so a slower machine uses less of it.
"""

import argparse
import asyncio
import contextlib
import pathlib
import sys
import time
from collections.abc import AsyncIterator

import bson
import pymongo

from devstack import probes, stack
from tests.benchmarks import facts, report
from tests.benchmarks.drain import load
from tests.benchmarks.size import processes
from tests.system import conftest

BUDGET = 50
"""Discord's global budget of one bot, in calls per second."""
FULL = 100
WARM_UP = 15.0
GUILDS = 40
"""Guilds per user; shared guilds are fetched once, so that a job costs fewer calls than it has guild tasks."""
DUE = 1.0
"""A due time in the past, for `next_refresh_at`."""
UNHELD = (
    *("--user-limit", "40/1"),
    *("--route-limit", "GET /users/@me/guilds/{guild.id}/member=400/1"),
    *("--route-limit", "GET /users/@me/guilds=100/1"),
)
"""Raised limits of users and routes, so that only the bot's budget limits the work."""
PROGRAMS = ("service-1", "worker-1", "refresh", "exporter", "valkey", "mongodb", "simulator")
Row = dict[str, object]


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--users", type=int, default=10, help="users at the full budget; half as many at half of it")
    parser.add_argument("--out", type=pathlib.Path, help="file for the JSON")
    asked = parser.parse_args()
    rows: list[Row] = []
    documents: list[Row] = []
    for share in (0, 50, FULL):
        with started(share, asked.users) as running:
            users = [user.id for user in running.users] if share else []
            busy = load.Load(running.addresses, users, load.Observations())
            rows += asyncio.run(uses(running, f"{share} %", asked.seconds, work(busy)))
            if share == FULL:
                documents = stored(running)
                rows += asyncio.run(uses(running, "refreshing alone", asked.seconds, all_due(running)))
    report.show("memory and CPU of each process", rows)
    report.show(f"stored for {asked.users} users with {GUILDS} guilds each", documents)
    kept = {"machine": facts.machine(), "seconds": asked.seconds, "users": asked.users}
    report.keep({**kept, "rows": rows, "documents": documents}, asked.out)
    return 0


def started(share: int, users: int) -> stack.Stack:
    """Return a stack whose budget is *share* percent of the global budget."""
    users = max(1, users * share // FULL)
    return stack.Stack(
        stack.Options(
            users=users,
            guilds_per_user=GUILDS,
            latency="typical",
            refresh=True,
            exporter=True,
            simulator=(*UNHELD, "--guilds", str(users * GUILDS), "--without-bot", "0"),
            environment={
                "USER_BUDGET": "40/1",
                "GLOBAL_BUDGET": f"{max(1, BUDGET * share // FULL)}/1",
                "INDEXING_MAX_AGE": "0",
                "INDEXING_LIST_MAX_AGE": "0",
            },
        )
    )


async def uses(
    running: stack.Stack, name: str, seconds: float, working: contextlib.AbstractAsyncContextManager[None]
) -> list[Row]:
    """Return memory and CPU of each process while *working*."""
    if not name.startswith("refreshing"):
        await asyncio.to_thread(running.put_credentials)
    async with working:
        await asyncio.sleep(WARM_UP)
        await asyncio.to_thread(probes.page_is_ok, running.metrics_urls["exporter"])
        before, calls, began = _uses(running), await _calls(running), time.monotonic()
        await asyncio.sleep(seconds)
        after, took = _uses(running), time.monotonic() - began
        rate = (await _calls(running) - calls) / took
    return [
        {
            "work": name,
            "calls_per_s": round(rate, 1),
            "program": program,
            "cpu": round((after[program].cpu - before[program].cpu) / took, 3),
            "cpu_ms_per_call": round((after[program].cpu - before[program].cpu) / took / rate * 1000, 1) if rate else 0,
            "memory_mib": round(after[program].memory),
            "peak_mib": round(after[program].peak),
        }
        for program in PROGRAMS
        if program in after
    ]


@contextlib.asynccontextmanager
async def work(busy: load.Load) -> AsyncIterator[None]:
    """Run jobs of every user, each with a watcher and a WaitJob caller."""
    async with busy.running(finish_jobs=False, browsing=False):
        yield


@contextlib.asynccontextmanager
async def all_due(running: stack.Stack) -> AsyncIterator[None]:
    """Make every guild due repeatedly, without API calls."""
    client: pymongo.MongoClient[Row] = pymongo.MongoClient(running.mongodb_url)
    guilds = client[running.database]["guilds"]

    async def set_due() -> None:
        while True:
            await asyncio.to_thread(guilds.update_many, {}, {"$set": {"next_refresh_at": DUE}})
            await asyncio.sleep(WARM_UP / 3)

    task = asyncio.create_task(set_due())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        client.close()


def stored(running: stack.Stack) -> list[Row]:
    """Return the number and mean size of the documents by collection."""
    found: list[Row] = []
    with pymongo.MongoClient[Row](running.mongodb_url) as client:
        database = client[running.database]
        for name in sorted(database.list_collection_names()):
            sizes = [len(bson.encode(row)) for row in database[name].find({}).limit(2000)]
            count = database[name].count_documents({})
            found.append({"of": name, "documents": count, "bytes_each": round(sum(sizes) / max(1, len(sizes)))})
    return found


def _uses(running: stack.Stack) -> dict[str, processes.Use]:
    return {name: processes.use_of(running.process_id(name)) for name in PROGRAMS if name in running.names}


async def _calls(running: stack.Stack) -> int:
    """Return the number of calls with the bot's or a user's token: both are charged to the global budget."""
    return int((await asyncio.to_thread(conftest.Simulator(running.simulator_url).ask, "stats"))["calls"])


if __name__ == "__main__":
    sys.exit(main())
