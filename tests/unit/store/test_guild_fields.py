"""A guild's document, field by field: what each write leaves, and how a document with missing fields is read."""

from collections.abc import Collection
from typing import Any

import pytest

from indexing.domain import model
from indexing.store import database as store_database
from indexing.store import guild_documents, guilds
from tests import clockwork, stored, values

NOW = clockwork.START
GUILD = values.GUILD
LISTED = {"_id": GUILD, "name": "guild", "icon": "icon", "people": 70, "access": "INSTALLED", "schema": 2}
"""What a guild list says about the guild of these tests."""
NEVER_READ = {"lease_until": 0.0, "fetched_at": None, "looked_at": None, "next_refresh_at": 0.0}
"""What stands beside it until the channels are read."""


async def document(database: store_database.Database, *without: str) -> dict[str, Any]:
    """Return the guild's document without some fields."""
    (row,) = await database["guilds"].find({}).to_list(None)
    return {name: value for name, value in row.items() if name not in {"by", *without}}


async def listed(database: store_database.Database, **given: Any) -> guilds.Guilds:  # noqa: ANN401 -- any argument
    """Return a store with one guild of a user's list."""
    store = guilds.Guilds(database)
    row = values.user_guild(name="guild", icon="icon", member_count=90, presence_count=70)
    await store.upsert_guilds([row], {GUILD}, **given)
    return store


async def leased(store: guilds.Guilds) -> int:
    """Acquire the lease of the guild; returns the fencing token."""
    fence = await store.acquire_lease(GUILD, now=NOW, until=NOW + 25, fetched_before=NOW)
    assert fence is not None
    return fence


async def fetched(store: guilds.Guilds, now: float = NOW) -> None:
    """Store a listing of two channels."""
    schedule = model.Schedule(NOW + 900, 900.0, NOW - 5, "print", 0)
    rows = [values.channel(2, last_message_id=9), values.channel(1)]
    assert await stored.channels(store, GUILD, fence=await leased(store), channels=rows, now=now, schedule=schedule)


async def test_a_new_guild_has_no_listing_no_lease_and_no_demand(database: store_database.Database) -> None:
    """Version and fence begin with the same number, above that of any earlier document of the guild."""
    await listed(database)

    row = await document(database)
    assert row.pop("version") == row.pop("fence")
    assert row == LISTED | NEVER_READ


@pytest.mark.parametrize(("installed", "looked_at"), [({GUILD}, NOW), (None, NOW), ((), None)])
async def test_a_new_guild_waits_for_its_viewer_unless_our_bot_is_not_in_it(
    database: store_database.Database, installed: Collection[int] | None, looked_at: float | None
) -> None:
    """One user waits for it, which makes it urgent; a guild that cannot be read is waited for by nobody."""
    await guilds.Guilds(database).upsert_guilds([values.user_guild()], installed, viewed_at=NOW)

    row = await document(database)
    assert (row["looked_at"], row.get("waiting", 0)) == (looked_at, 0 if looked_at is None else 1)


async def test_a_listing_sets_every_field_that_says_how_the_guild_is(database: store_database.Database) -> None:
    """An earlier refusal, its count and the demand are over."""
    store = await listed(database)
    await store.mark_refused(GUILD, fence=await leased(store), error="MISSING_ACCESS", now=NOW - 9, retry_at=NOW - 1)
    await store.mark_viewed([], NOW, waiting=[GUILD, GUILD])

    await fetched(store)

    row = await document(database, "version", "fence", "channels", "activity")
    assert row == LISTED | {
        "lease_until": 0.0,
        "fetched_at": NOW,
        "looked_at": None,
        "next_refresh_at": NOW + 900,
        "error": "",
        "retry_at": 0.0,
        "refusals": 0,
        "refused_at": 0.0,
        "waiting": 0,
        "channel_count": 2,
        "newest_message_id": 9,
        "interval": 900.0,
        "changed_at": NOW - 5,
        "fingerprint": "print",
        "failures": 0,
        "oldest_gone_at": 0.0,
    }


async def test_a_removal_of_our_bot_hides_the_channels_and_ends_the_fetch(database: store_database.Database) -> None:
    """Readers see another version, and a fetch in progress has lost its lease."""
    store = await listed(database)
    await fetched(store)
    fence = await store.acquire_lease(GUILD, now=NOW + 1, until=NOW + 25, fetched_before=NOW + 1)
    before = await document(database)

    await store.mark_bot_removed([GUILD], NOW + 2)

    assert fence == before["fence"]
    assert await document(database) == before | {
        "access": "NOT_INSTALLED",
        "error": "BOT_REMOVED",
        "fetched_at": None,
        "channel_count": 0,
        "newest_message_id": None,
        "next_refresh_at": 0.0,
        "lease_until": 0.0,
        "oldest_gone_at": NOW + 2,
        "fence": before["fence"] + 1,
        "version": before["version"] + 1,
    }


async def test_a_removal_changes_nothing_when_the_guild_was_listed_at_a_later_moment(
    database: store_database.Database,
) -> None:
    """The list of the bot's guilds that misses it is older than the listing; one of the same moment is not."""
    store = await listed(database)
    await fetched(store)

    await store.mark_bot_removed([GUILD], NOW - 1)
    kept = await document(database)
    await store.mark_bot_removed([GUILD], NOW)

    assert kept["access"] == "INSTALLED"
    assert (await document(database))["access"] == "NOT_INSTALLED"


