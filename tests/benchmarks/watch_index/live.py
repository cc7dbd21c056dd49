"""
`python -m tests.benchmarks.watch_index.live`: from a change at the simulated Discord to those who watch it.

One process of the feed and one service, 100 users who watch what they may see, 50 renamed channels a second. The time
begins when the simulator sends the event. Every watcher has to end with the names that the simulator has.
"""

import argparse
import asyncio
import json
import pathlib
import random
import sys
import time
from collections.abc import Iterable
from typing import Any

from devstack import probes
from indexing.store import credentials, users
from tests import gateway_world, servers, stored, values
from tests.benchmarks import facts, report
from tests.benchmarks.feed import processes
from tests.benchmarks.watch_index import watchers

MAX_P99_MS = 1000.0
BOOT = 60.0
TEXT = 0


async def store_users(world: gateway_world.World) -> dict[int, list[int]]:
    """Store every simulated user's guilds and role ids, the users side by side; returns their guilds."""
    store, now = users.Users(world.database, credentials.Vault((b"k" * 32,))), world.simulator.clock.wall()
    found: dict[int, list[int]] = {}

    async def one(user_id: int) -> None:
        guilds = [(guild_id, world.simulator.world.guild(guild_id)) for guild_id in world.guild_ids]
        members = {
            guild_id: member
            for guild_id, guild in guilds
            if guild is not None and (member := world.simulator.world.member(user_id, guild)) is not None
        }
        found[user_id] = list(members)
        await stored.guild_list(store, user_id, [values.user_guild(guild_id) for guild_id in members], now)
        for membership in (await stored.user(store, user_id)).memberships.values():
            await store.store_roles(membership, sorted(members[membership.guild_id].roles), now)

    async with asyncio.TaskGroup() as group:
        for user_id in world.simulator.world.user_ids:
            group.create_task(one(user_id))
    return found


def plain_channels(world: gateway_world.World, guild_id: int) -> list[int]:
    """Return the text channels of a guild that every member may view."""
    guild = world.simulator.world.guild(guild_id)
    assert guild is not None
    return [row.id for row in world.simulator.world.channels_of(guild) if row.type == TEXT and not row.overwrites]


def rename(world: gateway_world.World, guild_id: int, channel_id: int, name: str) -> None:
    """Rename a channel at Discord."""
    world.change(op="change_channel", guild=f"{guild_id}", channel=f"{channel_id}", name=name)


async def change(world: gateway_world.World, guild_ids: list[int], rate: float, seconds: float) -> float:
    """Rename channels at a constant rate; returns the achieved changes per second."""
    dice, began, total = random.Random(2), time.monotonic(), int(rate * seconds)
    channels = {guild_id: found for guild_id in guild_ids if (found := plain_channels(world, guild_id))}
    for number in range(total):
        await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
        guild_id = dice.choice(list(channels))
        rename(world, guild_id, dice.choice(channels[guild_id]), f"{watchers.MARK}{time.monotonic()}")
    return total / (time.monotonic() - began)


def expected(world: gateway_world.World, lists: dict[int, list[int]]) -> dict[str, dict[str, str]]:
    """Return the names at Discord of the channels that each user sees for certain."""
    plain = {guild_id: set(plain_channels(world, guild_id)) for guild_id in world.guild_ids}
    names = {
        guild_id: {f"{key}": name for key, name in world.truth(guild_id).items() if key in plain[guild_id]}
        for guild_id in world.guild_ids
    }
    return {f"{user}": {key: name for one in mine for key, name in names[one].items()} for user, mine in lists.items()}


async def start_service(feed: processes.Feed) -> tuple[asyncio.subprocess.Process, str]:
    """Start a service; returns it with its address."""
    address = f"127.0.0.1:{servers.free_port()}"
    environment = {**feed.environment, "INDEXER_LISTEN": address, "INDEXER_METRICS_PORT": "0"}
    with feed.log.open("ab") as log:
        command = servers.with_parent(sys.executable, "-m", "indexer_service")
        process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=log, stderr=log)

    async def serves() -> bool:
        return await asyncio.to_thread(probes.service_is_serving, address)

    await gateway_world.until(serves, BOOT, every=0.2)
    return process, address


