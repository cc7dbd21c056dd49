"""What the stores over rows promise besides the ports: the release before reads and writes beside them."""

from typing import Any

import pytest

from indexing.domain import model, permissions, ports, reasons
from indexing.store import database, guilds, jobs, schema, users
from tests import clockwork, stored, values
from tests.contract import moving, test_listings

NOW = clockwork.START
GUILD, USER = values.GUILD, values.USER
KEY = f"{USER}:{GUILD}"


@pytest.fixture
async def process(database: database.Database) -> moving.Stores:
    """The stores of a process of this release."""
    await schema.open_schema(database, "rows")
    return moving.of_rows(database)


GROWTH = next(
    mark.args[1]
    for mark in test_listings.test_the_version_grows_exactly_when_something_shown_changes.pytestmark  # type: ignore[attr-defined]
)


@pytest.mark.parametrize(("step", "growth"), GROWTH)
async def test_a_guild_has_another_version_exactly_when_something_shown_changes(
    process: moving.Stores, step: test_listings.Step, growth: int
) -> None:
    """It is computed from what is shown, because the release before writes none; two changes take each other back."""
    await process.guilds.upsert_guilds([values.user_guild(GUILD, name="first", icon="a")], {GUILD})
    before = await test_listings.fetched(process.guilds, [values.channel(1)])

    await step(process.guilds)

    assert ((await test_listings.indexed(process.guilds)).version != before.version) == (growth == 1)


async def test_a_user_has_another_version_when_something_that_decides_what_is_shown_changes(
    process: moving.Stores,
) -> None:
    """Whichever release changes it; a view changes nothing."""
    versions = []

    async def note() -> None:
        user = await stored.user(process.users, USER)
        assert await process.users.versions([USER]) == {USER: user.version}
        versions.append(user.version)

    await note()
    await stored.guild_list(process.users, USER, [values.user_guild()], NOW)
    await note()
    await process.users.mark_viewed(USER, GUILD, NOW)
    await note()
    await stored.roles(process.users, USER, GUILD, [5], NOW + 1)
    await note()
    await stored.left(process.users, USER, GUILD)
    await note()
    await process.users.put_preferences(USER, model.Preferences(muted=(GUILD,)))
    await note()

    assert versions[1] == versions[2]
    assert len(set(versions)) == 5


async def test_the_release_before_finds_its_fields_when_this_one_writes(
    process: moving.Stores, database: database.Database
) -> None:
    """Rows as it writes them, with the error and the score that it requires."""
    await process.guilds.upsert_guilds([values.user_guild()], {GUILD})
    overwrites = (values.denied(5), values.allowed(USER, 1), model.Overwrite(6, 0, values.VIEW, values.VIEW))
    rows = [values.channel(1, overwrites=overwrites), values.channel(2)]
    assert await moving.listed(process.guilds, GUILD, rows, at=NOW)
    assert await moving.listed(process.guilds, GUILD, rows[:1], at=NOW + 1)
    await stored.guild_list(process.users, USER, [values.user_guild()], NOW)
    await stored.roles(process.users, USER, GUILD, [5], NOW + 1)
    job, _ = await process.jobs.create_or_join(values.job())
    await process.jobs.add_tasks(job, [values.task(reason="MUTED")])

    first, second = await database["channels"].find({}).sort("_id", 1).to_list(None)
    member = await database["memberships"].find_one({})
    unit = await database["units"].find_one({})

    assert first["overwrites"] == [[5, 0, 0, values.VIEW], [6, 0, values.VIEW, values.VIEW], [USER, 1, values.VIEW, 0]]
    assert (first["gone_at"], first["fence"] > 0, first["guild_id"]) == (None, True, GUILD)
    assert (second["gone_at"], second["gone_why"]) == (NOW + 1, reasons.HIDDEN_OR_DELETED)
    known: dict[str, Any] = {"_id": KEY, "user_id": USER, "guild_id": GUILD, "owner": False, "left_at": None}
    assert member.items() >= {**known, "permissions": values.VIEW, "roles_at": NOW + 1}.items()
    assert member["role_ids"] == [5]
    assert (unit["_id"], unit["error"], unit["score"]) == (f"{job.job_id}:{GUILD}", "MUTED", 0.0)
    assert unit.keys() >= {"expires_at", "job_id", "name", "state", "step", "position", "revision"}


