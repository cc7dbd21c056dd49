"""Everything stored of one user is erased, and nothing else; late writes change nothing."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from indexing import errors
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
        await stored.roles(stores.users, user_id, guild_id, (guild_id,), NOW + 1)
        fence = await stores.guilds.acquire_lease(guild_id, now=NOW, until=NOW + 20, fetched_before=NOW - 1)
        if fence is not None:
            channels = [values.channel(guild_id * 100 + number, guild_id) for number in range(2)]
            await stored.channels(stores.guilds, guild_id, fence=fence, channels=channels, now=NOW)
    job, _ = await stores.jobs.create_or_join(values.job(job_id, user_id=user_id))
    await stores.jobs.add_tasks(job, [values.task(guild_id) for guild_id in guild_ids])
    await stores.requests.store(f"Start:{job_id}", ports.StoredResponse(b"print", b"answer", user_id), NOW)


@pytest.fixture
async def kept(stores: conftest.Stores) -> conftest.Stores:
    """Two users who share a guild; the other has left a guild of the first."""
    await keep(stores, OTHER, OTHERS_JOB, [SHARED, LEFT])
    await stored.guild_list(stores.users, OTHER, [values.user_guild(SHARED)], NOW + 2)
    await keep(stores, USER, JOB, [OWN, SHARED, LEFT])
    return stores


async def test_the_documents_of_a_user_are_counted_by_collection(kept: conftest.Stores) -> None:
    """One for each aggregate. A guild with another member is not counted."""
    counts = {user: dict(await kept.user_data.count(user)) for user in (USER, OTHER, OTHER + 1)}

    mine = {"users": 1, "rosters": 1, "jobs": 1, "requests": 1, "guilds": 2}
    assert counts[USER] == mine
    assert counts[OTHER] == {**mine, "guilds": 0}
    assert counts[OTHER + 1] == dict.fromkeys(mine, 0)


async def test_the_user_is_unknown_when_their_document_is_erased(kept: conftest.Stores) -> None:
    """With credential, preferences, rights and roles. A second call does nothing."""
    for _ in range(2):
        await kept.user_data.erase_user(USER)

    assert not await kept.users.exists(USER)
    assert await kept.users.load(USER) is None
    assert await kept.users.versions([USER, OTHER]) == {OTHER: (await stored.user(kept.users, OTHER)).version}
    with pytest.raises(errors.CredentialMissing):
        await kept.users.credential(USER)


async def test_jobs_are_deleted_with_their_tasks_when_they_are_erased(kept: conftest.Stores) -> None:
    """Those of the user; the other's stay, and a second time there is nothing to do."""
    found = await kept.user_data.list_jobs(USER)

    for _ in range(2):
        await kept.user_data.erase_jobs(found)
    await kept.user_data.erase_jobs([])

    assert found == [JOB]
    assert await kept.jobs.get(JOB) is None
    assert await kept.jobs.list_tasks(JOB) == []
    assert [task.guild_id for task in await kept.jobs.list_tasks(OTHERS_JOB)] == [SHARED, LEFT]
    assert await kept.user_data.list_jobs(USER) == []


async def test_nothing_is_written_when_a_turn_outlives_its_erased_job(kept: conftest.Stores) -> None:
    """The write returns that the job is gone."""
    owned = await kept.jobs.begin_turn(JOB, 0, now=NOW, until=NOW + 40)
    assert owned is not None
    await kept.user_data.erase_jobs([JOB])

    written = [await kept.jobs.write_tasks(owned[0], owned[1]), await kept.jobs.save(owned[0], owned[0], owned[1])]

    assert written == [False, False]
    assert await kept.jobs.load(JOB) is None


async def test_responses_are_deleted_when_they_are_about_the_user(kept: conftest.Stores) -> None:
    """Responses about no user, or another one, stay."""
    await kept.requests.store("Delete:1", ports.StoredResponse(b"print", b"counts"), NOW)

    await kept.user_data.erase_responses(USER)

    assert await kept.requests.find([f"Start:{JOB}"]) is None
    assert await kept.requests.find([f"Start:{OTHERS_JOB}"]) is not None
    assert await kept.requests.find(["Delete:1"]) is not None


async def test_no_response_is_kept_when_its_user_is_unknown(kept: conftest.Stores) -> None:
    """The user was erased during the request."""
    await kept.user_data.erase_user(USER)

    await kept.requests.store("late", ports.StoredResponse(b"print", b"answer", USER), NOW)

    assert await kept.requests.find(["late"]) is None


