"""What a process checks of MongoDB at its start."""

from typing import Any

import pymongo.errors
import pytest
import structlog

from indexing import errors, settings
from indexing.store import database as store_database
from indexing.store import mongodb_checks
from tests import servers

Answer = Any
"""A function from a method of motor's to one that answers in another way."""


class Lacking:
    """A database whose collections answer one of their methods in another way than MongoDB."""

    def __init__(self, database: Any, method: str, answer: Any) -> None:  # noqa: ANN401 -- motor's
        self.client = database.client
        self._database = database
        self._changed = {method: answer}

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 -- as above
        collection = self._database[name]
        changed = self._changed

        class Collection:
            def __getattr__(self, method: str) -> Any:  # noqa: ANN401 -- as above
                original = getattr(collection, method)
                return changed[method](original) if method in changed else original

        return Collection()


def refusing(option: str, code: int) -> Any:  # noqa: ANN401 -- as above
    """Return a method that refuses calls with that option, as a server without the feature does."""

    def change(original: Any) -> Any:  # noqa: ANN401 -- as above
        async def call(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 -- as above
            if option in options:
                raise pymongo.errors.OperationFailure(f"{option} is not implemented", code)
            return await original(*arguments, **options)

        return call

    return change


def dropping(option: str) -> Any:  # noqa: ANN401 -- as above
    """Return a method that ignores an option without a word."""

    def change(original: Any) -> Any:  # noqa: ANN401 -- as above
        async def call(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 -- as above
            options.pop(option, None)
            return await original(*arguments, **options)

        return call

    return change


@pytest.fixture
def database(empty: store_database.Database) -> store_database.Database:
    """A database without the indexes that an earlier check has made."""
    return empty


async def test_a_server_with_all_features_passes_and_keeps_no_document(database: store_database.Database) -> None:
    """Also when several processes start at once or one after another."""
    with structlog.testing.capture_logs() as lines:
        await mongodb_checks.check_server(database)
        await mongodb_checks.check_server(database)

    assert lines == []
    assert await database[mongodb_checks.COLLECTION].count_documents({}) == 0


@pytest.mark.parametrize(
    ("method", "answer", "feature"),
    [
        ("create_index", refusing("partialFilterExpression", 238), "partial indexes"),
        ("create_index", dropping("partialFilterExpression"), "unique partial indexes"),
        ("find_one_and_update", dropping("projection"), "findAndModify with a projection"),
        ("bulk_write", dropping("ordered"), "unordered bulk writes"),
    ],
    ids=["refused", "ignored", "ignored projection", "ordered only"],
)
async def test_the_boot_ends_when_a_feature_is_missing(
    database: store_database.Database, method: str, answer: Answer, feature: str
) -> None:
    """One line names the variable, the feature, and where to read on."""
    with pytest.raises(errors.StoreUnavailable, match=rf"^MONGODB_URL: the server lacks {feature}.*docs/deploy.md$"):
        await mongodb_checks.check_server(Lacking(database, method, answer))

    assert await database[mongodb_checks.COLLECTION].count_documents({}) == 0


async def test_a_warning_is_logged_when_the_product_can_go_on(database: store_database.Database) -> None:
    """Without TTL indexes old data stays, and nothing else breaks."""
    with structlog.testing.capture_logs() as lines:
        await mongodb_checks.check_server(Lacking(database, "create_index", refusing("expireAfterSeconds", 238)))

    assert [line["event"] for line in lines] == ["mongodb_check"]
    assert "TTL" in lines[0]["problem"]


def failing(code: int) -> Any:  # noqa: ANN401 -- as above
    """Return a method that the server refuses with a code."""

    async def call(*_arguments: Any, **_options: Any) -> Any:  # noqa: ANN401 -- as above
        raise pymongo.errors.OperationFailure("refused", code)

    return lambda _original: call


async def test_a_full_server_is_warned_of_when_a_process_starts(database: store_database.Database) -> None:
    """It still answers reads, and callers are told why writes fail."""
    with structlog.testing.capture_logs() as lines:
        await mongodb_checks.check_server(Lacking(database, "insert_one", failing(14031)))

    assert [(line["event"], line["problem"]) for line in lines] == [
        ("mongodb_check", "MongoDB has no disk space left (OutOfDiskSpace)")
    ]


async def test_the_boot_ends_with_the_setting_when_the_server_refuses_the_login(
    database: store_database.Database,
) -> None:
    """The line begins with the variable to change."""
    with pytest.raises(errors.StoreUnavailable, match=r"^MONGODB_URL: MongoDB refuses the login \(Auth"):
        await mongodb_checks.check_server(Lacking(database, "create_index", failing(18)))


async def test_the_probe_writes_and_changes_nothing(database: store_database.Database) -> None:
    """It deletes a document that does not exist."""
    await mongodb_checks.probe(database)

    assert await database[mongodb_checks.COLLECTION].count_documents({}) == 0


async def test_one_line_says_what_is_waited_for_when_mongodb_is_away() -> None:
    """While it waits, though one operation may take much longer."""
    config = settings.MongoSettings(url=f"mongodb://127.0.0.1:{servers.free_port()}", timeout=60.0)

    refusal = pytest.raises(errors.StoreUnavailable, match=r"^MONGODB_URL: MongoDB refuses connections$")
    with structlog.testing.capture_logs() as lines, refusal:
        async with store_database.open_database(config, start_timeout=3.0):
            pass

    assert [(line["event"], line["problem"]) for line in lines] == [
        ("waiting_for_mongodb", "MongoDB refuses connections")
    ]


async def test_the_driver_retries_writes_only_where_it_can(database: store_database.Database) -> None:
    """On a server of no replica set its attempts would close each other's connections."""
    hello = await database.client.admin.command("hello")

    assert database.client.delegate.options.retry_writes is ("setName" in hello)


@pytest.mark.parametrize(
    ("hello", "standalone"),
    [
        pytest.param({"isWritablePrimary": True}, True, id="standalone"),
        pytest.param({"setName": "rs0"}, False, id="replica set"),
        pytest.param({"msg": "isdbgrid"}, False, id="router"),
        pytest.param({"serviceId": 1}, False, id="load balancer"),
    ],
)
def test_a_standalone_server_is_told_by_its_greeting(hello: store_database.Document, standalone: bool) -> None:  # noqa: FBT001 -- a case
    """As the driver tells it."""
    assert store_database.is_standalone(hello) is standalone
