"""
`make bench-watch-index`: one service process, 100 users who watch what they may see, 50 stored changes a second.

Each change renames one channel of one guild, stored as a listing is. It measures the time from the beginning of the
store's write to the arrival at each watcher, once with announcements and once without, as after a crash of the process
that stored it; and whether every watcher ends with what is stored.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import json
import pathlib
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Collection
from typing import Any

from indexing import settings
from indexing.domain import freshness, model
from indexing.messaging import changes, redis_client
from indexing.store import credentials, guilds, users
from indexing.store import database as store_database
from tests import stored, values
from tests.benchmarks import facts, product, report
from tests.benchmarks.watch_index import watchers

FIRST, FIRST_CHANNEL = 700_000_000_000_000_000, 710_000_000_000_000_000
MAX_P99_MS, MAX_LOST_MS = 1000.0, 6000.0
SIDE_BY_SIDE = 8
LEASE = 10.0


@dataclasses.dataclass(slots=True)
class World:
    """Guilds with their channels, and the users in them."""

    guilds: guilds.Guilds
    users: users.Users
    rows: dict[int, list[model.Channel]]
    members: dict[int, list[int]]
    announce: Callable[[Collection[Any]], None]
    announcing: bool = True
    changes: int = 0

    def tell(self, ids: Collection[Any]) -> None:
        """Announce, unless announcements are lost."""
        if self.announcing:
            self.announce(ids)

    async def rename(self, guild_id: int, name: str) -> None:
        """Rename the guild's next channel."""
        rows = self.rows[guild_id]
        place = self.changes % len(rows)
        self.changes += 1
        rows[place] = dataclasses.replace(rows[place], name=name)
        await self.store(guild_id)

    async def store(self, guild_id: int) -> None:
        """Store a guild's channels as a listing, in two round trips."""
        now, rows = time.time(), list(self.rows[guild_id])  # noqa: TID251 -- the service compares with its own
        known = (await self.guilds.get([guild_id]))[guild_id]
        fence = await self.guilds.acquire_lease(guild_id, now=now, until=now + LEASE, fetched_before=now)
        assert fence is not None
        schedule = model.Schedule(fingerprint=freshness.fingerprint(rows), next_at=now + 7200)
        assert await self.guilds.store_channels(guild_id, model.Listing(fence, rows, now, schedule, known))


@contextlib.asynccontextmanager
async def make_world(target: product.Product, options: argparse.Namespace) -> AsyncIterator[World]:
    """Store users and guilds."""
    running, dice = target.running, random.Random(1)
    config = settings.MongoSettings.model_validate({"url": running.mongodb_url, "database": running.database})
    bus = settings.RedisSettings.model_validate({"url": running.redis_url})
    async with redis_client.open_redis(bus) as client, store_database.open_database(config) as database:
        announcer = changes.RedisChanges(client)
        guild_ids = [FIRST + number for number in range(options.guilds)]
        rows = {
            key: [
                values.channel(FIRST_CHANNEL + (key - FIRST) * options.channels + place, key, position=place)
                for place in range(options.channels)
            ]
            for key in guild_ids
        }
        members = {
            FIRST + user: sorted(dice.sample(guild_ids, min(options.per_user, len(guild_ids))))
            for user in range(options.watchers)
        }
        world = World(None, None, rows, members, announcer.announce_guilds)  # type: ignore[arg-type]  # set below
        world.guilds = guilds.Guilds(database, announce=world.tell)
        world.users = users.Users(database, credentials.Vault((b"k" * 32,)))
        await world.guilds.upsert_guilds([values.user_guild(key) for key in guild_ids], guild_ids)
        for key in guild_ids:
            await world.store(key)
        now = time.time()  # noqa: TID251 -- as above
        for user_id, mine in members.items():
            await stored.guild_list(world.users, user_id, [values.user_guild(key) for key in mine], now)
        yield world
        await announcer.close()


