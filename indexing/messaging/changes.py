"""
Announcements of changed guilds and users, from the processes that store them to those with streams of users' indexes.

One bounded Redis stream has the ids only; a process with streams reads it over one connection. An announcement that is
lost, with Redis or with the process that would have made it, only delays: readers also compare versions with the store.
Round trips: one for all announcements of INTERVAL.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection
from typing import Any

import redis.asyncio

from indexing import concurrency, errors
from indexing.domain import id_sets
from indexing.messaging import events, redis_client
from indexing.telemetry import logs

KEY = "indexer:{changes}"
MAX_LENGTH = 1_000
"""Announcements that the stream keeps, for readers whose connection breaks for a moment."""
TTL = 3_600
INTERVAL = 0.1
"""Seconds for which changes are collected before they are announced."""
MOST = 10_000
"""Most ids that wait to be announced while Redis does not answer; more are left to the comparison of versions."""
BLOCK_MS = 5_000
RETRY_DELAY = 1.0
FIRST = b"0-0"

Listener = Callable[[Collection[int], Collection[int], bytes], None]
"""Called with guild ids, user ids, and the announcement's position, which has its time (`events.lag`)."""


class RedisChanges:
    """Announces changes, and relays the announcements of all processes to a listener."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self._blocking_client = redis_client.make_blocking_client(client, max_block=BLOCK_MS / 1000)
        self._guild_ids: set[int] = set()
        self._user_ids: set[int] = set()
        self._task: asyncio.Task[None] | None = None
        self._log = logs.get(__name__)

    def announce_guilds(self, guild_ids: Collection[int]) -> None:
        """Announce that guilds have changed. It happens soon, and never raises."""
        self._add(self._guild_ids, guild_ids)

    def announce_users(self, user_ids: Collection[int]) -> None:
        """Announce that users have changed."""
        self._add(self._user_ids, user_ids)

    def _add(self, waiting: set[int], ids: Collection[int]) -> None:
        if len(waiting) < MOST:
            waiting.update(ids)
        if waiting and self._task is None:
            self._task = concurrency.spawn_shared(self._send())

    async def _send(self) -> None:
        try:
            while self._guild_ids or self._user_ids:
                await asyncio.sleep(INTERVAL)
                await self._send_once()
        finally:
            self._task = None

    async def _send_once(self) -> None:
        fields: Any = {"g": id_sets.pack_ids(self._guild_ids), "u": id_sets.pack_ids(self._user_ids)}
        self._guild_ids.clear()
        self._user_ids.clear()
        try:
            with redis_client.translated():
                async with self._client.pipeline(transaction=False) as pipe:
                    pipe.xadd(KEY, fields, maxlen=MAX_LENGTH, approximate=True)
                    pipe.expire(KEY, TTL)
                    await pipe.execute()
        except errors.QueueUnavailable as error:
            self._log.warning("changes_not_announced", error=str(error))

    async def relay(self, listener: Listener) -> None:
        """Call *listener* with what any process announces from now on, until cancelled. Survives outages of Redis."""
        position: bytes | None = None
        while True:
            try:
                with redis_client.translated():
                    if position is None:
                        position = await self._last_position()
                    reply = await self._blocking_client.xread({KEY: position}, block=BLOCK_MS, count=100)
            except errors.QueueUnavailable as error:
                self._log.warning("changes_unreadable", error=str(error))
                await asyncio.sleep(RETRY_DELAY)
                continue
            for _, entries in events.read_entries(reply):
                for position, fields in entries:
                    listener(_ids(fields.get(b"g", b"")), _ids(fields.get(b"u", b"")), position)

    async def _last_position(self) -> bytes:
        last: Any = await self._blocking_client.xrevrange(KEY, count=1)
        return bytes(last[0][0]) if last else FIRST

    async def close(self) -> None:
        """Announce what waits, and close the blocking connection."""
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=1.0)
        with contextlib.suppress(errors.QueueUnavailable), redis_client.translated():
            await self._blocking_client.aclose()


def _ids(packed: bytes) -> Collection[int]:
    return list(id_sets.unpack_ids(packed)) if len(packed) % 8 == 0 else ()
