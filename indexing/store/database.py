"""
The connection to MongoDB: one client per event loop, one place that translates its errors, all indexes.

motor is what the product is asked to use; it is past its end of life (critical fixes until 2027-05-14,
mongodb.com/docs/drivers/motor, read 2026-11), so only this module names it.
"""

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pymongo
import pymongo.errors
from motor import motor_asyncio

from indexing import errors, settings
from indexing.store import instrumented
from indexing.telemetry import metrics

Document = dict[str, Any]
Database = Any
Collection = Any
"""motor's, the measured ones, or the mock's, which have no type in common."""
MOST_TEXT = 200
"""Characters of a driver's message that are passed on; it names hosts and times, never documents."""
DUPLICATE_KEY = 11000
INDEX_EXISTS = {85, 86}
"""Codes for "same index, other options": mongod answers 85, the embedded server 86."""


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn the driver's failures into ours; a duplicate key is left to the caller, who asked for it."""
    try:
        yield
    except (pymongo.errors.DuplicateKeyError, pymongo.errors.BulkWriteError):
        raise
    except pymongo.errors.PyMongoError as error:
        text = f"MongoDB does not answer as it should: {type(error).__name__}: {str(error)[:MOST_TEXT]}"
        raise errors.StoreUnavailable(text) from error


async def write_newest(collection: Collection, changes: list[Any]) -> bool:
    """
    Write guarded upserts; return False if some row was left alone because it is newer than its guard allows.

    An upsert whose guard misses an existing row fails with a duplicate key: exactly the row that must stay.
    """
    try:
        with translated():
            if changes:
                await collection.bulk_write(changes, ordered=False)
    except pymongo.errors.BulkWriteError as error:
        _only_duplicates(error)
        return False
    return True


async def insert_new(collection: Collection, rows: list[Document]) -> None:
    """Insert rows, far cheaper than upserts; one that somebody else has inserted meanwhile stays as it is."""
    try:
        with translated():
            if rows:
                await collection.insert_many(rows, ordered=False)
    except pymongo.errors.BulkWriteError as error:
        _only_duplicates(error)


def _only_duplicates(error: pymongo.errors.BulkWriteError) -> None:
    if any(item["code"] != DUPLICATE_KEY for item in error.details["writeErrors"]):
        raise errors.StoreUnavailable("MongoDB refused a write") from error


@contextlib.asynccontextmanager
async def open_database(
    config: settings.MongoSettings, seen: metrics.ServerMetrics | None = None
) -> AsyncIterator[Database]:
    """
    Connect in the running loop and close at the end.

    Raises:
        errors.StoreUnavailable: MongoDB does not answer within the timeout.
    """
    milliseconds = int(config.timeout * 1000)
    client: Any = motor_asyncio.AsyncIOMotorClient(
        config.url.get_secret_value(),
        timeoutMS=milliseconds,
        serverSelectionTimeoutMS=milliseconds,
        connectTimeoutMS=milliseconds,
        w="majority",
        appname="discord-channel-indexer",
    )
    try:
        with translated():
            await client.admin.command("ping")
        database = client[config.database]
        yield database if seen is None else instrumented.Database(database, seen)
    finally:
        client.close()


async def make_indexes(database: Database) -> None:
    """Create what is missing; safe to run by every process at every boot."""
    wanted: list[tuple[str, list[tuple[str, int]], Document]] = [
        ("users", [("reauth", 1)], {"partialFilterExpression": {"reauth": True}, "name": "reauth"}),
        ("memberships", [("user_id", 1)], {}),
        ("memberships", [("guild_id", 1)], {}),
        ("memberships", [("left_at", 1)], {"partialFilterExpression": {"left_at": {"$gt": 0}}, "name": "left"}),
        ("guilds", [("next_refresh_at", 1)], {}),
        ("guilds", [("looked_at", 1)], {}),
        ("channels", [("guild_id", 1)], {}),
        ("channels", [("gone_at", 1)], {"partialFilterExpression": {"gone_at": {"$gt": 0}}, "name": "gone"}),
        ("jobs", [("user_id", 1)], {"unique": True, "partialFilterExpression": {"active": True}, "name": "one_active"}),
        ("jobs", [("user_id", 1), ("created_at", -1)], {}),
        ("jobs", [("next_turn_at", 1)], {"partialFilterExpression": {"active": True}, "name": "overdue"}),
        ("jobs", [("expires_at", 1)], {"expireAfterSeconds": 0}),
        ("units", [("job_id", 1)], {}),
        ("units", [("expires_at", 1)], {"expireAfterSeconds": 0}),
        ("requests", [("expires_at", 1)], {"expireAfterSeconds": 0}),
        ("requests", [("user_id", 1)], {"partialFilterExpression": {"user_id": {"$gt": 0}}, "name": "about"}),
    ]
    for collection, keys, options in wanted:
        try:
            with translated():
                await database[collection].create_index(keys, **options)
        except errors.StoreUnavailable as error:
            if getattr(error.__cause__, "code", None) not in INDEX_EXISTS:
                raise