async def test_a_refusal_is_counted_and_ends_lease_demand_and_refreshes(database: store_database.Database) -> None:
    """The guild is read again when a user asks for it after the refusal has expired."""
    store = await listed(database)
    await fetched(store)
    fence = await store.acquire_lease(GUILD, now=NOW + 1, until=NOW + 25, fetched_before=NOW + 1)
    await store.mark_viewed([], NOW, waiting=[GUILD])
    before = await document(database)

    await store.mark_refused(GUILD, fence=fence or 0, error="MISSING_ACCESS", now=NOW + 2, retry_at=NOW + 60)

    assert await document(database) == before | {
        "access": "DENIED",
        "error": "MISSING_ACCESS",
        "retry_at": NOW + 60,
        "refused_at": NOW + 2,
        "refusals": 1,
        "next_refresh_at": 0.0,
        "waiting": 0,
        "lease_until": 0.0,
        "version": before["version"] + 1,
    }


@pytest.mark.parametrize(("failures", "more"), [(0, 0), (1, 1), (2, 0)])
async def test_readers_get_a_new_version_when_the_first_of_several_fetches_failed(
    database: store_database.Database, failures: int, more: int
) -> None:
    """Only the first changes what is shown; the schedule is stored with each, and the lease ends."""
    store = await listed(database)
    fence = await leased(store)
    before = await document(database)

    schedule = model.Schedule(NOW + 7, 5.0, NOW - 3, "print", failures)
    await store.release_lease(GUILD, fence=fence, schedule=schedule)

    assert await document(database) == before | {
        "lease_until": 0.0,
        "next_refresh_at": NOW + 7,
        "interval": 5.0,
        "changed_at": NOW - 3,
        "fingerprint": "print",
        "failures": failures,
        "version": before["version"] + more,
    }


async def test_a_lease_is_a_higher_fencing_token_and_its_end(database: store_database.Database) -> None:
    """It changes nothing else: readers see no new version."""
    store = await listed(database)
    before = await document(database)

    fence = await leased(store)

    assert fence == before["fence"] + 1
    assert await document(database) == before | {"fence": fence, "lease_until": NOW + 25}


async def test_a_lease_is_granted_when_a_document_has_no_fencing_token(database: store_database.Database) -> None:
    """Tokens count from one."""
    await database["guilds"].insert_one({"_id": GUILD})

    assert await leased(guilds.Guilds(database)) == 1


@pytest.mark.parametrize(("view_at", "recorded_at"), [(NOW + 299, NOW), (NOW + 300, NOW + 300), (NOW + 400, NOW + 400)])
async def test_a_view_is_recorded_when_the_last_one_is_five_minutes_old(
    database: store_database.Database, view_at: float, recorded_at: float
) -> None:
    """Each view would be a write."""
    store = await listed(database, viewed_at=NOW)

    await store.mark_viewed([GUILD], view_at)

    row = await document(database)
    assert (row["looked_at"], row["waiting"]) == (recorded_at, 1)


def test_a_guild_of_which_only_the_id_is_stored_is_one_that_nobody_has_fetched() -> None:
    """A document of an older release may miss any field."""
    row = {"_id": GUILD}

    assert guild_documents.guild_of(row) == model.Guild(
        guild_id=GUILD,
        name="",
        icon=None,
        member_count=None,
        access=model.Access.UNKNOWN,
        fetched_at=None,
        newest_message_id=None,
        channel_count=0,
        reason="",
        retry_at=0.0,
        lease_until=0.0,
        refusals=0,
        refused_at=0.0,
        last_viewed_at=None,
        demand=0,
        schedule=model.Schedule(0.0, 0.0, None, "", 0),
        fed_by="",
    )
    assert guild_documents.indexed_of(row).version == 0
    assert guild_documents.indexed_of(row | {"fetched_at": NOW, "channels": b""}).version == 0


async def test_the_versions_of_a_guild_are_zero_when_only_its_id_is_stored(database: store_database.Database) -> None:
    """A cached guild is never taken for one that was not stored with a version."""
    await database["guilds"].insert_one({"_id": GUILD})

    assert await guilds.Guilds(database).versions([GUILD]) == {GUILD: model.GuildVersion(0, None, 0.0)}


async def test_channels_that_left_a_month_ago_are_dropped_by_a_listing(database: store_database.Database) -> None:
    """Thirty days unless the settings say otherwise."""
    store = await listed(database)
    known = (await store.load([GUILD]))[GUILD].guild
    ages = {1: 30 * 86_400.0 - 1, 2: 30 * 86_400.0, 3: 31 * 86_400.0}
    gone = tuple(model.GoneChannel(number, 0, NOW - age, "DELETED") for number, age in ages.items())

    await store.store_channels(GUILD, model.Listing(await leased(store), [], NOW, known=known, gone=gone))

    assert [one.channel_id for one in (await store.load([GUILD]))[GUILD].gone] == [1]
    assert (await document(database))["oldest_gone_at"] == NOW - ages[1]
