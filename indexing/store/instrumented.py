"""
Collections whose commands are measured, as whoever waits for them sees it: with the wait for a connection.

Here and not by pymongo's listeners, which cost four times as much as the measuring itself (`make bench-overhead`).
"""

import time
from collections.abc import Awaitable, Callable
from typing import Any

import pymongo.errors

from indexing.telemetry import metrics, tracing

COMMANDS = {
    "find_one": "find",
    "find_one_and_update": "findAndModify",
    "insert_one": "insert",
    "insert_many": "insert",
    "update_one": "update",
    "update_many": "update",
    "bulk_write": "update",
    "delete_one": "delete",
    "delete_many": "delete",
    "count_documents": "aggregate",
    "estimated_document_count": "count",
    "distinct": "distinct",
    "create_index": "createIndexes",
}
"""Methods that send a command, and its name in MongoDB."""
REFUSED = (pymongo.errors.DuplicateKeyError, pymongo.errors.BulkWriteError)
"""An answer like any other: somebody else was first."""

Call = Callable[..., Awaitable[Any]]


class Database:
    """A database of measured collections."""

    def __init__(self, database: Any, seen: metrics.ServerMetrics) -> None:  # noqa: ANN401 -- motor's
        self._database = database
        self._seen = seen

    def __getitem__(self, name: str) -> "Collection":
        """Return a collection."""
        return Collection(self._database[name], self._seen)


class Collection:
    """Has those of motor's methods that are used here."""

    def __init__(self, collection: Any, seen: metrics.ServerMetrics) -> None:  # noqa: ANN401 -- motor's
        self.name: str = collection.name
        self._find = collection.find
        self._seen = seen
        for method, command in COMMANDS.items():
            setattr(self, method, Timed(getattr(collection, method), command, seen))

    def find(self, *wanted: Any) -> "Found":  # noqa: ANN401 -- motor's
        """Return what is asked for by `to_list`."""
        return Found(self._find(*wanted), self._seen)


class Found:
    """A cursor."""

    def __init__(self, cursor: Any, seen: metrics.ServerMetrics) -> None:  # noqa: ANN401 -- motor's
        self._cursor = cursor
        self._seen = seen

    def sort(self, *order: Any) -> "Found":  # noqa: ANN401 -- motor's
        """Order what is found."""
        self._cursor.sort(*order)
        return self

    def limit(self, most: int) -> "Found":
        """Ask for so many at most."""
        self._cursor.limit(most)
        return self

    async def to_list(self, length: int | None) -> list[dict[str, Any]]:
        """Ask; a long answer comes in parts, which are measured as one."""
        found: list[dict[str, Any]] = await Timed(self._cursor.to_list, "find", self._seen)(length)
        return found


class Timed:
    """A call that is measured under the name of its command."""

    def __init__(self, call: Call, command: str, seen: metrics.ServerMetrics) -> None:
        self.call = call
        self._command = command
        self._took = seen.mongodb.labels(command)
        self._failed = seen.mongodb_errors.labels(command)

    async def __call__(self, *given: Any, **options: Any) -> Any:  # noqa: ANN401 -- motor's
        """Ask, and note how long it took and whether it failed."""
        begun = time.perf_counter()
        try:
            return await self.call(*given, **options)
        except REFUSED:
            raise
        except pymongo.errors.PyMongoError:
            self._failed.inc()
            raise
        finally:
            seconds = time.perf_counter() - begun
            self._took.observe(seconds)
            tracing.record("mongodb", seconds, self._command)
