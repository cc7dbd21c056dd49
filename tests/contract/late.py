"""A database whose writes of one collection are delivered late, as TCP does after a partition."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import pymongo.errors

from indexing.store import database

WRITES = {
    "insert_one",
    "insert_many",
    "update_one",
    "update_many",
    "replace_one",
    "bulk_write",
    "find_one_and_update",
    "delete_one",
    "delete_many",
}


class LateDatabase:
    """
    Passes everything on but the writes of one collection, which `deliver` sends when nobody waits for them any more.

    Attributes:
        held: Set when a write is kept.
    """

    def __init__(self, db: database.Database, collection: str) -> None:
        self._db = db
        self._collection = collection
        self._given_up = asyncio.Event()
        self._kept: list[Callable[[], Awaitable[Any]]] = []
        self.held = asyncio.Event()

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 -- motor's
        """Return a collection."""
        return _LateCollection(self._db[name], self) if name == self._collection else self._db[name]

    async def deliver(self) -> None:
        """Let the kept writes reach the server; their callers are cancelled, as those of a process that has ended."""
        self._given_up.set()
        for write in self._kept:
            with contextlib.suppress(pymongo.errors.PyMongoError):
                await write()

    async def keep(self, write: Callable[[], Awaitable[Any]]) -> NoReturn:
        """Keep a write."""
        self._kept.append(write)
        self.held.set()
        await self._given_up.wait()
        raise asyncio.CancelledError


class _LateCollection:
    def __init__(self, collection: database.Collection, late: LateDatabase) -> None:
        self._found = collection
        self._late = late

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 -- any method
        method: Callable[..., Awaitable[Any]] = getattr(self._found, name)
        if name not in WRITES:
            return method

        async def write(*given: Any, **named: Any) -> Any:  # noqa: ANN401 -- as above
            await self._late.keep(lambda: method(*given, **named))

        return write
