"""
The set of guilds that have our bot, cached for all processes; it can be lost and is read again.

Who of all processes does a periodic duty this time.
"""

import msgspec
import redis.asyncio

from indexing.messaging import redis_client

KEY = "indexer:{installs}"
TTL = 7 * 86_400


class RedisBotGuilds:
    """Port `ports.Installs`: one value, one round trip; 8 bytes a guild would do, JSON is easier to look at."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client

    async def load(self) -> tuple[frozenset[int], float] | None:
        """Return the set and when it was read; None when it is lost."""
        with redis_client.translated():
            text = await self._client.get(KEY)
        if text is None:
            return None
        read_at, guild_ids = msgspec.json.decode(text, type=tuple[float, list[int]])
        return frozenset(guild_ids), read_at

    async def store(self, guild_ids: frozenset[int], now: float) -> None:
        """Replace the set."""
        with redis_client.translated():
            await self._client.set(KEY, msgspec.json.encode([now, sorted(guild_ids)]), ex=TTL)


class LeaderLock:
    """The first who asks in a period is the one; when it dies, another is first in the next."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client

    async def try_acquire(self, duty: str, seconds: float) -> bool:
        """Return whether nobody else was first in the last *seconds*. One round trip; errors.QueueUnavailable."""
        with redis_client.translated():
            done = await self._client.set(f"indexer:{{duty}}:{duty}", "1", nx=True, px=int(seconds * 1000))
        return bool(done)
