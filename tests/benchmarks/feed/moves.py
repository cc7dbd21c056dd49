"""
Deploys and crashes of the feed's processes, in a changing world: seconds until every shard is connected again.

A deploy starts the new process before the old one is told to end. A crash kills one of two processes; its shards are
served again by the other one, after the lease.
"""

import asyncio
import contextlib
import random
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

from tests import gateway_world
from tests.benchmarks.feed import processes

SHARDS, GUILDS = 4, 100
CHANGE_EVERY = 0.05
LONGEST = 60.0
OPTIONS = {
    "--guilds-per-user": f"{GUILDS}",
    "--gateway-shards": f"{SHARDS}",
    "--gateway-concurrency": f"{SHARDS}",
    "--gateway-heartbeat": "41.25",
    "--gateway-session-life": "90",
}


async def measure(rounds: int) -> list[dict[str, Any]]:
    """Deploy and crash so many times each, with the product's defaults."""
    async with processes.feed(OPTIONS) as feed, _changing(feed.world):
        old = await feed.start()
        await feed.world.all_live(LONGEST)
        running = [old]
        try:
            deploys = [await _deploy(feed, running) for _ in range(rounds)]
            deployed = dict(feed.world.hub.counts)
            running.append(await feed.start())
            await gateway_world.until(lambda: _shared(feed.world), LONGEST, every=0.2)
            crashes = [await _crash(feed, running) for _ in range(rounds)]
            return [
                _figures("deploy", deploys, deployed, {"identifies": SHARDS}),
                _figures("crash of one of two", crashes, dict(feed.world.hub.counts), deployed),
            ]
        finally:
            for process in running:
                await processes.stop(process)


def _figures(what: str, seconds: list[float], after: dict[str, int], before: dict[str, int]) -> dict[str, Any]:
    return {
        "what": what,
        "rounds": len(seconds),
        "median_s": sorted(seconds)[len(seconds) // 2],
        "most_s": max(seconds),
        "identifies": after["identifies"] - before["identifies"],
        "resumes": after.get("resumes", 0) - before.get("resumes", 0),
        "events_replayed": after.get("replayed", 0) - before.get("replayed", 0),
    }


async def _deploy(feed: processes.Feed, running: list[asyncio.subprocess.Process]) -> float:
    """Replace the running process; returns the seconds from its end to the last shard's connection and storage."""
    old = running[0]
    running.append(await feed.start())
    await gateway_world.until(lambda: _processes(feed.world, 2), LONGEST, every=0.2)
    began = time.monotonic()
    old.send_signal(signal.SIGTERM)
    await old.wait()
    del running[0]
    await _served(feed.world)
    return time.monotonic() - began


async def _crash(feed: processes.Feed, running: list[asyncio.subprocess.Process]) -> float:
    """Kill one of two processes; returns the seconds until its shards are served, then starts another one."""
    killed = running.pop(0)
    began = time.monotonic()
    killed.kill()
    await killed.wait()
    await asyncio.sleep(0.5)
    await _served(feed.world)
    seconds = time.monotonic() - began
    running.append(await feed.start())
    await gateway_world.until(lambda: _shared(feed.world), LONGEST, every=0.2)
    return seconds


async def _served(world: gateway_world.World) -> None:
    """Wait until every shard has a connection, and everything that was missed is stored."""
    await gateway_world.until(world.connected, LONGEST)
    wanted = {session.shard[0]: session.seq for session in world.hub.sessions.values()}

    async def stored() -> bool:
        return all(shard.seq >= wanted[shard.number[0]] for shard in (await world.shards()).values())

    await gateway_world.until(stored, LONGEST)


async def _processes(world: gateway_world.World, count: int) -> bool:
    return bool(await world.database["feeders"].count_documents({}) == count)


async def _shared(world: gateway_world.World) -> bool:
    """Return whether two processes have half of the shards each, all of them connected."""
    now = world.simulator.clock.wall()
    owners = [shard.owner for shard in (await world.shards()).values() if shard.lease_until > now]
    halves = len(owners) == SHARDS and all(owners.count(owner) == SHARDS // 2 for owner in owners)
    return halves and await world.connected()


@contextlib.asynccontextmanager
async def _changing(world: gateway_world.World) -> AsyncIterator[None]:
    """Rename channels all the time."""
    dice = random.Random(1)

    async def change() -> None:
        for number in range(10**9):
            guild_id = dice.choice(world.guild_ids)
            channel = dice.choice(list(world.truth(guild_id)))
            world.change(op="change_channel", guild=f"{guild_id}", channel=f"{channel}", name=f"n{number}")
            await asyncio.sleep(CHANGE_EVERY)

    changing = asyncio.create_task(change())
    try:
        yield
    finally:
        changing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await changing
