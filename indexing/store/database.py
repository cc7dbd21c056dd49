"""
The connection to MongoDB: one client per event loop, the translation of its errors, all indexes.

motor is what the product is asked to use; it is past its end of life (critical fixes until 2027-05-14,
mongodb.com/docs/drivers/motor, read 2026-11), so only this module names it.

Collections whose commands are measured as callers see them: with the wait for a connection.

Measured here, because pymongo's listeners cost four times as much as the measurement (`make bench-overhead`).
"""

import asyncio
import contextlib
import datetime
import functools
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from collections.abc import Collection as AnyCollection
from typing import Any, NamedTuple

import pymongo
import pymongo.errors

from indexing import errors, settings
from indexing.store import joint_finds, mongodb_errors, operation_limit
from indexing.telemetry import logs, metrics, tracing

# Read when motor is imported. Its default is five for each core, fewer than may be under way at a far server; threads
# are started as they are needed.
os.environ.setdefault("MOTOR_MAX_WORKERS", "110")  # noqa: TID251 -- a setting of motor

from motor import motor_asyncio

Document = dict[str, Any]
Database = Any
Collection = Any
"""motor's, the measured ones, or the mock's, which have no type in common."""
MOST_TEXT = 200
"""Characters of a driver's message that are passed on; it names hosts and times, never documents."""
IDS_IN_STATEMENT = 100
"""Ids in one `$in`: the embedded server's cost grows with their square. 200 took 29 ms to find and 59 ms to update, two
times 100 took 15 and 30 ms (FerretDB 1.24 with SQLite, measured 2026-11-29)."""
IDS_IN_SMALL_FIND = 25
"""The same for finds that travel together: 25 took 2.4 ms, 50 5.3, 100 17 and 200 44."""
DUPLICATE_KEY = 11000
NOT_PRIMARY = 10107
CONNECTING = 8
"""Connections that are made at a time; the driver's default, 2, takes seconds to make those to a far server."""
RETRY_INTERVAL = 0.5
"""Seconds between two attempts to reach MongoDB at the start of a process."""
FIRST_LOOK = 2.0
"""Seconds of the first attempt, so that the log soon says what is waited for; each further one may take twice that."""
TOO_LARGE = frozenset({10334, 17419, 17420})
"""Codes BSONObjectTooLarge, and of an update whose result would exceed 16 MiB (src/mongo/base/error_codes.yml and
db/update, MongoDB 8.0, read 2026-11-29). The driver refuses most such documents itself, before it sends them."""


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """
    Translate the driver's errors; a duplicate key error is left to the caller.

    What cannot be encoded is an error of the package bson, which has no parent in common with the driver's.
    """
    try:
        yield
    except pymongo.errors.DuplicateKeyError:
        raise
    except pymongo.errors.DocumentTooLarge as error:
        raise errors.DocumentTooLarge(str(error)[:MOST_TEXT]) from error
    except pymongo.errors.PyMongoError as error:
        if _is_too_large(error):
            raise errors.DocumentTooLarge(str(error)[:MOST_TEXT]) from error
        raise errors.StoreUnavailable(f"MongoDB {mongodb_errors.diagnose(error).text}") from error


def _is_too_large(error: pymongo.errors.PyMongoError) -> bool:
    if isinstance(error, pymongo.errors.BulkWriteError):
        return any(item.get("code") in TOO_LARGE for item in error.details.get("writeErrors", []))
    return isinstance(error, pymongo.errors.OperationFailure) and error.code in TOO_LARGE


def first_version() -> int:
    """
    Return the version, or fence, of a new document: microseconds since 1970.

    So a document that is erased and stored again begins above what it had: both grow by one with a change.
    """
    return time.time_ns() // 1_000


def in_parts(ids: AnyCollection[int]) -> list[list[int]]:
    """Return the ids in lists for one `$in` each."""
    rest = list(ids)
    return [rest[at : at + IDS_IN_STATEMENT] for at in range(0, len(rest), IDS_IN_STATEMENT)]


async def find_by_ids(
    collection: Collection, ids: AnyCollection[int], fields: Document | None = None
) -> list[Document]:
    """Return the documents with these ids; several queries at a time when they are many."""

    async def find(part: list[int]) -> list[Document]:
        with translated():
            found: list[Document] = await collection.find({"_id": {"$in": part}}, fields).to_list(None)
        return found

    parts: Sequence[list[Document]] = await asyncio.gather(*map(find, in_parts(ids)))
    return [row for part in parts for row in part]


async def find_small(collection: Collection, ids: AnyCollection[int], fields: Document) -> list[Document]:
    """Return small parts of the documents with these ids; see `joint_finds`."""

    async def find(part: list[int]) -> list[Document]:
        wanted = {"_id": {"$in": part}}
        if isinstance(collection, MeasuredCollection):
            return await collection.find_small(wanted, fields)
        found: list[Document] = await collection.find(wanted, fields).to_list(None)
        return found

    rest = list(ids)
    parts = [rest[at : at + IDS_IN_SMALL_FIND] for at in range(0, len(rest), IDS_IN_SMALL_FIND)]
    with translated():
        if len(parts) == 1:
            return await find(parts[0])
        return [row for found in await asyncio.gather(*map(find, parts)) for row in found]