async def test_guilds_go_when_nobody_else_is_in_them(kept: conftest.Stores) -> None:
    """With their channels. A guild in the roster of another user stays whole; one that they left does not stay."""
    found = await kept.user_data.list_guilds(USER)
    before = await kept.guilds.load([SHARED])

    for _ in range(2):
        await kept.user_data.erase_guilds(found, but=USER)
    await kept.user_data.erase_guilds([], but=USER)

    assert sorted(found) == [OWN, SHARED, LEFT]
    assert await kept.guilds.load(found) == before
    assert {channel.guild_id for channel in await stored.list_channels(kept.guilds, found)} == {SHARED}


async def test_a_guild_stays_when_only_its_member_s_document_is_erased(kept: conftest.Stores) -> None:
    """The roster keeps it until the member's own erasure reaches their guilds."""
    await kept.user_data.erase_user(OTHER)

    await kept.user_data.erase_guilds([SHARED], but=USER)

    assert list(await kept.guilds.get([SHARED])) == [SHARED]


async def test_guilds_that_the_user_has_left_are_found_until_the_roster_is_erased(kept: conftest.Stores) -> None:
    """After any number of list changes; other users' guilds are not included."""
    for later, rows in ((2, [SHARED, LEFT]), (3, [LEFT, 74]), (4, [LEFT])):
        await stored.guild_list(kept.users, USER, [values.user_guild(row) for row in rows], NOW + later)
    found = set(await kept.user_data.list_guilds(USER))

    for _ in range(2):
        await kept.user_data.erase_roster(USER)

    assert found == {OWN, SHARED, LEFT, 74}
    assert await kept.user_data.list_guilds(USER) == []
    assert set(await kept.user_data.list_guilds(OTHER)) == {SHARED, LEFT}
    assert (await kept.user_data.count(USER))["rosters"] == 0


@pytest.mark.parametrize("later", [[SHARED, LEFT], [SHARED]], ids=["same-guilds", "one-less"])
async def test_a_guild_is_found_when_a_role_request_showed_that_the_user_has_left(
    kept: conftest.Stores, later: list[int]
) -> None:
    """It counts as left, whatever lists are stored afterwards."""
    assert await stored.left(kept.users, USER, OWN)

    await stored.guild_list(kept.users, USER, [values.user_guild(row) for row in later], NOW + 3)

    assert set(await kept.user_data.list_guilds(USER)) == {OWN, SHARED, LEFT}


async def test_a_guild_is_erased_when_a_role_request_showed_that_its_other_member_has_left(
    kept: conftest.Stores,
) -> None:
    """At the latest when a list of that member without the guild is stored."""
    assert await stored.left(kept.users, OTHER, SHARED)
    await stored.guild_list(kept.users, OTHER, [], NOW + 3)

    await kept.user_data.erase_guilds([SHARED], but=USER)

    assert await kept.guilds.get([SHARED]) == {}


async def test_the_roster_has_all_guilds_when_a_late_list_was_refused(kept: conftest.Stores) -> None:
    """It may have too many for a while, never too few: a guild outside every roster is purged and not erased."""
    known = await stored.user(kept.users, USER)
    rows = [values.user_guild(row) for row in (OWN, SHARED, LEFT)]
    assert await kept.users.replace_guild_list(known, [*rows, values.user_guild(74)], NOW + 3)

    written = await kept.users.replace_guild_list(known, [*rows, values.user_guild(75)], NOW + 3)

    assert not written
    assert set(await kept.user_data.list_guilds(USER)) >= {OWN, SHARED, LEFT, 74}


async def test_a_fetch_stores_nothing_when_its_guild_was_erased(kept: conftest.Stores) -> None:
    """It held the lease, and its response was late."""
    fence = await kept.guilds.acquire_lease(OWN, now=NOW + 30, until=NOW + 60, fetched_before=NOW + 1)
    assert fence is not None
    known = (await kept.guilds.get([OWN]))[OWN]
    await kept.user_data.erase_guilds([OWN], but=USER)

    listing = model.Listing(fence, [values.channel(9, OWN)], NOW + 31, model.NEVER_FETCHED, known)
    written = await kept.guilds.store_channels(OWN, listing)

    assert not written
    assert await kept.guilds.load([OWN]) == {}


