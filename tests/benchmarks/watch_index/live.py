"""
`python -m tests.benchmarks.watch_index.live`: from a change at the simulated Discord to those who watch it.

One process of the feed and one service, 100 users who watch what they may see, 50 renamed channels a second. The time
begins when the simulator sends the event. The watchers end with the names that the simulator has.
"""

import argparse
import asyncio
import json
import pathlib
import random
import sys
import time
from collections.abc import Iterator
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
    """Store every simulated user's guilds and role ids; returns their guilds."""
    store, now = users.Users(world.database, credentials.Vault((b"k" * 32,))), world.simulator.clock.wall()
    found: dict[int, list[int]] = {}
    for user_id in world.simulator.world.user_ids:
        guilds = [(guild_id, world.simulator.world.guild(guild_id)) for guild_id in world.guild_ids]
        members = {
            guild_id: member
            for guild_id, guild in guilds
            if guild is not None and (member := world.simulator.world.member(user_id, guild)) is not None
        }
        found[user_id] = list(members)
        await stored.guild_list(store, user_id, [values.user_guild(guild_id) for guild_id in members], now)
        for guild_id, member in members.items():
            await stored.roles(store, user_id, guild_id, sorted(member.roles), now)
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


def _ends(world: gateway_world.World, lists: dict[int, list[int]]) -> Iterator[tuple[int, int]]:
    """Yield a channel of a guild of each user."""
    for mine in lists.values():
        yield next((guild_id, plain[0]) for guild_id in mine if (plain := plain_channels(world, guild_id)))


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
            command = [sys.executable, "-m", "tests.benchmarks.watch_index.watchers", address]
            pipe = asyncio.subprocess.PIPE
            # The last line has all names of all watchers.
            crowd = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, limit=1 << 28)
            started.append(crowd)
            assert crowd.stdin is not None
            assert crowd.stdout is not None
            crowd.stdin.write("\n".join(map(str, lists)).encode())
            crowd.stdin.close()
            async with asyncio.timeout(BOOT):
                await crowd.stdout.readline()
            achieved = await change(feed.world, feed.world.guild_ids, chosen.changes, chosen.seconds)
            await feed.world.settled(BOOT)
            await asyncio.sleep(2.0)
            truth = {key: feed.world.truth(key) for key in feed.world.guild_ids}
            for guild_id, channel_id in set(_ends(feed.world, lists)):
                rename(feed.world, guild_id, channel_id, watchers.END)
            async with asyncio.timeout(BOOT):
                seen = json.loads(await crowd.stdout.readline())
            return _figures(seen, lists, truth, achieved)
        finally:
            for process in started:
                await processes.stop(process)


def _figures(
    seen: dict[str, Any], lists: dict[int, list[int]], truth: dict[int, dict[int, str]], achieved: float
) -> dict[str, Any]:
    late = sorted(seen["late"])
    wrong = 0
    for user_id, mine in lists.items():
        names = {f"{key}": name for guild_id in mine for key, name in truth[guild_id].items()}
        shown = seen["names"][f"{user_id}"]
        wrong += any(name != watchers.END and names.get(key) != name for key, name in shown.items())
    return {
        "watchers": len(lists),
        "changes_per_s": achieved,
        "rows": len(late),
        "p50_ms": late[len(late) // 2],
        "p99_ms": late[int(len(late) * 0.99)],
        "most_ms": late[-1],
        "not_as_at_discord": wrong,
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
