"""
The limits of identifying at Discord's Gateway, for the whole fleet.

Discord allows 1,000 identifies a day over all shards, and one in 5 s for each key `shard_id % max_concurrency`
(developers/events/gateway.mdx, read 2026-08-06). Resumes count for neither. An identify that may have been sent is held
until it can no longer count, and one that was not sent is given back; without Redis none is permitted, and sessions are
resumed without it.
"""

import dataclasses
import importlib.resources
import time
import uuid

import redis.asyncio

from indexing.ratelimit import limits, redis_store

WINDOW = 5.0
MARGIN = 0.5
"""Seconds added to the window: Discord's clock begins when the identify arrives."""
CONNECT_TIME = 5.0
"""Longest time, in seconds, from the permit to the sending of the identify; after that it must not be sent."""


@dataclasses.dataclass(frozen=True, slots=True)
class Identify:
    """The right to identify one session; `asked_at` is when it was asked for, in monotonic seconds."""

    id: str
    key: str
    asked_at: float

    @property
    def is_valid(self) -> bool:
        """Return whether the identify may still be sent."""
        return time.monotonic() - self.asked_at < CONNECT_TIME


class Identifies:
    """Grants identifies."""

    def __init__(self, client: redis.asyncio.Redis, application: str, *, hold: float | None, window: float) -> None:
        """*hold*: seconds without an identify after Redis lost its state; None for the longest that one can take."""
        self._client = client
        self._tag = limits.Keys(application).tag
        self._window = window
        self._hold = CONNECT_TIME + window if hold is None else hold
        source = importlib.resources.files(__package__).joinpath("lua/identify.lua").read_text(encoding="utf-8")
        self._take = client.register_script(source)

    async def take(self, shard_id: int, *, concurrency: int, per_day: int) -> Identify | float:
        """
        Return the right to identify a shard, or the seconds to wait.

        Raises:
            errors.LimiterUnavailable: Redis cannot be reached; nothing may be identified.
        """
        taken = Identify(uuid.uuid4().hex, f"{self._tag}identify:{shard_id % max(1, concurrency)}", time.monotonic())
        keys = [limits.identifies_key(self._tag), taken.key, f"{self._tag}identify:hold"]
        held = CONNECT_TIME + self._window + MARGIN
        numbers = (per_day, limits.IDENTIFY_DAY * 1000, held * 1000, self._hold * 1000)
        with redis_store.translated_errors():
            await self._client.set(f"{limits.identifies_key(self._tag)}:most", per_day)
            wait = await self._take(keys=keys, args=[taken.id, *map(int, numbers)])
        return taken if int(wait) == 0 else int(wait) / 1000

    async def sent(self, taken: Identify) -> None:
        """Shorten the hold of the concurrency key to the window from now: the identify has been sent."""
        milliseconds = int((self._window + MARGIN) * 1000)
        with redis_store.translated_errors():
            seconds, microseconds = await self._client.time()
            until = seconds * 1000 + microseconds // 1000 + milliseconds
            await self._client.zadd(taken.key, {taken.id: until}, xx=True)

    async def give_back(self, taken: Identify) -> None:
        """Free an identify that was not sent and never will be."""
        with redis_store.translated_errors():
            async with self._client.pipeline(transaction=False) as pipe:
                pipe.zrem(taken.key, taken.id)
                pipe.zrem(limits.identifies_key(self._tag), taken.id)
                await pipe.execute()


async def read_left(client: redis.asyncio.Redis, application: str) -> tuple[int, int] | None:
    """Return how many identifies are left today, and of how many; None when none was ever taken."""
    key = limits.identifies_key(limits.Keys(application).tag)
    with redis_store.translated_errors():
        async with client.pipeline(transaction=False) as pipe:
            pipe.get(f"{key}:most")
            pipe.time()
            most, (seconds, _) = await pipe.execute()
        if most is None:
            return None
        used = await client.zcount(key, seconds * 1000, "+inf")
    return max(0, int(most) - int(used)), int(most)
