"""What is stored of one user goes, and nothing else; whatever comes late is taken back."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from indexing.domain import model, ports
from indexing.store import credentials, database, erasure, guilds, idempotency, users
from tests import clockwork, stored, values
from tests.contract import conftest

NOW = clockwork.START
USER, OTHER = values.USER, values.USER + 1
OWN, SHARED, LEFT = 71, 72, 73
JOB, OTHERS_JOB = "a" * 32, "b" * 32


async def keep(stores: conftest.Stores, user_id: int, job_id: str, guild_ids: list[int]) -> None:
    """Store everything that there may be of a user."""
    rows = [values.user_guild(guild_id) for guild_id in guild_ids]
    await stores.users.put_credential(user_id, values.credential())
    await stores.users.put_preferences(user_id, model.Preferences((SHARED,), ()))
    await stores.guilds.upsert_guilds(rows, guild_ids)
    await stored.guild_list(stores.users, user_id, rows, NOW)
    for guild_id in guild_ids:
        fence = await stores.guilds.acquire_lease(guild_id, now=NOW, until=NOW + 20, fetched_before=NOW - 1)
        if fence is not None:
            channels = [values.channel(guild_id * 100 + number, guild_id) for number in range(2)]
            await stored.channels(stores.guilds, guild_id, fence=fence, channels=channels, now=NOW)
    job, _ = await stores.jobs.create_or_join(values.job(job_id, user_id=user_id))
    await stores.jobs.add_tasks(job, [values.task(guild_id) for guild_id in guild_ids])
    await stores.requests.store(f"Start:{job_id}", ports.StoredResponse(b"print", b"answer", user_id), NOW)


@pytest.fixture
async def kept(stores: conftest.Stores) -> conftest.Stores:
    """Two users who share a guild; one guild is left by the other."""
    await keep(stores, OTHER, OTHERS_JOB, [SHARED, LEFT])
    await stored.left(stores.users, OTHER, LEFT)
    await keep(stores, USER, JOB, [OWN, SHARED, LEFT])
    return stores


async def test_all_that_goes_with_the_user_is_counted(kept: conftest.Stores) -> None:
    """What he shares is not: neither the guild nor its channels."""
    counts = {user: dict(await kept.remains.count(user)) for user in (USER, OTHER, OTHER + 1)}

    mine = {"users": 1, "memberships": 3, "jobs": 1, "units": 3, "requests": 1, "guilds": 2, "channels": 4}
    assert counts[USER] == mine
    assert counts[OTHER] == {**mine, "memberships": 2, "units": 2, "guilds": 0, "channels": 0}
    assert counts[OTHER + 1] == dict.fromkeys(mine, 0)


async def test_the_user_is_unknown_when_his_row_is_erased(kept: conftest.Stores) -> None:
    """With his credential, his wishes, and the time of his list; a second time there is nothing to do."""
    for _ in range(2):
        await kept.remains.erase_user(USER)

    assert not await kept.users.exists(USER)
    assert await kept.users.get_preferences(USER) == model.Preferences()
    assert await kept.users.guild_list_time(USER) is None
    assert await kept.users.exists(OTHER)


async def test_jobs_and_units_go_when_they_are_erased(kept: conftest.Stores) -> None:
    """Those of the user; the other's stay, and a second time there is nothing to do."""
    found = await kept.remains.list_jobs(USER)

    for _ in range(2):
        await kept.remains.erase_jobs(found)
    await kept.remains.erase_jobs([])

    assert found == [JOB]
    assert await kept.jobs.get(JOB) is None
    assert await kept.jobs.list_tasks(JOB) == []
    assert len(await kept.jobs.list_tasks(OTHERS_JOB)) == 2
    assert await kept.remains.list_jobs(USER) == []


async def test_answers_go_when_they_are_about_the_user(kept: conftest.Stores) -> None:
    """What is about nobody, or another, stays."""
    await kept.requests.store("Delete:1", ports.StoredResponse(b"print", b"counts"), NOW)

    await kept.remains.erase_responses(USER)

    assert await kept.requests.find(f"Start:{JOB}") is None
    assert await kept.requests.find(f"Start:{OTHERS_JOB}") is not None
    assert await kept.requests.find("Delete:1") is not None


async def test_no_answer_is_kept_when_its_user_is_unknown(kept: conftest.Stores) -> None:
    """He was erased while he was answered."""
    await kept.remains.erase_user(USER)

    await kept.requests.store("late", ports.StoredResponse(b"print", b"answer", USER), NOW)

    assert await kept.requests.find("late") is None


async def test_guilds_go_when_nobody_else_is_in_them(kept: conftest.Stores) -> None:
    """With their channels; who has left a guild does not keep it."""
    found = await kept.remains.list_guilds(USER)

    await kept.remains.erase_guilds(found, but=USER)
    await kept.remains.erase_guilds([], but=USER)

    assert sorted(found) == [OWN, SHARED, LEFT]
    assert set(await kept.guilds.get(found)) == {SHARED}
    assert {channel.guild_id for channel in await kept.guilds.list_channels(found)} == {SHARED}