async def insert_new(collection: Collection, rows: list[Document]) -> set[Any]:
    """
    Insert rows, far cheaper than upserts; one that another process has inserted meanwhile stays as it is.

    Returns:
        The ids of the inserted rows.
    """
    ids = [row["_id"] for row in rows]
    if not rows:
        return set()
    try:
        with translated():
            await collection.insert_many(rows, ordered=False)
    except errors.StoreUnavailable as error:
        cause = error.__cause__
        if not isinstance(cause, pymongo.errors.BulkWriteError) or not _only_duplicates(cause):
            raise
        refused = {item.get("index") for item in cause.details["writeErrors"]}
        return {row_id for at, row_id in enumerate(ids) if at not in refused}
    return set(ids)


async def delete_as_read(collection: Collection, rows: list[Document]) -> int:
    """
    Delete documents that are as they were read, by all given fields; returns how many.

    So a copy of the statement that is delivered late deletes nothing that was stored since.
    """
    if not rows:
        return 0
    fields = {name: None for row in rows for name in row}
    deletes = [pymongo.DeleteOne({name: row.get(name) for name in fields}) for row in rows]
    with translated():
        return int((await collection.bulk_write(deletes, ordered=False)).deleted_count)


def _only_duplicates(error: pymongo.errors.BulkWriteError) -> bool:
    failed = error.details.get("writeErrors", [])
    unconfirmed = error.details.get("writeConcernErrors")
    return bool(failed) and not unconfirmed and all(item.get("code") == DUPLICATE_KEY for item in failed)


@contextlib.asynccontextmanager
async def open_database(
    config: settings.MongoSettings, seen: metrics.ServerMetrics | None = None, *, start_timeout: float = 0.0
) -> AsyncIterator[Database]:
    """
    Connect in the running loop and close at the end.

    Args:
        config: Where MongoDB is.

        seen: Where commands are measured.

        start_timeout: Seconds to wait for a MongoDB that is away or has no primary.

    Raises:
        errors.StoreUnavailable: MongoDB cannot be used; the text begins with MONGODB_URL.
    """
    client = _make_client(config)
    try:
        hello = await _wait_until_usable(client, config, start_timeout)
        if is_standalone(hello):
            client.close()
            client = _make_client(config, retryWrites=False)
        database = client[config.database]
        if seen is None:
            yield database
            return
        limit = operation_limit.OperationLimit(config)
        seen.mongodb_limit.set_function(lambda: limit.current)
        try:
            yield MeasuredDatabase(database, seen, limit)
        finally:
            limit.close()
    finally:
        client.close()


def _make_client(config: settings.MongoSettings, **options: Any) -> Any:  # noqa: ANN401 -- motor's
    milliseconds = int(config.timeout * 1000)
    return motor_asyncio.AsyncIOMotorClient(
        config.url.get_secret_value(),
        timeoutMS=milliseconds,
        serverSelectionTimeoutMS=milliseconds,
        connectTimeoutMS=milliseconds,
        w="majority",
        maxPoolSize=config.connections_bound + operation_limit.SPARE,
        maxConnecting=CONNECTING,
        appname="discord-channel-indexer",
        **options,
    )


def is_standalone(hello: Document) -> bool:
    """
    Return whether the server is no member of a replica set and no router, so that the driver cannot retry writes.

    PyMongo 4.20 tries nevertheless: it raises the first attempt's error again while it holds a new connection, takes
    this for an error of that connection, and closes all connections. With several writes at a time each does so to the
    others: after one lost connection, two of a hundred operations got through.
    """
    return "setName" not in hello and "serviceId" not in hello and hello.get("msg") != "isdbgrid"


async def _wait_until_usable(client: Any, config: settings.MongoSettings, seconds: float) -> Document:  # noqa: ANN401 -- motor's
    """
    Ask until a primary answers.

    Returns its answer. What waiting cannot mend fails at once; one line is logged when waiting begins.
    """
    log = logs.get(__name__)
    started = time.monotonic()
    waiting = False
    patience = FIRST_LOOK if seconds else config.timeout
    while True:
        try:
            with pymongo.timeout(min(patience, config.timeout)):
                hello: Document = await client.admin.command("hello")
            if not hello.get("isWritablePrimary", True):
                raise pymongo.errors.NotPrimaryError("a secondary", {"code": NOT_PRIMARY})
        except (pymongo.errors.PyMongoError, OSError) as error:
            diagnosis = mongodb_errors.diagnose(error)
            left = started + seconds - time.monotonic()
            if diagnosis.trouble in mongodb_errors.LASTING or left <= 0:
                raise errors.StoreUnavailable(f"MONGODB_URL: MongoDB {diagnosis.text}") from error
            if not waiting:
                log.warning("waiting_for_mongodb", problem=f"MongoDB {diagnosis.text}", seconds=seconds)
                waiting = True
            await asyncio.sleep(min(RETRY_INTERVAL, left))
            patience *= 2
        else:
            if waiting:
                log.info("mongodb_answers", seconds=round(time.monotonic() - started, 1))
            return hello


