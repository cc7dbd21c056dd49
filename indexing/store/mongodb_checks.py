"""
What a process checks of MongoDB at its start: that it is new enough, and that it does what the store relies on.

A server that speaks MongoDB's protocol may lack a part of it. Each feature is tried on one scratch collection, so that
a missing one ends the boot with a line that names it, in place of errors of callers later. No document is left.
"""

import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pymongo
import pymongo.errors

from indexing import errors
from indexing.store import mongodb_errors
from indexing.telemetry import logs

COLLECTION = "boot_check"
OLDEST_WIRE = 9
"""The wire version of MongoDB 4.4 (source/wire-version in the drivers' specifications, read 2026-11)."""
SEE = "MongoDB 4.4 or newer has it; see docs/deploy.md"
DUPLICATE_KEY = 11000
Collection = Any
"""motor's, untyped."""


async def check_server(database: Any) -> None:  # noqa: ANN401 -- motor's
    """
    Check a MongoDB that answers; what the product goes on without is logged as a warning.

    A full server still answers reads, so the product starts; features are then checked at the next start.

    Raises:
        errors.StoreUnavailable: MongoDB cannot be used as it is, in one line for the operator.
    """
    try:
        await _check(database)
    except pymongo.errors.PyMongoError as error:
        diagnosis = mongodb_errors.diagnose(error)
        if diagnosis.trouble is not mongodb_errors.Trouble.FULL:
            raise errors.StoreUnavailable(f"MONGODB_URL: MongoDB {diagnosis.text}") from error
        logs.get(__name__).warning("mongodb_check", problem=f"MongoDB {diagnosis.text}")


async def _check(database: Any) -> None:  # noqa: ANN401 -- motor's
    hello = await database.client.admin.command("hello")
    if int(hello.get("maxWireVersion", 0)) < OLDEST_WIRE:
        raise errors.StoreUnavailable("MONGODB_URL: MongoDB is too old; 4.4 or newer is needed")
    if hello.get("readOnly"):
        raise errors.StoreUnavailable("MONGODB_URL: MongoDB is read-only")
    collection, prefix = database[COLLECTION], uuid.uuid4().hex
    lacking = [feature for feature, step in REQUIRED.items() if not await _works(step, collection, prefix)]
    wanted = [feature for feature, step in WANTED.items() if not await _works(step, collection, prefix)]
    # Not reached when the server fails: waiting for it once more would only delay the end of the start.
    await collection.delete_many({"_id": {"$gte": prefix, "$lt": prefix + "~"}})
    if lacking:
        raise errors.StoreUnavailable(f"MONGODB_URL: the server lacks {', '.join(lacking)}; {SEE}")
    for feature in wanted:
        logs.get(__name__).warning("mongodb_check", problem=f"MongoDB lacks {feature}")


async def probe(database: Any) -> None:  # noqa: ANN401 -- motor's, or the measured one
    """Write, and change nothing. Raises an error of the driver."""
    await database[COLLECTION].delete_one({"_id": "probe"})


async def _works(step: Callable[[Collection, str], Awaitable[bool]], collection: Collection, prefix: str) -> bool:
    """Return whether a step gave the expected result; a server's refusal of it is a missing feature."""
    try:
        return await step(collection, prefix)
    except pymongo.errors.OperationFailure as error:
        if mongodb_errors.diagnose(error).trouble in {mongodb_errors.Trouble.UNSUPPORTED, mongodb_errors.Trouble.OTHER}:
            return False
        raise


async def _partial_index(collection: Collection, _prefix: str) -> bool:
    await collection.create_index("overdue", partialFilterExpression={"active": True})
    return True


async def _unique_partial_index(collection: Collection, prefix: str) -> bool:
    """Two documents may have the same user while only one of them is active."""
    await collection.create_index("user", unique=True, partialFilterExpression={"active": True})
    await collection.insert_one({"_id": prefix + "-1", "user": prefix, "active": True})
    await collection.insert_one({"_id": prefix + "-2", "user": prefix, "active": False})
    try:
        await collection.insert_one({"_id": prefix + "-3", "user": prefix, "active": True})
    except pymongo.errors.DuplicateKeyError:
        return True
    return False


async def _ttl_index(collection: Collection, _prefix: str) -> bool:
    await collection.create_index("expires_at", expireAfterSeconds=0)
    found = await collection.index_information()
    return any("expireAfterSeconds" in index for index in found.values())


async def _conditional_upsert(collection: Collection, prefix: str) -> bool:
    """An upsert whose condition does not match fails on the id, and changes nothing."""
    key = prefix + "-4"
    await collection.update_one({"_id": key, "version": 0}, {"$set": {"value": 1, "version": 1}}, upsert=True)
    try:
        await collection.update_one({"_id": key, "version": 0}, {"$set": {"value": 2}}, upsert=True)
    except pymongo.errors.DuplicateKeyError:
        found = await collection.find_one({"_id": key})
        return bool(found == {"_id": key, "value": 1, "version": 1})
    return False


async def _find_and_modify(collection: Collection, prefix: str) -> bool:
    key = prefix + "-5"
    await collection.insert_one({"_id": key, "count": 1, "high": 5, "gone": 1, "large": "x"})
    found = await collection.find_one_and_update(
        {"_id": key},
        {"$inc": {"count": 1}, "$max": {"high": 9}, "$unset": {"gone": ""}, "$set": {"map.123": 1}},
        projection={"large": 0},
        return_document=pymongo.ReturnDocument.AFTER,
    )
    return bool(found == {"_id": key, "count": 2, "high": 9, "map": {"123": 1}})


async def _unordered_bulk(collection: Collection, prefix: str) -> bool:
    """A refused write does not stop the others; the reply names its index and code."""
    writes = [
        pymongo.InsertOne({"_id": prefix + "-6"}),
        pymongo.InsertOne({"_id": prefix + "-6"}),
        pymongo.UpdateOne({"_id": prefix + "-7"}, {"$set": {"value": 1}}, upsert=True),
    ]
    try:
        await collection.bulk_write(writes, ordered=False)
    except pymongo.errors.BulkWriteError as error:
        refused = [(item["index"], item["code"]) for item in error.details["writeErrors"]]
        return refused == [(1, DUPLICATE_KEY)] and error.details["nInserted"] == 1 == error.details["nUpserted"]
    return False


async def _queries(collection: Collection, prefix: str) -> bool:
    ids = [f"{prefix}-{number}" for number in (8, 9)]
    await collection.insert_many([{"_id": key, "kind": at, "big": "x"} for at, key in enumerate(ids)])
    found = await collection.find({"_id": {"$in": ids}, "kind": {"$ne": 1}}, {"kind": 1}).to_list(None)
    changed = await collection.update_many({"_id": {"$in": ids}, "kind": {"$gte": 0}}, {"$set": {"kind": 7}})
    deleted = await collection.delete_many({"_id": {"$in": ids}, "kind": 7})
    return bool(found == [{"_id": ids[0], "kind": 0}] and changed.modified_count == 2 == deleted.deleted_count)  # noqa: PLR2004 -- both


REQUIRED = {
    "partial indexes": _partial_index,
    "unique partial indexes": _unique_partial_index,
    "conditional upserts": _conditional_upsert,
    "findAndModify with a projection and $inc, $max, $unset, $set": _find_and_modify,
    "unordered bulk writes": _unordered_bulk,
    "queries and writes by $in and $ne": _queries,
}
WANTED = {"TTL indexes: ended jobs and request ids are never deleted": _ttl_index}
"""Features without which the product goes on."""
