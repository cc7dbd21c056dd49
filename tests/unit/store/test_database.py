"""Failures of MongoDB and its driver, translated in one place."""

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
    """No driver's exception leaves the store."""
    failing = Failing(error)

    with pytest.raises(errors.StoreUnavailable), store_database.translated():
        await failing.update_one({}, {"$set": {"a": 1}})
    with pytest.raises(errors.StoreUnavailable):
        await store_database.insert_new(failing, [{"_id": 1}])


async def test_nothing_fails_when_others_inserted_the_same_documents_meanwhile() -> None:
    """A duplicate key says just that."""
    failing = Failing(pymongo.errors.BulkWriteError({"writeErrors": [{"code": 11000}, {"code": 11000}]}))

    await store_database.insert_new(failing, [{"_id": 1}])
    await store_database.insert_new(failing, [])


@pytest.mark.parametrize(
    "details",
    [
        {"writeErrors": [{"code": 11000}, {"code": 121}]},
        {"writeErrors": [{"code": 11000}], "writeConcernErrors": [{"code": 64}]},
        {"writeErrors": [], "writeConcernErrors": [{"code": 64}]},
    ],
    ids=["another-error", "not-confirmed", "only-not-confirmed"],
)
async def test_a_failure_is_not_hidden_when_it_stands_beside_duplicates(details: dict[str, object]) -> None:
    """One refused or unconfirmed insert among duplicates is still one."""
    failing = Failing(pymongo.errors.BulkWriteError(details))

    with pytest.raises(errors.StoreUnavailable):
        await store_database.insert_new(failing, [{"_id": 1}])


async def test_a_duplicate_key_is_left_to_the_caller_when_one_document_is_written() -> None:
    """It is an answer, for which the caller asked."""
    failing = Failing(pymongo.errors.DuplicateKeyError("duplicate"))

    with pytest.raises(pymongo.errors.DuplicateKeyError), store_database.translated():
        await failing.insert_one({})