async def change(world: World, rate: float, seconds: float) -> float:
    """Rename channels at a constant rate; returns the achieved changes per second."""
    dice, began, total = random.Random(2), time.monotonic(), int(rate * seconds)
    lanes, guild_locks = asyncio.Semaphore(SIDE_BY_SIDE), {key: asyncio.Lock() for key in world.rows}

    async def one(guild_id: int) -> None:
        async with lanes, guild_locks[guild_id]:
            await world.rename(guild_id, f"{watchers.MARK}{time.monotonic()}")

    async with asyncio.TaskGroup() as group:
        for number in range(total):
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            group.create_task(one(dice.choice(list(world.rows))))
    return total / (time.monotonic() - began)


def open_crowd(address: str, world: World) -> "subprocess.Popen[str]":
    """Start the watchers' process."""
    command = [sys.executable, "-m", "tests.benchmarks.watch_index.watchers", address]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    process.stdin.write(f"{' '.join(map(str, world.members))}\n")
    process.stdin.flush()
    return process


async def measure(target: product.Product, world: World, *, announcing: bool, rate: float, seconds: float) -> Any:  # noqa: ANN401 -- JSON
    """Run once; returns the figures."""
    empty = facts.resident(target.pid)
    crowd = open_crowd(target.address, world)
    assert crowd.stdin is not None
    assert crowd.stdout is not None
    try:
        await asyncio.to_thread(crowd.stdout.readline)
        await asyncio.sleep(1.0)
        full = facts.resident(target.pid)
        cpu, began = facts.cpu_seconds(target.pid), time.monotonic()
        world.announcing = announcing
        achieved = await change(world, rate, seconds)
        busy = (facts.cpu_seconds(target.pid) - cpu) / (time.monotonic() - began)
        wanted = {
            str(user_id): {str(row.channel_id): row.name for key in mine for row in world.rows[key]}
            for user_id, mine in world.members.items()
        }
        crowd.stdin.write(json.dumps(wanted) + "\n")
        crowd.stdin.flush()
        seen = json.loads(await asyncio.to_thread(crowd.stdout.readline))
    finally:
        crowd.kill()
        crowd.wait()
    late = sorted(seen["late"])
    return {
        "announced": announcing,
        "changes_per_s": achieved,
        "kb_per_watcher": (full - empty) / len(world.members) / 1024,
        "rows": len(late),
        "messages": seen["messages"],
        "kb_per_message": seen["bytes"] / max(1, seen["messages"]) / 1024,
        "p50_ms": late[len(late) // 2],
        "p99_ms": late[int(len(late) * 0.99)],
        "most_ms": late[-1],
        "service_cpu": busy,
        "not_as_stored": len(seen["differing"]),
        "broken": seen["broken"],
    }


async def measure_all(target: product.Product, options: argparse.Namespace) -> list[Any]:
    """Run with announcements, then without."""
    async with make_world(target, options) as world:
        with_them = await measure(target, world, announcing=True, rate=options.changes, seconds=options.seconds)
        without = await measure(target, world, announcing=False, rate=options.changes / 10, seconds=options.seconds)
        return [with_them, without]


def main() -> int:
    """Measure, print a table and JSON; returns 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--watchers", type=int, default=100)
    parser.add_argument("--guilds", type=int, default=400)
    parser.add_argument("--per-user", type=int, default=40)
    parser.add_argument("--channels", type=int, default=28)
    parser.add_argument("--changes", type=float, default=50.0, help="a second, over all guilds")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--out", type=pathlib.Path, help="file for the JSON")
    options = parser.parse_args()
    before = facts.machine()
    with product.serving() as target:
        found = asyncio.run(measure_all(target, options))
    announced, lost = found
    good = (
        announced["p99_ms"] <= MAX_P99_MS
        and lost["most_ms"] <= MAX_LOST_MS
        and not any(row["not_as_stored"] or row["broken"] for row in found)
    )
    report.show(f"{options.watchers} watchers of {options.per_user} guilds each", found)
    kept = {
        "machine": before,
        "load_after": facts.machine()["load"],
        "options": {key: value for key, value in vars(options).items() if key != "out"},
        "found": found,
        "wanted": {"p99_ms": MAX_P99_MS, "most_ms_when_lost": MAX_LOST_MS},
        "good": good,
    }
    report.keep(kept, options.out)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
