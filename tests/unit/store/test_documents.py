"""What stands in MongoDB, and how often it is written."""

from collections.abc import Awaitable, Callable
from typing import Any

import mongomock_motor
import mongomock_ng
import pymongo.errors
import pytest

from indexing import errors
from indexing.domain import model
from indexing.store import credentials, guilds, jobs, migrations, users
from indexing.store import database as store_database
from tests import clockwork, values

NOW = clockwork.START
KEY, NEW = b"k" * 32, b"n" * 32
USER, GUILD = values.USER, values.GUILD


@pytest.fixture
async def database() -> store_database.Database:
    """An empty database of the mock, with our indexes."""
    client = mongomock_motor.AsyncMongoMockClient(mock_mongo_client=mongomock_ng.MongoClient())
    await migrations.make_indexes(client["indexer"])
    return client["indexer"]


async def test_no_token_stands_in_the_database_when_a_credential_is_stored(database: store_database.Database) -> None:
    """Whoever reads the documents learns scopes and times, nothing that opens anything."""
    credential = values.credential(access_token="the-access-secret", refresh_token="the-refresh-secret")

    await users.Users(database, credentials.Vault((KEY,))).put_credential(USER, credential)

    (row,) = await database["users"].find({}).to_list(None)
    assert "secret" not in repr(row)
    assert row["scopes"] == list(credential.scopes)


async def test_a_new_consent_is_asked_for_when_a_credential_no_longer_opens(database: store_database.Database) -> None:
    """After the last key of its time is gone, and when it was moved into another user's row."""
    store = users.Users(database, credentials.Vault((KEY,)))
    await store.put_credential(USER, values.credential())
    await store.put_credential(USER + 1, values.credential())
    (row,) = await database["users"].find({"_id": USER}).to_list(None)
    await database["users"].update_one({"_id": USER + 1}, {"$set": {"credential": row["credential"]}})

    with pytest.raises(errors.ReauthRequired):
        await users.Users(database, credentials.Vault((NEW,))).credential(USER)
    with pytest.raises(errors.ReauthRequired):
        await store.credential(USER + 1)


async def test_a_credential_opens_when_the_key_was_rotated(database: store_database.Database) -> None:
    """Nobody has to consent again for our keys."""
    await users.Users(database, credentials.Vault((KEY,))).put_credential(USER, values.credential())

    found = await users.Users(database, credentials.Vault((NEW, KEY))).credential(USER)

    assert found == values.credential()


async def test_only_changed_channels_are_written_when_a_listing_is_stored_again(
    database: store_database.Database,
) -> None:
    """Each row carries the number of its last writer, so that a write shows."""
    store = guilds.Guilds(database)
    await store.upsert_guilds([values.user_guild()], {GUILD})
    first = [values.channel(number, overwrites=(values.denied(5),)) for number in range(1, 6)]
    second = [*first[:2], values.channel(3, name="renamed"), values.channel(4), values.channel(6)]
    for rows in (first, second):
        fence = await store.acquire_lease(GUILD, now=NOW, until=NOW + 25, fetched_before=NOW)
        assert fence is not None
        assert await store.store_channels(GUILD, fence=fence, channels=rows, now=NOW)

    written = {row["_id"]: row["fence"] for row in await database["channels"].find({}).to_list(None)}

    assert written == {1: 1, 2: 1, 3: 2, 4: 2, 5: 2, 6: 2}


async def test_a_channel_that_is_gone_is_kept_with_the_reason_when_a_listing_lacks_it(
    database: store_database.Database,
) -> None:
    """Missing means deleted or hidden from our bot: it is not shown, and not thrown away."""
    store = guilds.Guilds(database)
    await store.upsert_guilds([values.user_guild()], {GUILD})
    for rows in ([values.channel(1)], []):
        fence = await store.acquire_lease(GUILD, now=NOW, until=NOW + 25, fetched_before=NOW)
        assert fence is not None
        await store.store_channels(GUILD, fence=fence, channels=rows, now=NOW)

    (row,) = await database["channels"].find({}).to_list(None)

    assert (row["gone_at"], row["gone_why"], row["name"]) == (NOW, "HIDDEN_OR_DELETED", "channel 1")


