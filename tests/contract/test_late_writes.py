"""
What a write changes that is delivered late, after a newer one: nothing.

Each case keeps one write on its way to the server, does what happens meanwhile, and compares all documents before and
after the delivery. Decision 39 has the table of all writes.
"""

import asyncio
import contextlib
import dataclasses
import datetime
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from indexing import errors, settings
from indexing.domain import model
from indexing.store import credentials, erasure, guilds, jobs, tombstones, users
from indexing.store import database as store_database
from tests import stored, values
from tests.contract import late

KEY = b"k" * settings.KEY_BYTES
NOW = 3_500_000_000.0
USER, GUILD = values.USER, values.GUILD
COLLECTIONS = ("users", "rosters", "guilds", "jobs")
NEWER = values.credential(access_token="newer")


@dataclasses.dataclass(frozen=True, slots=True)
class Stores:
    """One of each, over one database."""

    users: users.Users
    pairs: credentials.Credentials
    unproven: credentials.Credentials
    guilds: guilds.Guilds
    user_data: erasure.MongoUserData
    jobs: jobs.Jobs

    @classmethod
    def over(cls, db: store_database.Database) -> "Stores":
        """Return the stores of a process."""
        safe = credentials.Vault((KEY,))
        return cls(
            users.Users(db, safe),
            credentials.Credentials(db, safe),
            credentials.Credentials(db, safe, slot=credentials.UNPROVEN),
            guilds.Guilds(db),
            erasure.MongoUserData(db),
            jobs.Jobs(db, retention=3600.0),
        )


Step = Callable[[Stores], Coroutine[Any, Any, object]]


@pytest.fixture
async def db(empty: store_database.Database) -> store_database.Database:
    """A database with a user in one guild, whose channels and roles are read."""
    now = Stores.over(empty)
    await now.users.put_credential(USER, values.credential())
    await now.guilds.upsert_guilds([values.user_guild(GUILD)], {GUILD})
    await stored.guild_list(now.users, USER, [values.user_guild(GUILD)], NOW)
    await stored.roles(now.users, USER, GUILD, (5,), NOW + 1)
    await list_channels(now, NOW + 2)
    return empty


async def documents(db: store_database.Database) -> dict[str, list[dict[str, Any]]]:
    """Return all documents."""
    return {name: await db[name].find({}).sort("_id", 1).to_list(None) for name in COLLECTIONS}


async def list_channels(now: Stores, at: float, *channel_ids: int) -> bool:
    """Read and store a guild's channels."""
    known = (await now.guilds.get([GUILD]))[GUILD]
    fence = await now.guilds.acquire_lease(GUILD, now=at, until=at + 10, fetched_before=at)
    assert fence is not None
    schedule = model.Schedule(next_at=at + 60, interval=60.0, changed_at=at, fingerprint=f"of {at} {channel_ids}")
    rows = [values.channel(key, GUILD) for key in channel_ids or (GUILD + 1,)]
    return await now.guilds.store_channels(GUILD, model.Listing(fence, rows, at, schedule, known))


async def member(now: Stores) -> model.Membership:
    """Return the membership as it is stored."""
    found = await values.stored_membership(now.users, USER, GUILD)
    assert found is not None
    return found


async def version_of(pairs: credentials.Credentials) -> str | None:
    """Return the version of a pair."""
    return (await pairs.get(USER)).version


# What is written late: each loads first what a process knows before it asks, and writes then.


async def write_roles(old: Stores) -> object:
    """Store roles."""
    return await old.users.store_roles(await member(old), (6,), NOW + 10)


async def write_left(old: Stores) -> object:
    """End the membership."""
    return await old.users.mark_left(await member(old))


async def write_list(old: Stores) -> object:
    """Store a list with other rights."""
    return await stored.guild_list(old.users, USER, [values.user_guild(GUILD, owner=True)], NOW + 10)


async def write_other_list(old: Stores) -> object:
    """Store a list with another guild."""
    return await stored.guild_list(old.users, USER, [values.user_guild(GUILD), values.user_guild(9)], NOW + 10)


async def write_preferences(old: Stores) -> None:
    """Pin a guild."""
    await old.users.put_preferences(USER, model.Preferences(pinned=(1,)))


async def put(old: Stores) -> object:
    """Store a proven pair."""
    return await old.users.put_credential(USER, values.credential(access_token="late"))


async def put_unproven(old: Stores) -> object:
    """Store a pair that is not proven."""
    return await old.users.put_unproven(USER, values.credential(access_token="late"))


async def delete(old: Stores) -> object:
    """Delete both pairs."""
    return await old.pairs.delete(USER, shown_until=NOW)


async def doubt(old: Stores) -> None:
    """Note a first refusal."""
    held = await old.pairs.get(USER)
    await old.pairs.mark_doubted(USER, version=held.version, doubts=held.doubts, at=NOW)


async def refuse(old: Stores) -> object:
    """End the consent."""
    return await old.pairs.mark_refused(USER, version=await version_of(old.pairs), shown_until=NOW)