async def measure(chosen: argparse.Namespace) -> dict[str, Any]:
    """Run once; returns the figures."""
    options = {
        "--users": f"{chosen.watchers}",
        "--guilds-per-user": f"{chosen.per_user}",
        "--guilds": f"{chosen.guilds}",
        "--channels-per-guild": f"{chosen.channels}",
        "--gateway-heartbeat": "41.25",
    }
    async with processes.feed(options, LOG_LEVEL="warning") as feed:
        started = [await feed.start()]
        try:
            await feed.world.all_live(BOOT)
            lists = await store_users(feed.world)
            service, address = await start_service(feed)
            started.append(service)
            crowd = await start_crowd(address, lists)
            started.append(crowd)
            before = [facts.cpu_seconds(process.pid) for process in started]
            achieved = await change(feed.world, feed.world.guild_ids, chosen.changes, chosen.seconds)
            seen = await ask(crowd, expected(feed.world, lists))
            used = [facts.cpu_seconds(process.pid) - cpu for process, cpu in zip(started[:2], before, strict=False)]
            return _figures(seen, len(lists), achieved) | {
                "feed_ms_a_change": 1000 * used[0] / (chosen.changes * chosen.seconds),
                "service_ms_a_change": 1000 * used[1] / (chosen.changes * chosen.seconds),
            }
        finally:
            for process in started:
                await processes.stop(process)


async def start_crowd(address: str, user_ids: Iterable[int]) -> asyncio.subprocess.Process:
    """Start the watchers; returns when all have their snapshot."""
    command = [sys.executable, "-m", "tests.benchmarks.watch_index.watchers", address]
    pipe = asyncio.subprocess.PIPE
    crowd = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, limit=1 << 28)
    assert crowd.stdin is not None
    assert crowd.stdout is not None
    crowd.stdin.write(f"{' '.join(map(str, user_ids))}\n".encode())
    async with asyncio.timeout(BOOT):
        await crowd.stdout.readline()
    return crowd


async def ask(crowd: asyncio.subprocess.Process, names: dict[str, dict[str, str]]) -> dict[str, Any]:
    """Tell the watchers the last names; returns what they have seen."""
    assert crowd.stdin is not None
    assert crowd.stdout is not None
    crowd.stdin.write(json.dumps(names).encode() + b"\n")
    await crowd.stdin.drain()
    async with asyncio.timeout(watchers.CONVERGE + BOOT):
        return dict(json.loads(await crowd.stdout.readline()))


def _figures(seen: dict[str, Any], count: int, achieved: float) -> dict[str, Any]:
    late = sorted(seen["late"])
    return {
        "watchers": count,
        "changes_per_s": achieved,
        "rows": len(late),
        "p50_ms": late[len(late) // 2],
        "p99_ms": late[int(len(late) * 0.99)],
        "most_ms": late[-1],
        "equal_after_s": seen["equal_after_s"],
        "not_as_at_discord": len(seen["differing"]),
        "broken": seen["broken"],
    }


def main() -> int:
    """Measure, print a table and JSON; returns 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("watchers", 100), ("guilds", 400), ("per-user", 40), ("channels", 28)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--changes", type=float, default=50.0, help="a second, over all guilds")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--out", type=pathlib.Path, help="file for the JSON, of which it replaces its own part")
    chosen = parser.parse_args()
    machine = facts.machine()
    found = asyncio.run(measure(chosen))
    report.show("watchers of a fed index", [found])
    good = found["p99_ms"] <= MAX_P99_MS and not found["not_as_at_discord"] and not found["broken"]
    kept = {"machine": machine, "load_after": facts.machine()["load"], "found": found, "good": good}
    report.keep(kept, None)
    if chosen.out is not None:
        report.merge("live", kept, chosen.out)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