COMMANDS = {
    "find_one": "find",
    "find_one_and_update": "findAndModify",
    "insert_one": "insert",
    "insert_many": "insert",
    "update_one": "update",
    "update_many": "update",
    "bulk_write": "update",
    "replace_one": "update",
    "delete_one": "delete",
    "delete_many": "delete",
    "count_documents": "aggregate",
    "estimated_document_count": "count",
    "distinct": "distinct",
}
"""Methods that send a command, and its name in MongoDB."""
REFUSED = (pymongo.errors.DuplicateKeyError, pymongo.errors.BulkWriteError)
"""An expected response: another write was first."""

Call = Callable[..., Awaitable[Any]]


class MeasuredDatabase:
    """A database of measured collections."""

    def __init__(self, database: Any, seen: metrics.ServerMetrics, limit: operation_limit.OperationLimit) -> None:  # noqa: ANN401 -- motor's
        self._database = database
        self._measure = Measure(seen, limit)
        self._finds = joint_finds.JointFinds(limit)

    def __getitem__(self, name: str) -> "MeasuredCollection":
        """Return a collection."""
        return MeasuredCollection(self._database[name], self._measure, self._finds)

    @property
    def operations_limit(self) -> int:
        """Operations that may be under way now."""
        return self._measure.limit.current

    async def watch_distance(self) -> None:
        """Measure how far away the server is. Never returns."""
        await self._measure.limit.probe(functools.partial(self._database.command, "hello"))


class Measure(NamedTuple):
    """Where operations are measured, and what bounds them."""

    seen: metrics.ServerMetrics
    limit: operation_limit.OperationLimit


def unmeasured(db: Database) -> Database:
    """Return the driver's own database, for commands that no operation of a caller waits for."""
    return db._database if isinstance(db, MeasuredDatabase) else db  # noqa: SLF001 -- of this module


async def read_clock(db: Database) -> float | None:
    """Return the epoch second that the primary's clock shows; None when the server does not tell."""
    with translated():
        shown = (await unmeasured(db).command("hello")).get("localTime")
    return shown.replace(tzinfo=datetime.UTC).timestamp() if shown is not None else None


class MeasuredCollection:
    """Has those of motor's methods that are used here."""

    def __init__(self, collection: Any, measure: Measure, finds: joint_finds.JointFinds) -> None:  # noqa: ANN401 -- motor's
        self.name: str = collection.name
        self._find = collection.find
        self._measure = measure
        self._find_small = Timed(functools.partial(finds.find, collection.delegate), "find", measure.seen)
        for method, command in COMMANDS.items():
            setattr(self, method, Timed(getattr(collection, method), command, *measure))

    def find(self, *wanted: Any) -> "Found":  # noqa: ANN401 -- motor's
        """Return the documents that `to_list` requests."""
        return Found(self._find(*wanted), self._measure)

    async def find_small(self, wanted: Document, fields: Document) -> list[Document]:
        """Return small documents; see `joint_finds`."""
        found: list[Document] = await self._find_small(wanted, fields)
        return found


class Found:
    """A cursor."""

    def __init__(self, cursor: Any, measure: Measure) -> None:  # noqa: ANN401 -- motor's
        self._cursor = cursor
        self._measure = measure

    def sort(self, *order: Any) -> "Found":  # noqa: ANN401 -- motor's
        """Order what is found."""
        self._cursor.sort(*order)
        return self

    def limit(self, most: int) -> "Found":
        """Ask for so many at most."""
        self._cursor.limit(most)
        return self

    async def to_list(self, length: int | None) -> list[dict[str, Any]]:
        """Fetch the documents; a response in several batches is measured as one command."""
        found: list[dict[str, Any]] = await Timed(self._cursor.to_list, "find", *self._measure)(length)
        return found


class Timed:
    """A call that is measured under the name of its command; without *limit* it bounds its operations itself."""

    def __init__(
        self,
        call: Call,
        command: str,
        seen: metrics.ServerMetrics,
        limit: operation_limit.OperationLimit | None = None,
    ) -> None:
        self.call = call
        self._limit = limit
        self._command = command
        self._took = seen.mongodb.labels(command)
        self._failed = seen.mongodb_errors.labels(command)
        self._speed = seen.mongodb_speed

    async def __call__(self, *given: Any, **options: Any) -> Any:  # noqa: ANN401 -- motor's
        """Ask, and note how long it took and whether it failed."""
        begun = time.perf_counter()
        try:
            if self._limit is None:
                return await self.call(*given, **options)
            async with self._limit.operation():
                return await self.call(*given, **options)
        except REFUSED:
            raise
        except pymongo.errors.PyMongoError:
            self._failed.inc()
            raise
        finally:
            seconds = time.perf_counter() - begun
            self._took.observe(seconds)
            self._speed.observe(seconds)
            tracing.record_span("mongodb", seconds, self._command)