async def test_ended_memberships_lead_to_guilds_too(kept: conftest.Stores) -> None:
    """What the user has left is still what he has brought."""
    await stored.left(kept.users, USER, OWN)

    assert sorted(await kept.remains.list_guilds(USER)) == [OWN, SHARED, LEFT]
    await kept.remains.erase_memberships(USER)
    assert await kept.remains.list_guilds(USER) == []
    assert sorted(await kept.remains.list_guilds(OTHER)) == [SHARED, LEFT]


async def test_a_reading_stores_nothing_when_its_guild_was_erased(kept: conftest.Stores) -> None:
    """It held the lease, and its answer came late."""
    fence = await kept.guilds.acquire_lease(OWN, now=NOW + 30, until=NOW + 60, fetched_before=NOW + 1)
    assert fence is not None
    await kept.remains.erase_guilds([OWN], but=USER)

    stored = await stored.channels(kept.guilds, OWN, fence=fence, channels=[values.channel(9, OWN)], now=NOW + 31)

    assert not stored
    assert await kept.guilds.list_channels([OWN]) == []


class Interrupted:
    """A database in which something else happens right before the first call of one method of a collection."""

    def __init__(
        self, database: database.Database, collection: str, method: str, meanwhile: Callable[[], Awaitable[object]]
    ) -> None:
        self._database = database
        self._collection = collection
        self._method = method
        self._meanwhile = [meanwhile]

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 -- motor's
        """Return a collection."""
        found = self._database[name]
        return _InterruptedCollection(found, self._method, self._meanwhile) if name == self._collection else found


class _InterruptedCollection:
    def __init__(
        self, collection: database.Collection, method: str, meanwhile: list[Callable[[], Awaitable[object]]]
    ) -> None:
        self._collection = collection
        self._method = method
        self._meanwhile = meanwhile

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 -- any method
        if name != self._method:
            return getattr(self._collection, name)

        async def call(*given: Any, **named: Any) -> Any:  # noqa: ANN401 -- as above
            while self._meanwhile:
                await self._meanwhile.pop()()
            return await getattr(self._collection, name)(*given, **named)

        return call


async def test_no_channel_is_left_when_a_guild_is_erased_in_the_act_of_storing(database: database.Database) -> None:
    """Rows of a guild that has none itself would be found by nobody again."""
    gone = erasure.MongoUserData(database)
    store = guilds.Guilds(Interrupted(database, "channels", "insert_many", lambda: gone.erase_guilds([OWN], but=USER)))
    await store.upsert_guilds([values.user_guild(OWN)], [OWN])
    fence = await store.acquire_lease(OWN, now=NOW, until=NOW + 30, fetched_before=NOW)
    assert fence is not None

    await store.store_channels(OWN, fence=fence, channels=[values.channel(9, OWN)], now=NOW)

    assert await database["channels"].count_documents({}) == 0


async def test_a_guild_stays_when_another_user_lists_it_in_the_act_of_erasing(database: database.Database) -> None:
    """He found its row and wrote none; it comes back unread, and whatever reading was under way is late."""
    store, people = guilds.Guilds(database), users.Users(database, credentials.Vault((conftest.KEY,)))

    async def lists() -> None:
        await people.replace_guild_list(OTHER, [values.user_guild(OWN)], NOW)

    gone = erasure.MongoUserData(Interrupted(database, "channels", "delete_many", lists))
    await store.upsert_guilds([values.user_guild(OWN)], [OWN])
    fence = await store.acquire_lease(OWN, now=NOW, until=NOW + 30, fetched_before=NOW)
    assert fence is not None

    await gone.erase_guilds([OWN], but=USER)
    late = await store.store_channels(OWN, fence=fence, channels=[values.channel(9, OWN)], now=NOW)

    found = (await store.get([OWN]))[OWN]
    assert (found.name, found.fetched_at) == (f"guild {OWN}", None)
    assert not late


async def test_an_answer_does_not_stay_when_its_user_is_erased_in_the_act_of_storing(
    database: database.Database,
) -> None:
    """It is looked whether he is known when the answer is there, not before."""
    people, gone = users.Users(database, credentials.Vault((conftest.KEY,))), erasure.MongoUserData(database)
    await people.put_credential(USER, values.credential())

    async def erase() -> None:
        await gone.erase_user(USER)
        await gone.erase_responses(USER)

    kept = idempotency.MongoIdempotencyStore(Interrupted(database, "requests", "insert_one", erase))
    await kept.store("late", ports.StoredResponse(b"print", b"answer", USER), NOW)

    assert await kept.find("late") is None
