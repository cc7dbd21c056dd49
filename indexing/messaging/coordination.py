"""State that processes share through Redis: the bot guilds cache and the election locks of periodic tasks."""

import dataclasses
from collections.abc import Mapping

import msgspec
import redis.asyncio

from indexing.messaging import redis_client

KEY = "indexer:{installs}"
TTL = 7 * 86_400


ACQUIRE = """
-- Take a lock for a period, unless it is held. It is not held when more time is left than the period of its holder:
-- then Redis' clock was set back since.
-- KEYS 1 string: the period in ms of its holder   ARGV 1 period in ms
-- Reply: 1 if the lock was taken, else 0. Atomic.
local left = redis.call('PTTL', KEYS[1])
-- Release 0.1 stores 1.
local period = tonumber(redis.call('GET', KEYS[1]) or 1)
if left > 0 and (period == 1 or left <= period) then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[1])
return 1
"""

COUNT = """
-- Count within a window that the first count begins.
-- KEYS 1 hash: field n, the count   ARGV 1 window in ms
-- Reply: the count. Atomic: a key that expires between two commands would count for ever.
local count = redis.call('HINCRBY', KEYS[1], 'n', 1)
if count == 1 then
  redis.call('PEXPIRE', KEYS[1], ARGV[1])
end
return count
"""

GET_CHANGED = """
-- Get a value, unless it is the one that the caller has.
-- KEYS 1 string   ARGV 1 the beginning of the caller's value   2 its length in bytes
-- Reply: the value, nil when there is none, 1 when its beginning and length are those of the caller's.
local value = redis.call('GET', KEYS[1])
if value and #value == tonumber(ARGV[2]) and string.sub(value, 1, #ARGV[1]) == ARGV[1] then
  return 1
end
return value
"""
BEGINNING = 32
"""Bytes by which values are told apart, besides their length: they begin with the time of the set."""


@dataclasses.dataclass(frozen=True, slots=True)
class _BotGuilds:
    """A decoded set, its time, and what tells its value from others."""

    guild_ids: frozenset[int] = frozenset()
    fetched_at: float = 0.0
    beginning: bytes = b""
    length: int = 0


class LeaderLock:
    """Elects one process for each period of a task. No process keeps the lock: every period elects again."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self._acquire = client.register_script(ACQUIRE)

    async def try_acquire(self, task: str, seconds: float) -> bool:
        """Return whether no process acquired *task* in the last *seconds*. One round trip; errors.QueueUnavailable."""
        with redis_client.translated():
            return bool(await self._acquire(keys=[_lock_key(task)], args=[max(1, int(seconds * 1000))]))

    async def release(self, task: str) -> None:
        """End the period of *task* early."""
        with redis_client.translated():
            await self._client.delete(_lock_key(task))


def _lock_key(task: str) -> str:
    return f"indexer:{{duty}}:{task}"


class RedisBotGuilds:
    """
    Port `ports.BotGuildsCache`: one key with a JSON value. A lost value is fetched again from Discord.

    The decoded set is kept, so that all who use it share one: that of a bot in 36,000 guilds takes 3 MB, and its value
    0.7 MB.
    """

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self._lock = LeaderLock(client)
        self._count = client.register_script(COUNT)
        self._get_changed = client.register_script(GET_CHANGED)
        self._known = _BotGuilds()

    async def load(self) -> tuple[frozenset[int], float] | None:
        """
        Return the guild ids and the time at which they were fetched; None when the value is lost.

        A value is transferred and decoded only if it differs from the last one.
        """
        known = self._known
        with redis_client.translated():
            text = await self._get_changed(keys=[KEY], args=[known.beginning, known.length])
        if text is None:
            self._known = _BotGuilds()
            return None
        if not isinstance(text, int):
            fetched_at, guild_ids = msgspec.json.decode(text, type=tuple[float, list[int]])
            self._known = known = _BotGuilds(frozenset(guild_ids), fetched_at, text[:BEGINNING], len(text))
        return known.guild_ids, known.fetched_at

    async def store(self, guild_ids: frozenset[int], now: float) -> None:
        """Replace the guild ids, fetched at *now*: a time that no other set has, or readers may miss the change."""
        with redis_client.translated():
            await self._client.set(KEY, msgspec.json.encode([now, sorted(guild_ids)]), ex=TTL)

    async def load_suspects(self) -> dict[int, float]:
        """Return the guilds that the latest listings lacked, with the time since when."""
        with redis_client.translated():
            text = await self._client.get(f"{KEY}:suspects")
        return dict(msgspec.json.decode(text, type=list[tuple[int, float]])) if text else {}

    async def store_suspects(self, suspects: Mapping[int, float]) -> None:
        """Replace the suspects."""
        with redis_client.translated():
            await self._client.set(f"{KEY}:suspects", msgspec.json.encode(sorted(suspects.items())), ex=TTL)

    async def claim(self, what: str, seconds: float) -> bool:
        """Return whether no process claimed *what* in the last *seconds*."""
        return await self._lock.try_acquire(f"bot_guilds:{what}", seconds)

    async def release(self, what: str) -> None:
        """End a claim early."""
        await self._lock.release(f"bot_guilds:{what}")

    async def count_question(self, window: float) -> int:
        """Count a question about a single guild; returns how many there were in this *window*."""
        with redis_client.translated():
            return int(await self._count(keys=[f"{KEY}:asked"], args=[int(window * 1000)]))