async def test_rows_are_left_as_they_are_when_only_other_permissions_are_not_kept(
    process: moving.Stores, database: database.Database
) -> None:
    """The release before stores whole overwrites: the two would write them again and again."""
    await process.guilds.upsert_guilds([values.user_guild()], {GUILD})
    whole = [[5, 0, 1 << 30, values.VIEW | 1], [7, 0, 1, 2]]
    assert await moving.listed(process.guilds, GUILD, [values.channel(1)], at=NOW)
    await database["channels"].update_one({"_id": 1}, {"$set": {"overwrites": whole}})
    before = await database["channels"].find_one({})

    rows = [values.channel(1, overwrites=(values.denied(5),))]
    assert await moving.listed(process.guilds, GUILD, rows, at=NOW + 1)

    assert await database["channels"].find_one({}) == before
    assert (await process.guilds.load([GUILD]))[GUILD].channels == tuple(rows)


OLD_WRITES: dict[str, dict[str, Any]] = {
    "roles": {"role_ids": [9], "roles_at": NOW + 2},
    "other rights": {"permissions": 0, "roles_at": None},
    "departure": {"left_at": NOW + 2, "role_ids": None, "roles_at": None, "looked_at": None},
}


@pytest.mark.parametrize("change", OLD_WRITES.values(), ids=OLD_WRITES)
async def test_a_late_answer_changes_nothing_when_the_release_before_has_written(
    process: moving.Stores, database: database.Database, change: dict[str, Any]
) -> None:
    """It writes no moment of its own, but what it writes differs from what was known."""
    await stored.guild_list(process.users, USER, [values.user_guild()], NOW)
    await stored.roles(process.users, USER, GUILD, [5], NOW + 1)
    known = await stored.member(process.users, USER, GUILD)
    assert known is not None
    await database["memberships"].update_one({"_id": KEY}, {"$set": change})
    before = await database["memberships"].find_one({})

    written = [await process.users.store_roles(known, [6], NOW + 3), await process.users.mark_left(known)]

    assert written == [False, False]
    assert await database["memberships"].find_one({}) == before


async def test_a_list_of_the_release_before_wins_when_it_came_between(
    process: moving.Stores, database: database.Database
) -> None:
    """It stores the moment of the list, which this one compares."""
    known = await stored.user(process.users, USER)
    await database["users"].update_one({"_id": USER}, {"$set": {"listed_at": NOW + 1}})

    assert not await process.users.replace_guild_list(known, [values.user_guild()], NOW + 2)

    assert await database["memberships"].find_one({}) is None


async def test_documents_are_whole_when_only_this_release_wrote(
    process: moving.Stores, database: database.Database
) -> None:
    """So that whatever is written around the end of a migration is in the documents."""
    await process.guilds.upsert_guilds([values.user_guild()], {GUILD})
    for later, rows in enumerate(([values.channel(1), values.channel(2)], [values.channel(2, last_message_id=7)])):
        assert await moving.listed(process.guilds, GUILD, rows, at=NOW + later)
    await stored.guild_list(process.users, USER, [values.user_guild()], NOW)
    await stored.roles(process.users, USER, GUILD, [5], NOW + 1)
    job, _ = await process.jobs.create_or_join(values.job())
    await process.jobs.add_tasks(job, [values.task()])
    await process.jobs.write_tasks(job, [values.task(revision=9)])

    indexed = (await guilds.Guilds(database).load([GUILD]))[GUILD]
    user = await users.Users(database, moving.VAULT).load(USER)

    in_rows = (await process.guilds.load([GUILD]))[GUILD]
    assert (indexed.guild, indexed.channels, indexed.gone) == (in_rows.guild, in_rows.channels, in_rows.gone)
    expected = await process.users.load(USER)
    assert user is not None
    assert expected is not None
    assert (user.memberships, user.listed_at) == (expected.memberships, expected.listed_at)
    store: ports.Jobs = jobs.Jobs(database, retention=1.0)
    assert await store.load(job.job_id) == await process.jobs.load(job.job_id)


async def test_rows_are_counted_when_a_user_is_counted(process: moving.Stores) -> None:
    """Beside the documents."""
    await process.guilds.upsert_guilds([values.user_guild()], {GUILD})
    await moving.listed(process.guilds, GUILD, [values.channel(1)], at=NOW)
    await stored.guild_list(process.users, USER, [values.user_guild()], NOW)
    job, _ = await process.jobs.create_or_join(values.job())
    await process.jobs.add_tasks(job, [values.task()])

    counts = {name: count for name, count in (await process.user_data.count(USER)).items() if count}

    assert counts == dict.fromkeys(("users", "rosters", "jobs", "guilds", "memberships", "units", "channels"), 1)


