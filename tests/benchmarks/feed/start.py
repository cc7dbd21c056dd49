"""How long a shard takes until all of its guilds are fed, and how many events a second one process stores."""

import asyncio
import random
import time
from typing import Any

from devstack.simulator import gateway_sessions
from tests import gateway_world, servers
from tests.benchmarks.feed import processes

GUILDS, CHANNELS = 2_500, 50
EVENTS = 10_000
HOT = 20
"""Guilds that have all events of the second phase."""
LONGEST = 100.0


async def measure(guilds: int = GUILDS, channels: int = CHANNELS, events: int = EVENTS) -> dict[str, Any]:
    """Measure with one shard; all figures are of the feed's process."""
    options = {"--guilds-per-user": f"{guilds}", "--channels-per-guild": f"{channels}", "--gateway-heartbeat": "41.25"}
    async with processes.feed(options) as feed:
        made = _prepare(feed.world.hub, feed.world)
        port = servers.free_port()
        began = time.monotonic()
        process = await feed.start(port)
        try:
            await gateway_world.until(lambda: _identified(feed.world, 1), LONGEST)
            up = time.monotonic() - began
            await gateway_world.until(lambda: _stored(feed.world, len(made) + 1), LONGEST, every=0.1)
            first = time.monotonic() - began - up
            used = processes.Usage.read(process.pid, port)
            found = {
                "guilds": len(made),
                "channels": sum(len(data["channels"]) for data in made.values()),
                "process_start_s": up,
                "first_session_s": first,
                "cpu_s": used.cpu,
                "round_trips": used.round_trips,
                "guilds_written": len(made),
            }
            feed.world.fault(kind="expire")
            again = time.monotonic()
            await gateway_world.until(lambda: _identified(feed.world, 2), LONGEST)
            waited = time.monotonic() - again
            await gateway_world.until(lambda: _stored(feed.world, len(made) + 1), LONGEST, every=0.1)
            more = processes.Usage.read(process.pid, port).since(used)
            found |= {
                "unchanged_session_s": time.monotonic() - again - waited,
                "unchanged_cpu_s": more.cpu,
                "unchanged_round_trips": more.round_trips,
            }
            for name, ids in (("all", list(made)), ("hot", list(made)[:HOT])):
                found |= await _events(feed.world, made, ids, events, name)
            found["most_resident_mib"] = processes.most_resident(process.pid) / 2**20
            return found
        finally:
            await processes.stop(process)


def _prepare(hub: gateway_sessions.Hub, world: gateway_world.World) -> dict[int, Any]:
    """Make all GUILD_CREATEs now, so that the simulator costs little while it is measured."""
    made: dict[int, Any] = {}
    for guild_id in world.guild_ids:
        guild = world.simulator.world.guild(guild_id)
        assert guild is not None
        made[guild_id] = hub.create_data(guild)
    hub.create_data = lambda guild: made[guild.id]  # type: ignore[method-assign]  # the same data
    return made


async def _identified(world: gateway_world.World, count: int) -> bool:
    return world.hub.counts["identifies"] >= count


async def _stored(world: gateway_world.World, seq: int) -> bool:
    """Return whether the events of the simulator's only session are stored up to a number."""
    (shard,) = (await world.shards()).values()
    return shard.session in world.hub.sessions and shard.seq >= seq


async def _events(
    world: gateway_world.World, made: dict[int, Any], guild_ids: list[int], count: int, name: str
) -> dict[str, Any]:
    """Send changes of channels as fast as the process takes them; returns how many a second are stored."""
    (session,) = world.hub.sessions.values()
    first = session.seq
    dice, began = random.Random(1), time.monotonic()
    for number in range(count):
        guild_id = dice.choice(guild_ids)
        row = dice.choice(made[guild_id]["channels"])
        session.dispatch("CHANNEL_UPDATE", row | {"guild_id": f"{guild_id}", "name": f"n{number}"})
        if number % 50 == 0:
            await asyncio.sleep(0)
    await gateway_world.until(lambda: _stored(world, first + count), LONGEST, every=0.05)
    return {f"events_per_s_{name}": count / (time.monotonic() - began)}
