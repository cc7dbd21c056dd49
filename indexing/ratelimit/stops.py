"""
Stops of the whole fleet: what they are, and how an operator lifts them.

A stop ends by itself. An operator lifts one when its cause is gone, or when what Discord said is absurd. The warm-up
hold after a loss of Redis is no stop: it keeps the fleet within Discord's limits, and nothing lifts it.
"""

import dataclasses
import importlib.resources
from collections.abc import Sequence
from typing import Any

import redis.asyncio

from indexing.ratelimit import codec, limits, redis_store

MEANINGS = {
    "pause": "all calls of the bot's token: Discord answered 429 for the whole token",
    "edge": "all calls from this address: the edge in front of Discord blocks it",
    "all": "all calls from this address: too many invalid requests",
    "bulk": "background and refresh calls from this address: too many invalid requests",
}
"""What each stop stops, and why."""
MOST_INVALID = limits.INVALID_REQUEST_LIMIT.capacity // 2
"""Invalid requests in ten minutes beyond which nothing is lifted: Discord would soon ban the address."""


@dataclasses.dataclass(frozen=True, slots=True)
class Stop:
    """A stop, by its name in `MEANINGS`, and the seconds until it ends by itself."""

    name: str
    seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class Stops:
    """The stops in force, and the invalid requests of the last ten minutes, which Discord counts."""

    stops: Sequence[Stop]
    invalid: int


async def read(client: redis.asyncio.Redis, application: str, parameters: limits.LimiterParameters) -> Stops:
    """Return the stops in force. Raises errors.LimiterUnavailable."""
    return await _run(client, application, parameters, "read")


async def lift(client: redis.asyncio.Redis, application: str, parameters: limits.LimiterParameters) -> Stops:
    """
    Lift all stops and return them, unless more than `MOST_INVALID` invalid requests forbid it.

    Raises:
        errors.LimiterUnavailable: The outcome is unknown; lifting again is safe.
    """
    return await _run(client, application, parameters, "lift")


async def _run(client: redis.asyncio.Redis, application: str, parameters: limits.LimiterParameters, what: str) -> Stops:
    source = importlib.resources.files(__package__).joinpath("lua/stops.lua").read_text(encoding="utf-8")
    common = limits.Keys(application).common(parameters.egress)
    keys = [common[place] for place in (redis_store.META, redis_store.EGRESS, redis_store.REPEATS)]
    minutes = int(limits.INVALID_REQUEST_LIMIT.window // 60)
    with redis_store.translated_errors():
        reply: Any = await client.register_script(source)(
            keys, [what, minutes, MOST_INVALID, int(parameters.ramp * 1000)]
        )
    count, *found = reply
    return Stops([Stop(codec.decode_text(name), left / 1000) for name, left in found], int(count))
