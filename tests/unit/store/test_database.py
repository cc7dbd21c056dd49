"""Translation of MongoDB's and its driver's failures."""

from typing import Any

import pymongo.errors
import pytest

from indexing import errors
from indexing.store import database as store_database


class Failing:
    """A collection whose every method fails."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 -- any method
        async def fail(*_: object, **__: object) -> None:
            raise self._error

        return fail


@pytest.mark.parametrize(
    "error",
    [
        pymongo.errors.ServerSelectionTimeoutError("127.0.0.1:1: refused"),
        pymongo.errors.AutoReconnect("closed"),
        pymongo.errors.OperationFailure("not master", 10107),
        pymongo.errors.ExecutionTimeout("late"),
        pymongo.errors.BulkWriteError({"writeErrors": [{"code": 121}]}),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_errors_are_translated_when_mongodb_fails(error: Exception) -> None:
    """The store raises no exception of the driver."""
    failing = Failing(error)

    with pytest.raises(errors.StoreUnavailable), store_database.translated():
        await failing.update_one({}, {"$set": {"a": 1}})
    with pytest.raises(errors.StoreUnavailable):
        await store_database.insert_new(failing, [{"_id": 1}])


@pytest.mark.parametrize(
    "error",
    [
        pymongo.errors.DocumentTooLarge("'update' command document too large"),
        pymongo.errors.OperationFailure("BSONObj size: 17825792 is invalid", 10334),
        pymongo.errors.WriteError("Resulting document after update is larger than 16777216", 17419),
        pymongo.errors.BulkWriteError({"writeErrors": [{"code": 11000}, {"code": 17419}]}),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_an_error_of_its_own_is_raised_when_a_document_is_too_large(error: Exception) -> None:
    """It is not retried; the first one is no PyMongoError, but the package bson's."""
    failing = Failing(error)

    with pytest.raises(errors.DocumentTooLarge), store_database.translated():
        await failing.update_one({}, {"$set": {"a": 1}})
    with pytest.raises(errors.DocumentTooLarge):
        await store_database.insert_new(failing, [{"_id": 1}])


async def test_no_error_is_raised_when_the_documents_exist_already() -> None:
    """Duplicate keys are ignored."""
    failing = Failing(pymongo.errors.BulkWriteError({"writeErrors": [{"code": 11000}, {"code": 11000}]}))

    await store_database.insert_new(failing, [{"_id": 1}])
    await store_database.insert_new(failing, [])


@pytest.mark.parametrize(
    "details",
    [
        {"writeErrors": [{"code": 11000}, {"code": 121}]},
        {"writeErrors": [{"code": 11000}, {"code": 16500, "errmsg": "Request rate is large"}]},
        {"writeErrors": [{"code": 11000}, {"errmsg": "no code"}]},
        {"writeErrors": [{"code": 11000}], "writeConcernErrors": [{"code": 64}]},
        {"writeErrors": [], "writeConcernErrors": [{"code": 64}]},
    ],
    ids=["another-error", "throttled", "without-code", "not-confirmed", "only-not-confirmed"],
)
async def test_a_failure_is_raised_when_duplicates_accompany_it(details: dict[str, object]) -> None:
    """One refused or unconfirmed insert among duplicates is a failure."""
    failing = Failing(pymongo.errors.BulkWriteError(details))

    with pytest.raises(errors.StoreUnavailable):
        await store_database.insert_new(failing, [{"_id": 1}])


async def test_a_duplicate_key_is_raised_when_one_document_is_written() -> None:
    """The caller handles it as a result."""
    failing = Failing(pymongo.errors.DuplicateKeyError("duplicate"))

    with pytest.raises(pymongo.errors.DuplicateKeyError), store_database.translated():
        await failing.insert_one({})