class Stalling:
    """A database whose writer sleeps for long right before its first bulk write of channels."""

    def __init__(self, database: store_database.Database, meanwhile: Callable[[], Awaitable[None]]) -> None:
        self._database = database
        self._meanwhile = [meanwhile]

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 -- the mock's
        """Return a collection."""
        return (
            _StallingCollection(self._database[name], self._meanwhile) if name == "channels" else self._database[name]
        )


class _StallingCollection:
    def __init__(self, collection: store_database.Collection, meanwhile: list[Callable[[], Awaitable[None]]]) -> None:
        self._collection = collection
        self._meanwhile = meanwhile

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 -- any method
        return getattr(self._collection, name)

    async def bulk_write(self, *arguments: object, **options: object) -> object:
        """Let others work first."""
        while self._meanwhile:
            await self._meanwhile.pop()()
        return await self._collection.bulk_write(*arguments, **options)


async def test_the_guild_is_read_again_when_a_writer_lost_its_lease_in_the_act(
    database: store_database.Database,
) -> None:
    """It had looked, slept, and then overwrote what the next holder had found unchanged: nobody believes that now."""
    closed = values.channel(1, overwrites=(values.denied(GUILD),))
    current = guilds.Guilds(database)
    await current.upsert_guilds([values.user_guild()], {GUILD})

    async def stored(store: guilds.Guilds, channel: model.Channel, now: float) -> bool:
        fence = await store.acquire_lease(GUILD, now=now, until=now + 25, fetched_before=now)
        assert fence is not None
        return await store.store_channels(GUILD, fence=fence, channels=[channel], now=now)

    await stored(current, closed, NOW)

    async def meanwhile() -> None:
        assert await stored(current, closed, NOW + 60)

    late = guilds.Guilds(Stalling(database, meanwhile))
    late_result = await stored(late, values.channel(1), NOW + 30)

    found = await current.get([GUILD])
    assert not late_result
    assert found[GUILD].fetched_at is None
    assert await current.acquire_lease(GUILD, now=NOW + 61, until=NOW + 86, fetched_before=NOW) is not None


async def test_a_field_of_tomorrow_does_no_harm_when_documents_are_read(database: store_database.Database) -> None:
    """Processes of two versions share the database."""
    store = jobs.Jobs(database, retention=3600.0)
    job, _ = await store.create_or_join(values.job())
    await store.add_tasks(job, [values.task()])
    for name in ("jobs", "units"):
        await database[name].update_many({}, {"$set": {"brand_new": 1}})

    assert await store.get(job.job_id) == values.job(listed=True)
    assert await store.list_tasks(job.job_id) == [values.task()]


async def test_ended_jobs_expire_when_their_retention_is_over(database: store_database.Database) -> None:
    """Running ones never do, their units do at the latest then."""
    store = jobs.Jobs(database, retention=3600.0)
    job, _ = await store.create_or_join(values.job())
    await store.add_tasks(job, [values.task()])
    (running,) = await database["jobs"].find({}).to_list(None)

    await store.save(values.job(state=model.JobState.SUCCEEDED))

    (ended,) = await database["jobs"].find({}).to_list(None)
    (unit,) = await database["units"].find({}).to_list(None)
    assert running["expires_at"] is None
    assert ended["expires_at"].timestamp() == unit["expires_at"].timestamp() == pytest.approx(NOW + 3600)


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
async def test_the_failure_is_ours_when_mongodb_fails(error: Exception) -> None:
    """No driver's exception leaves the store."""
    failing = Failing(error)

    with pytest.raises(errors.StoreUnavailable):
        await store_database.write_newest(failing, [pymongo.UpdateOne({}, {"$set": {"a": 1}})])
    with pytest.raises(errors.StoreUnavailable):
        await store_database.insert_new(failing, [{"_id": 1}])


async def test_a_newer_row_stays_when_a_guarded_write_meets_it() -> None:
    """A duplicate key says just that, and is no failure."""
    failing = Failing(pymongo.errors.BulkWriteError({"writeErrors": [{"code": 11000}, {"code": 11000}]}))

    assert not await store_database.write_newest(failing, [object()])
    await store_database.insert_new(failing, [{"_id": 1}])


async def test_a_failure_is_not_hidden_when_it_stands_beside_newer_rows() -> None:
    """One refused write among duplicates is still a refused write."""
    failing = Failing(pymongo.errors.BulkWriteError({"writeErrors": [{"code": 11000}, {"code": 121}]}))

    with pytest.raises(errors.StoreUnavailable):
        await store_database.write_newest(failing, [object()])
