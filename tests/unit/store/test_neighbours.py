"""A write changes the document that it names, and only while that is as it was read."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import pytest

from indexing.domain import model
from indexing.store import credentials, erasure, guilds, jobs, tombstones, users
from indexing.store import database as store_database
from tests import clockwork, stored, values

NOW = clockwork.START
SAFE = credentials.Vault((b"k" * 32,))
Document: TypeAlias = dict[str, Any]
EARLIER = {"next_refresh_at": NOW - 1, "lease_until": 0.0, "looked_at": None, "access": "INSTALLED"}
GUILD_WRITES: dict[str, Callable[[guilds.Guilds, model.Guild], Awaitable[object]]] = {
    "lease": lambda store, _: store.acquire_lease(2, now=NOW, until=NOW + 9, fetched_before=NOW),
    "listing": lambda store, known: store.store_channels(2, model.Listing(7, [values.channel(5)], NOW, known=known)),
    "refusal": lambda store, _: store.mark_refused(2, fence=7, error="NO_ACCESS", now=NOW, retry_at=NOW + 9),
    "release": lambda store, _: store.release_lease(2, fence=7, schedule=model.Schedule(NOW + 3)),
    "view": lambda store, _: store.mark_viewed([2], NOW),
    "demand": lambda store, _: store.mark_viewed([], NOW, waiting=[2]),
    "removal": lambda store, _: store.mark_bot_removed([2], NOW),
    "due": lambda store, _: store.schedule_soon([2], NOW - 2),
    "list": lambda store, _: store.upsert_guilds([values.user_guild(2, name="new")], None),
}


@pytest.mark.parametrize("write", [*GUILD_WRITES.values()], ids=[*GUILD_WRITES])
async def test_other_guilds_stay_as_they_are_when_one_is_written(
    database: store_database.Database, write: Callable[[guilds.Guilds, model.Guild], Awaitable[object]]
) -> None:
    """Also those that are equal in everything but the id."""
    rows = [
        {"_id": number, "name": "g", "version": 5, "fence": 7, "fetched_at": NOW - 5, **EARLIER} for number in (1, 2, 3)
    ]
    await database["guilds"].insert_many([dict(row) for row in rows])
    store = guilds.Guilds(database)

    await write(store, (await store.get([2]))[2])

    found = await database["guilds"].find({}).sort("_id", 1).to_list(None)
    assert [found[0], found[2]] == [rows[0], rows[2]]
    assert found[1] != rows[1]


USER_WRITES: dict[str, Callable[[users.Users, credentials.Credentials, model.User], Awaitable[object]]] = {
    "pair": lambda people, _, __: people.put_credential(2, values.credential()),
    "unproven pair": lambda people, _, __: people.put_unproven(2, values.credential()),
    "preferences": lambda people, _, __: people.put_preferences(2, model.Preferences((5,), ())),
    "list": lambda people, _, known: people.replace_guild_list(known, [values.user_guild(8)], NOW + 1),
    "roles": lambda people, _, known: people.store_roles(known.memberships[7], [3], NOW + 1),
    "departure": lambda people, _, known: people.mark_left(known.memberships[7]),
    "view": lambda people, _, __: people.mark_viewed(2, 7, NOW),
    "lock": lambda _, pairs, __: pairs.lock(2, version="m", now=NOW, until=NOW + 9),
    "renewal": lambda _, pairs, __: pairs.store_renewed(2, version="m", credential=values.credential(), proven=True),
    "refusal": lambda _, pairs, __: pairs.mark_refused(2, version="m", shown_until=NOW),
    "rejection": lambda _, pairs, __: pairs.reject(2, version="m"),
    "deletion": lambda _, pairs, __: pairs.delete(2, shown_until=NOW),
}


@pytest.mark.parametrize("write", [*USER_WRITES.values()], ids=[*USER_WRITES])
async def test_other_users_stay_as_they_are_when_one_is_written(
    database: store_database.Database,
    write: Callable[[users.Users, credentials.Credentials, model.User], Awaitable[object]],
) -> None:
    """Also those with equal marks, times and memberships; the same holds for their rosters."""
    people, pairs = users.Users(database, SAFE), credentials.Credentials(database, SAFE)
    for number in (1, 2, 3):
        await people.put_credential(number, values.credential())
        await stored.guild_list(people, number, [values.user_guild(7)], NOW)
    await database["users"].update_many({}, {"$set": {"mark": "m", "version": 5}})
    await database["rosters"].update_many({}, {"$set": {"mark": b"m"}})
    before = [await database[name].find({"_id": {"$ne": 2}}).to_list(None) for name in ("users", "rosters")]
    own = await database["users"].find_one({"_id": 2})

    await write(people, pairs, await stored.user(people, 2))

    assert [await database[name].find({"_id": {"$ne": 2}}).to_list(None) for name in ("users", "rosters")] == before
    assert await database["users"].find_one({"_id": 2}) != own


JOB_WRITES: dict[str, Callable[[jobs.Jobs, model.Job], Awaitable[object]]] = {
    "turn": lambda store, _: store.begin_turn("2", 0, now=NOW, until=NOW + 9),
    "tasks": lambda store, job: store.add_tasks(job, [values.task()]),
    "task": lambda store, job: store.write_tasks(job, [values.task()]),
    "end": lambda store, job: store.save(job, values.job("2", user_id=2, state=model.JobState.FAILED)),
    "postponed": lambda store, job: store.postpone(job, NOW + 77),
    "caller": lambda store, _: store.add_caller("2", "web"),
}


@pytest.mark.parametrize("write", [*JOB_WRITES.values()], ids=[*JOB_WRITES])
async def test_other_jobs_stay_as_they_are_when_one_is_written(
    database: store_database.Database, write: Callable[[jobs.Jobs, model.Job], Awaitable[object]]
) -> None:
    """Of other users, in the same turn."""
    store = jobs.Jobs(database, retention=3600.0)
    for number in (1, 2, 3):
        await store.create_or_join(values.job(str(number), user_id=number))
    before = await database["jobs"].find({}).sort("_id", 1).to_list(None)
    job = await store.get("2")
    assert job is not None

    await write(store, job)

    after = await database["jobs"].find({}).sort("_id", 1).to_list(None)
    assert [after[0], after[2]] == [before[0], before[2]]
    assert after[1] != before[1]


class Meanwhile:
    """A collection of guilds in which something happens before a bulk is written."""

    def __init__(self, collection: store_database.Collection, happen: Callable[[], Awaitable[object]]) -> None:
        self._collection = collection
        self._happen = happen

    def find(self, *given: Any) -> Any:  # noqa: ANN401 -- motor's
        """Read."""
        return self._collection.find(*given)

    async def bulk_write(self, *given: Any, **named: Any) -> Any:  # noqa: ANN401 -- motor's
        """Let it happen first."""
        await self._happen()
        return await self._collection.bulk_write(*given, **named)


@pytest.mark.parametrize("happens", [{"fence": 8}, {"fetched_at": NOW - 1}])
async def test_a_guild_stays_when_it_was_leased_or_fetched_while_its_removal_was_decided(
    database: store_database.Database, happens: Document
) -> None:
    """The newer state decides; a removal that was missed is noticed by the next comparison."""
    await database["guilds"].insert_one({"_id": 1, "version": 5, "fence": 7, "fetched_at": NOW - 5, **EARLIER})
    store = guilds.Guilds(database)
    store._guilds = Meanwhile(database["guilds"], lambda: database["guilds"].update_one({}, {"$set": happens}))

    await store.mark_bot_removed([1], NOW)

    assert (await database["guilds"].find_one({}))["access"] == "INSTALLED"


async def test_a_list_from_before_an_erasure_changes_nothing(database: store_database.Database) -> None:
    """Neither the user nor their roster comes back, and the caller learns it."""
    people, data = users.Users(database, SAFE), erasure.MongoUserData(database)
    await stored.guild_list(people, 2, [values.user_guild(7)], NOW)
    known = await stored.user(people, 2)
    await data.erase_user(2)
    await data.erase_roster(2)

    assert not await people.replace_guild_list(known, [values.user_guild(8)], NOW + 1)

    assert not await people.exists(2)
    assert "guild_ids" not in await database["rosters"].find_one({})


@pytest.mark.parametrize("proven", [True, False])
async def test_an_erased_user_is_known_again_when_they_log_in(database: store_database.Database, proven: bool) -> None:  # noqa: FBT001 -- a parameter
    """Their version is above that of the erasure, which it keeps."""
    people = users.Users(database, SAFE)
    await people.put_preferences(2, model.Preferences((1,), ()))
    await erasure.MongoUserData(database).erase_user(2)
    erased = await database["users"].find_one({})

    assert await (people.put_credential if proven else people.put_unproven)(2, values.credential())

    row = await database["users"].find_one({})
    assert (row["version"], row["erased"], "erased_at" in row) == (erased["version"] + 1, erased["version"], False)
    assert not tombstones.is_tombstone(row)


async def test_a_newer_pair_is_reported_until_it_is_refused(database: store_database.Database) -> None:
    """A renewal of the pair in use then waits for the proof of the newer one."""
    people, pairs = users.Users(database, SAFE), credentials.Credentials(database, SAFE)
    beside = credentials.Credentials(database, SAFE, slot=credentials.UNPROVEN)
    await people.put_credential(2, values.credential())
    newer = [(await pairs.get(2)).has_newer]
    await people.put_unproven(2, values.credential())
    newer += [(await store.get(2)).has_newer for store in (pairs, beside)]
    await beside.mark_refused(2, version=(await beside.get(2)).version, shown_until=NOW)
    newer.append((await pairs.get(2)).has_newer)

    assert newer == [False, True, False, False]


async def test_a_lease_is_refused_when_another_process_had_one_since_the_guild_was_read(
    database: store_database.Database,
) -> None:
    """Also when that one has ended: both would have the same fencing token."""
    await database["guilds"].insert_one({"_id": 1, "version": 5, "fence": 7, "fetched_at": NOW - 5, **EARLIER})
    store = guilds.Guilds(database)
    read = store._guilds.find_one

    class Between:
        async def find_one(self, *given: Any) -> Any:  # noqa: ANN401 -- motor's
            row = await read(*given)
            await database["guilds"].update_one({}, {"$set": {"fence": 8}})
            return row

        async def update_one(self, *given: Any) -> Any:  # noqa: ANN401 -- motor's
            return await database["guilds"].update_one(*given)

    store._guilds = Between()

    assert await store.acquire_lease(1, now=NOW, until=NOW + 9, fetched_before=NOW) is None


async def test_each_guild_keeps_its_own_channels_when_several_are_purged(database: store_database.Database) -> None:
    """Also guilds of one version: what left before the moment is erased, and all of a guild without our bot."""
    store = guilds.Guilds(database)
    for number in (1, 2, 3):
        await store.upsert_guilds([values.user_guild(number)], {number})
        for rows, later in (([1, 2], 0.0), ([1], 1.0)):
            fence = await store.acquire_lease(number, now=NOW + later, until=NOW + 9, fetched_before=NOW + later)
            channels = [values.channel(10 * number + row, number) for row in rows]
            await stored.channels(store, number, fence=fence or 0, channels=channels, now=NOW + later)
    await store.mark_bot_removed([3], NOW + 1)
    await database["guilds"].update_many({}, {"$set": {"version": 5, "looked_at": NOW + 9, "fingerprint": "print"}})

    erased = await store.purge(NOW + 2)

    found = await store.load([1, 2])
    assert {key: ([row.channel_id for row in each.channels], each.gone) for key, each in found.items()} == {
        1: ([11], ()),
        2: ([21], ()),
    }
    removed = await database["guilds"].find_one({"_id": 3})
    assert (removed["channels"], removed["activity"], removed["fingerprint"]) == (b"", b"", "")
    assert erased == 1 + 1 + 2


async def test_an_ended_job_is_not_overdue(database: store_database.Database) -> None:
    """However long ago, or far ahead, its next turn was due."""
    store = jobs.Jobs(database, retention=3600.0)
    for number, due in enumerate((NOW - 9, NOW, NOW + 3600, NOW + 3601, NOW - 9, NOW + 3601)):
        state = model.JobState.RUNNING if number < 4 else model.JobState.FAILED
        await store.create_or_join(values.job(str(number), user_id=number, next_turn_at=due, state=state))

    assert [job.job_id for job in await store.list_overdue(NOW, 10)] == ["0", "3"]
    assert [job.job_id for job in await store.list_overdue(NOW, 1)] == ["0"]


async def test_other_processes_hear_of_what_shows_a_user_more_or_less(database: store_database.Database) -> None:
    """Not of locks and renewals, nor of changes that were refused."""
    told: list[int] = []
    pairs = credentials.Credentials(database, SAFE, announce=told.extend)
    people = users.Users(database, SAFE, announce=told.extend)
    for _ in range(2):
        await people.put_credential(2, values.credential())

    async def mark() -> str:
        return str((await database["users"].find_one({}))["mark"])

    counts = [len(told)]
    locked = await pairs.lock(2, version=await mark(), now=NOW, until=NOW + 9)
    await pairs.store_renewed(2, version=locked or "", credential=values.credential(), proven=True)
    await pairs.mark_refused(2, version="another", shown_until=NOW)
    counts.append(len(told))
    for change in (
        pairs.mark_refused(2, version=await mark(), shown_until=NOW),
        pairs.mark_proven(2, version=await mark(), credential=values.credential()),
    ):
        await change
        counts.append(len(told))
    await pairs.reject(2, version=await mark())
    await pairs.delete(2, shown_until=NOW)
    counts.append(len(told))

    assert counts == [2, 2, 3, 4, 6]
    assert set(told) == {2}


async def test_a_roster_without_a_user_is_erased_unless_it_grows_meanwhile(database: store_database.Database) -> None:
    """A list that is stored at that moment wrote it again: nothing would name its guilds otherwise."""
    await database["rosters"].insert_one({"_id": 2, "guild_ids": [7], "mark": b"a"})
    data = erasure.MongoUserData(database)
    grow = {"$set": {"mark": b"b"}, "$addToSet": {"guild_ids": 8}}
    data._rosters = Meanwhile(database["rosters"], lambda: database["rosters"].update_one({}, grow))

    await data.erase_roster(2)
    kept = await database["rosters"].find_one({"_id": 2})
    await erasure.MongoUserData(database).erase_roster(2)

    assert kept["guild_ids"] == [7, 8]
    assert await database["rosters"].find_one({"_id": 2}) is None