async def test_a_guild_is_kept_when_only_a_row_names_its_member(
    process: moving.Stores, database: database.Database
) -> None:
    """The release before writes no rosters."""
    await process.guilds.upsert_guilds([values.user_guild()], {GUILD})
    await moving.listed(process.guilds, GUILD, [values.channel(1)], at=NOW)
    await database["memberships"].insert_one({"_id": KEY, "user_id": USER, "guild_id": GUILD, "left_at": None})

    kept = await process.guilds.purge(NOW + 9)
    await process.user_data.erase_guilds([GUILD], but=USER + 1)
    await database["memberships"].delete_many({})
    purged = await process.guilds.purge(NOW + 9)

    assert (kept, purged) == (0, 1)
    assert await database["channels"].find_one({}) is None


async def test_a_guild_is_fetched_again_when_its_lease_was_lost_in_the_act_of_writing(
    process: moving.Stores, database: database.Database
) -> None:
    """Older rows may have been left; those of a guild that was erased are taken back."""
    await process.guilds.upsert_guilds([values.user_guild()], {GUILD})
    guild = (await process.guilds.get([GUILD]))[GUILD]
    fence = await process.guilds.acquire_lease(GUILD, now=NOW, until=NOW + 25, fetched_before=NOW)
    assert fence is not None
    store: Any = process.guilds
    real = store._writer.update

    async def late(wanted: database.Document, update: database.Document) -> bool:
        await database["guilds"].update_one({"_id": GUILD}, {"$inc": {"fence": 1}, "$set": {"fetched_at": NOW}})
        return bool(await real(wanted, update))

    store._writer.update = late
    stored_it = await store.store_channels(GUILD, model.Listing(fence, [values.channel(1)], NOW, known=guild))
    assert (stored_it, (await store.get([GUILD]))[GUILD].fetched_at) == (False, None)

    async def erased(wanted: database.Document, update: database.Document) -> bool:
        await database["guilds"].delete_many({})
        return bool(await real(wanted, update))

    store._writer.update = erased
    listing = model.Listing(fence + 1, [values.channel(2)], NOW, known=guild)
    assert not await store.store_channels(GUILD, listing)
    assert await database["channels"].find_one({}) is None


async def test_a_guild_comes_back_when_the_release_before_lists_it_in_the_act_of_erasing(
    process: moving.Stores, database: database.Database
) -> None:
    """It found the guild and stored none; it is unread then, and a fetch under way is late."""
    await process.guilds.upsert_guilds([values.user_guild()], {GUILD})
    fence = await process.guilds.acquire_lease(GUILD, now=NOW, until=NOW + 25, fetched_before=NOW)
    assert fence is not None
    guild = (await process.guilds.get([GUILD]))[GUILD]
    gone: Any = process.user_data
    real = gone._channels.delete_many
    row = {"_id": KEY, "user_id": USER, "guild_id": GUILD, "left_at": None}

    class Late:
        async def delete_many(self, wanted: database.Document) -> None:
            await database["memberships"].insert_one(row)
            await real(wanted)

    gone._channels = Late()
    await gone.erase_guilds([GUILD], but=USER + 1)

    found = (await process.guilds.get([GUILD]))[GUILD]
    assert (found.name, found.fetched_at) == (guild.name, None)
    listing = model.Listing(fence, [values.channel(1)], NOW, known=guild)
    assert not await process.guilds.store_channels(GUILD, listing)


@pytest.mark.parametrize(
    "overwrites",
    [
        pytest.param(None, id="null"),
        pytest.param([[GUILD, 0, 0, values.VIEW], [GUILD, 0, values.VIEW, 0]], id="one-target-twice"),
        pytest.param([[5, 2, 0, values.VIEW]], id="unknown-kind-denies"),
    ],
)
async def test_a_row_is_sealed_when_its_overwrites_are_unreliable(
    process: moving.Stores, database: database.Database, overwrites: list[list[int]] | None
) -> None:
    """The release before stores overwrites as they come; only owners and administrators see such a channel."""
    await process.guilds.upsert_guilds([values.user_guild()], {GUILD})
    await test_listings.fetched(process.guilds, [values.channel(1)])

    await database["channels"].update_one({"_id": 1}, {"$set": {"overwrites": overwrites}})

    (row,) = await stored.list_channels(process.guilds, [GUILD])
    assert row.overwrites == permissions.sealed(GUILD)
