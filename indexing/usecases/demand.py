"""
Counts how many users wait for a guild that is not fetched yet: a signal of the ranking.

An increment of each guild of each list costs the store more than the rest of the list, so that a process adds up what
users' lists need and stores the sums together. Round trips: 1 to MongoDB in `EVERY` seconds.
"""

import asyncio
import contextlib
from collections.abc import Collection

from indexing import concurrency, errors
from indexing.domain import ports

EVERY = 5.0
"""Seconds for which requests are added up. A process that is killed loses what it has not stored."""
CLOSE_TIMEOUT = 1.0
"""Seconds for the last write of a process that ends; a store that is slower or away loses it."""
MOST = 100_000
"""Most requests that wait to be stored; more are not counted."""


class DemandCounter:
    """Adds up requests for guilds, and stores them."""

    def __init__(self, deps: ports.Dependencies) -> None:
        self._deps = deps
        self._waiting: list[int] = []
        self._task: asyncio.Task[None] | None = None

    def count(self, guild_ids: Collection[int]) -> None:
        """Count one user who waits for each of the guilds."""
        self._waiting += list(guild_ids)[: MOST - len(self._waiting)]
        if self._waiting and self._task is None:
            self._task = concurrency.spawn_shared(self._store_later())

    async def close(self) -> None:
        """Store what is still waiting; never raises."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._store()

    async def _store_later(self) -> None:
        try:
            await asyncio.sleep(EVERY)
        finally:
            self._task = None
        await self._store()

    async def _store(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting:
            with contextlib.suppress(errors.StoreUnavailable):
                await self._deps.guilds.mark_viewed((), self._deps.clock(), waiting=waiting)