async def reject(old: Stores) -> object:
    """Erase the pair as another user's."""
    return await old.pairs.reject(USER, version=await version_of(old.pairs))


async def lock(old: Stores) -> object:
    """Lock the pair."""
    return await old.pairs.lock(USER, version=await version_of(old.pairs), now=NOW, until=NOW + 9)


async def unlock(old: Stores) -> None:
    """Unlock the pair."""
    await old.pairs.unlock(USER, version=await version_of(old.pairs) or "", until=NOW + 9)


async def renew(old: Stores) -> object:
    """Store a renewed pair."""
    late_pair = values.credential(access_token="late")
    return await old.pairs.store_renewed(
        USER, version=await version_of(old.pairs) or "", credential=late_pair, proven=True
    )


async def erase_user(old: Stores) -> None:
    """Erase the user."""
    await old.user_data.erase_user(USER)


async def erase_roster(old: Stores) -> None:
    """Erase the roster."""
    await old.user_data.erase_roster(USER)


async def erase_guilds(old: Stores) -> None:
    """Erase the guild as one without members."""
    await old.user_data.erase_guilds([GUILD], but=USER)


async def write_name(old: Stores) -> object:
    """Rename the guild."""
    return await old.guilds.upsert_guilds([values.user_guild(GUILD, name="late")], {GUILD})


async def remove_bot(old: Stores) -> None:
    """Record that the bot is gone."""
    await old.guilds.mark_bot_removed([GUILD], NOW + 50)


async def store_listing(old: Stores) -> object:
    """Store a listing without channels."""
    known = (await old.guilds.get([GUILD]))[GUILD]
    fence = int((await old.guilds._guilds.find_one({"_id": GUILD}))["fence"])
    return await old.guilds.store_channels(GUILD, model.Listing(fence, [], NOW + 3, known.schedule, known))


async def refuse_guild(old: Stores) -> None:
    """Record a refusal."""
    fence = int((await old.guilds._guilds.find_one({"_id": GUILD}))["fence"])
    await old.guilds.mark_refused(GUILD, fence=fence, error="NO_ACCESS", now=NOW, retry_at=NOW + 60)


async def release(old: Stores) -> None:
    """End the lease after a failure."""
    fence = int((await old.guilds._guilds.find_one({"_id": GUILD}))["fence"])
    await old.guilds.release_lease(GUILD, fence=fence, schedule=model.Schedule(failures=1))


# What happens meanwhile.


async def newer_roles(now: Stores) -> object:
    """Other roles are stored."""
    return await stored.roles(now.users, USER, GUILD, (7,), NOW + 20)


async def newer_list(now: Stores) -> object:
    """A list without changes is stored."""
    return await stored.guild_list(now.users, USER, [values.user_guild(GUILD)], NOW + 20)


async def newer_preferences(now: Stores) -> None:
    """Another guild is pinned."""
    await now.users.put_preferences(USER, model.Preferences(pinned=(2,)))


async def preferences_and_back(now: Stores) -> None:
    """The same guild is pinned, and unpinned."""
    await now.users.put_preferences(USER, model.Preferences(pinned=(1,)))
    await now.users.put_preferences(USER, model.Preferences())


async def newer_login(now: Stores) -> object:
    """Another proven pair is stored."""
    return await now.users.put_credential(USER, NEWER)


async def newer_unproven(now: Stores) -> object:
    """Another pair is stored that is not proven."""
    return await now.users.put_unproven(USER, NEWER)


async def revoked(now: Stores) -> object:
    """Both pairs are deleted."""
    return await now.pairs.delete(USER, shown_until=NOW + 1)


async def erased(now: Stores) -> None:
    """The user is erased."""
    await now.user_data.erase_user(USER)
    await now.user_data.erase_roster(USER)


async def returned(now: Stores) -> object:
    """The user is erased and comes back."""
    await erased(now)
    await newer_login(now)
    return await stored.guild_list(now.users, USER, [values.user_guild(GUILD)], NOW + 30)


async def doubted_and_accepted(now: Stores) -> None:
    """A first refusal is noted and forgotten."""
    await doubt(now)
    held = await now.pairs.get(USER)
    await now.pairs.mark_doubted(USER, version=held.version, doubts=held.doubts, at=0.0)


async def newer_guild(now: Stores) -> object:
    """A list with another guild is stored."""
    return await write_other_list(now)


async def newer_listing(now: Stores) -> object:
    """The channels are read again."""
    return await list_channels(now, NOW + 60, GUILD + 2)


async def newer_name(now: Stores) -> object:
    """The guild is renamed."""
    return await now.guilds.upsert_guilds([values.user_guild(GUILD, name="newer")], {GUILD})


async def bot_removed(now: Stores) -> None:
    """The bot is removed."""
    await remove_bot(now)


async def viewed(now: Stores) -> None:
    """Somebody views the guild."""
    await now.guilds.mark_viewed([GUILD], NOW + 200)


