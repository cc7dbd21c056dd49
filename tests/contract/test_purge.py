"""The purge of gone channels on a real server: in batches, and whatever fields a document has."""

import pytest

from indexing.domain import model
from indexing.store import database as store_database
from indexing.store import guilds
from tests import clockwork, stored, values

NOW = clockwork.START
LATER = NOW + 100


async def gone_in(database: store_database.Database, guild_ids: list[int]) -> guilds.Guilds:
    """Store guilds that have one channel left and one gone at NOW; one user is a member of all."""
    store = guilds.Guilds(database)
    await database["rosters"].insert_one({"_id": values.USER, "guild_ids": guild_ids})
    for guild_id in guild_ids:
        await store.upsert_guilds([values.user_guild(guild_id)], {guild_id})
        fence = await store.acquire_lease(guild_id, now=NOW, until=NOW, fetched_before=NOW)
        assert fence is not None
        gone = (model.GoneChannel(7, 0, NOW, "HIDDEN_OR_DELETED"),)
        schedule = model.Schedule(fingerprint="f")
        rows = [values.channel(guild_id * 10, guild_id)]
        assert await store.store_channels(guild_id, model.Listing(fence, rows, NOW, schedule, None, gone))
    return store


async def test_all_gone_channels_are_erased_when_there_are_more_guilds_than_a_batch_has(
    database: store_database.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Listed channels stay, and a second purge finds nothing."""
    monkeypatch.setattr(guilds, "FEW", 2)
    ids = [1, 2, 3, 4, 5]
    store = await gone_in(database, ids)

    assert [await store.purge(NOW), await store.purge(LATER), await store.purge(LATER)] == [0, 5, 0]

    found = await store.load(ids)
    assert {key: (len(one.channels), one.gone) for key, one in found.items()} == dict.fromkeys(ids, (1, ()))


async def test_a_document_without_channels_does_not_stop_the_purge(database: store_database.Database) -> None:
    """A head that was never copied from rows has a time of removal and no channels; the others are purged."""
    store = await gone_in(database, [1, 2, 3])
    await database["guilds"].update_one({"_id": 1}, {"$unset": {"channels": "", "activity": ""}})
    await database["guilds"].update_one({"_id": 2}, {"$unset": {"channels": "", "activity": "", "access": ""}})

    assert [await store.purge(LATER), await store.purge(LATER)] == [1, 0]


async def test_a_listing_that_is_stored_meanwhile_survives_the_purge(database: store_database.Database) -> None:
    """The purge writes only to the version that it has read."""
    store = await gone_in(database, [1])
    row = await database["guilds"].find_one({"_id": 1})
    change, erased = guilds._without_old(row, LATER)
    fence = await store.acquire_lease(1, now=NOW, until=NOW, fetched_before=NOW)
    assert fence is not None
    rows = [values.channel(20, 1), values.channel(21, 1)]
    assert await stored.channels(store, 1, fence=fence, channels=rows, now=NOW + 1)

    await database["guilds"].bulk_write([change])

    assert erased == 1
    assert len((await store.load([1]))[1].channels) == 2