async def user_versions(stores: conftest.Stores, *guild_ids: int) -> set[int]:
    """Log a user in and index these guilds; returns the versions that the user has had."""
    seen = set()
    await stores.users.put_credential(OTHER + 1, values.credential())
    seen |= set((await stores.users.versions([OTHER + 1])).values())
    await stored.guild_list(stores.users, OTHER + 1, [values.user_guild(row) for row in guild_ids], NOW)
    seen |= set((await stores.users.versions([OTHER + 1])).values())
    for guild_id in guild_ids:
        await stored.roles(stores.users, OTHER + 1, guild_id, (5,), NOW + 1)
        seen |= set((await stores.users.versions([OTHER + 1])).values())
    return seen


async def test_a_user_gets_new_versions_when_they_return_after_an_erasure(stores: conftest.Stores) -> None:
    """Caches compare versions: a repeated one would show erased memberships again."""
    before = await user_versions(stores, 1, 2, 3)
    await stores.user_data.erase_user(OTHER + 1)

    after = await user_versions(stores, 7, 8)

    assert before.isdisjoint(after)


async def test_a_guild_gets_new_versions_when_it_is_stored_again_after_an_erasure(kept: conftest.Stores) -> None:
    """Caches compare versions: a repeated one would show the old channels."""
    before = (await kept.guilds.versions([OWN]))[OWN].version
    await kept.user_data.erase_guilds([OWN], but=USER)

    after = set()
    for number in range(5):
        await kept.guilds.upsert_guilds([values.user_guild(OWN, name=f"name {number}")], [OWN])
        after.add((await kept.guilds.versions([OWN]))[OWN].version)

    assert before not in after


async def test_a_late_fetch_changes_nothing_when_its_guild_was_erased_and_stored_again(kept: conftest.Stores) -> None:
    """Another fetch holds the lease by then: a fencing token is never used twice."""
    await kept.guilds.upsert_guilds([values.user_guild(74)], [74])
    late, known = await unfetched_lease(kept), (await kept.guilds.get([74]))[74]
    await kept.user_data.erase_guilds([74], but=USER)
    await kept.guilds.upsert_guilds([values.user_guild(74)], [74])
    current = await unfetched_lease(kept)

    listing = model.Listing(late, [values.channel(9, 74)], NOW, model.NEVER_FETCHED, known)
    written = await kept.guilds.store_channels(74, listing)

    assert not written
    assert late != current


async def unfetched_lease(stores: conftest.Stores) -> int:
    """Acquire the lease of guild 74."""
    fence = await stores.guilds.acquire_lease(74, now=NOW, until=NOW + 30, fetched_before=NOW)
    assert fence is not None
    return fence


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


async def test_a_guild_can_be_stored_again_when_another_user_lists_it_during_the_erasure(
    database: database.Database,
) -> None:
    """The roster is written before the guilds are read, so the missing guild is noticed."""
    store, people = guilds.Guilds(database), users.Users(database, credentials.Vault((conftest.KEY,)))

    async def lists() -> None:
        await stored.guild_list(people, OTHER, [values.user_guild(OWN)], NOW)

    gone = erasure.MongoUserData(Interrupted(database, "guilds", "bulk_write", lists))
    await store.upsert_guilds([values.user_guild(OWN)], [OWN])

    await gone.erase_guilds([OWN], but=USER)
    missing = await store.get([OWN])
    await store.upsert_guilds([values.user_guild(OWN)], [OWN])
    await gone.erase_guilds([OWN], but=USER)

    assert missing == {}
    found = (await store.get([OWN]))[OWN]
    assert (found.name, found.fetched_at) == (f"guild {OWN}", None)


async def test_a_response_does_not_stay_when_its_user_is_erased_while_it_is_stored(
    database: database.Database,
) -> None:
    """The check that the user is known follows the write."""
    people, gone = users.Users(database, credentials.Vault((conftest.KEY,))), erasure.MongoUserData(database)
    await people.put_credential(USER, values.credential())

    async def erase() -> None:
        await gone.erase_user(USER)
        await gone.erase_responses(USER)

    kept = idempotency.MongoIdempotencyStore(Interrupted(database, "requests", "insert_one", erase))
    await kept.store("late", ports.StoredResponse(b"print", b"answer", USER), NOW)

    assert await kept.find(["late"]) is None


async def test_a_job_is_known_as_erased_when_its_turn_comes_afterwards(kept: conftest.Stores) -> None:
    """Of a job that is only missing, nothing is known: it may be stored any moment."""
    await kept.user_data.erase_jobs([JOB])
    await kept.user_data.erase_jobs([JOB])

    assert [await kept.user_data.is_job_erased(job_id) for job_id in (JOB, "f" * 32)] == [True, False]