CASES: list[tuple[str, Step, Step]] = [
    *(("users", write, meanwhile) for write in (write_roles, write_left) for meanwhile in (newer_roles, erased)),
    *(("users", write_list, meanwhile) for meanwhile in (newer_list, erased, returned)),
    *(("rosters", write_other_list, meanwhile) for meanwhile in (erased,)),
    *(
        ("users", write_preferences, meanwhile)
        for meanwhile in (newer_preferences, preferences_and_back, erased, returned)
    ),
    *(
        ("users", write, meanwhile)
        for write in (put, put_unproven)
        for meanwhile in (newer_login, newer_unproven, revoked, erased, returned)
    ),
    *(("users", delete, meanwhile) for meanwhile in (newer_login, newer_unproven, erased, returned)),
    *(("users", doubt, meanwhile) for meanwhile in (doubted_and_accepted, newer_login, erased)),
    *(
        ("users", write, meanwhile)
        for write in (refuse, reject, lock, unlock, renew)
        for meanwhile in (newer_login, revoked, erased, returned)
    ),
    ("users", erase_user, returned),
    *(("rosters", erase_roster, meanwhile) for meanwhile in (returned, newer_guild)),
    *(("guilds", write_name, meanwhile) for meanwhile in (newer_name, newer_listing, bot_removed)),
    ("guilds", remove_bot, newer_listing),
    *(("guilds", store_listing, meanwhile) for meanwhile in (newer_listing, bot_removed)),
    *(("guilds", write, newer_listing) for write in (refuse_guild, release)),
    *(("guilds", erase_guilds, meanwhile) for meanwhile in (newer_listing, viewed)),
]
"""The collection whose writes are late, the late write, and what happens meanwhile."""


@pytest.mark.parametrize(
    ("collection", "write", "meanwhile"), CASES, ids=[f"{write.__name__}-{then.__name__}" for _, write, then in CASES]
)
async def test_a_late_write_changes_nothing_when_another_came_between(
    db: store_database.Database, collection: str, write: Step, meanwhile: Step
) -> None:
    """No clock decides: the write names what was stored before, and that has changed."""
    on_its_way = late.LateDatabase(db, collection)
    async with asyncio.timeout(60):
        writing = asyncio.create_task(write(Stores.over(on_its_way)))
        await on_its_way.held.wait()
        await meanwhile(Stores.over(db))
        before = await documents(db)

        await on_its_way.deliver()
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)

    assert await documents(db) == before


@pytest.mark.parametrize("write", [put, put_unproven, write_preferences], ids=["put", "put_unproven", "preferences"])
async def test_a_late_first_write_recreates_no_user_when_they_were_erased(
    empty: store_database.Database, write: Step
) -> None:
    """They were unknown when it was sent; the erasure of an unknown user leaves a tombstone too."""
    on_its_way = late.LateDatabase(empty, "users")
    now = Stores.over(empty)
    async with asyncio.timeout(60):
        writing = asyncio.create_task(write(Stores.over(on_its_way)))
        await on_its_way.held.wait()
        await now.user_data.erase_user(USER)

        await on_its_way.deliver()
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)

    assert not await now.users.exists(USER)
    assert (await now.users.pair_versions(USER)).gone


@pytest.mark.parametrize(
    ("write", "shows"),
    [(put, {"late"}), (put_unproven, {"late", values.credential().access_token})],
    ids=["put", "put_unproven"],
)
async def test_a_write_takes_effect_when_nothing_came_between(
    db: store_database.Database, write: Step, shows: set[str]
) -> None:
    """The guard refuses only what is old."""
    now = Stores.over(db)

    assert await write(now)

    found = []
    for pairs in (now.pairs, now.unproven):
        with contextlib.suppress(errors.CredentialMissing):
            found.append((await pairs.get(USER)).credential.access_token)
    assert set(found) == shows


async def test_a_user_who_returns_is_stored_again_when_they_were_erased(db: store_database.Database) -> None:
    """With a version above all earlier ones, and nothing of what was erased."""
    now = Stores.over(db)
    before = (await now.users.versions([USER]))[USER]
    await erased(now)
    assert await now.users.versions([USER]) == {}

    assert await now.users.put_credential(USER, NEWER)
    assert await stored.guild_list(now.users, USER, [values.user_guild(9)], NOW + 30)

    user = await now.users.load(USER)
    assert user is not None
    assert user.version > before
    assert list(user.memberships) == [9]
    assert await now.user_data.list_guilds(USER) == [9]


async def test_tombstones_are_purged_when_they_are_a_day_old(db: store_database.Database) -> None:
    """Not those of users who have returned, and not younger ones."""
    now = Stores.over(db)
    await erased(now)
    await now.user_data.erase_user(USER + 1)
    assert await now.user_data.purge() == 0
    long_ago = tombstones.KEPT * 2
    await db["users"].update_many({}, {"$set": {"erased_at": datetime.datetime.now(tz=datetime.UTC) - long_ago}})
    await now.users.put_credential(USER + 1, NEWER)

    assert await now.user_data.purge() == 2

    assert [row["_id"] for row in await db["users"].find({}, {"_id": 1}).to_list(None)] == [USER + 1]
    assert await db["rosters"].find({}).to_list(None) == []
