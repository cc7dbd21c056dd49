"""A guild's document: what is written of it, and what is not worth a write."""

import itertools

import msgspec
import pytest

from indexing.domain import freshness, model
from indexing.store import database as store_database
from indexing.store import guild_codec, guilds, users
from indexing.store.credentials import Vault
from tests import clockwork, stored, values

NOW = clockwork.START
GUILD, USER = values.GUILD, values.USER


async def fetched(store: guilds.Guilds, *rows: model.Channel, now: float = NOW) -> None:
    """Store a listing."""
    fence = await store.acquire_lease(GUILD, now=now, until=now + 25, fetched_before=now)
    assert fence is not None
    schedule = model.Schedule(fingerprint=freshness.fingerprint(rows))
    assert await stored.channels(store, GUILD, fence=fence, channels=rows, now=now, schedule=schedule)


@pytest.fixture
async def store(database: store_database.Database) -> guilds.Guilds:
    """One guild, with one known member, that was fetched."""
    made = guilds.Guilds(database)
    await made.upsert_guilds([values.user_guild()], {GUILD})
    await stored.guild_list(users.Users(database, Vault((b"k" * 32,))), USER, [values.user_guild()], NOW)
    await fetched(made, values.channel(1), values.channel(2))
    return made


async def document(database: store_database.Database) -> dict[str, object]:
    """Return the guild's document."""
    (row,) = await database["guilds"].find({}).to_list(None)
    assert isinstance(row, dict)
    return row


async def test_the_packed_channels_are_not_written_when_a_listing_only_brings_messages(
    database: store_database.Database, store: guilds.Guilds
) -> None:
    """They are most of the document: the value is the very one that was written before."""
    before = await document(database)

    await fetched(store, values.channel(1), values.channel(2, last_message_id=5), now=NOW + 1)

    after = await document(database)
    assert (after["channels"], after["fetched_at"]) == (before["channels"], NOW + 1)
    assert after["activity"] == bytes(8) + (5).to_bytes(8, "little")


async def test_the_oldest_departure_is_noted_when_channels_are_gone(
    database: store_database.Database, store: guilds.Guilds
) -> None:
    """By an index on it, a purge finds the guilds that have something to erase."""
    moments = [(await document(database))["oldest_gone_at"]]
    for later, rows in ((1.0, [values.channel(1)]), (2.0, []), (3.0, [values.channel(2)])):
        await fetched(store, *rows, now=NOW + later)
        moments.append((await document(database))["oldest_gone_at"])
    await store.purge(NOW + 2.5)
    moments.append((await document(database))["oldest_gone_at"])

    assert moments == [0.0, NOW + 1, NOW + 1, NOW + 2, 0.0]


async def test_the_size_is_written_when_it_has_changed_much(store: guilds.Guilds) -> None:
    """Discord's estimate moves all the time, and each change makes a new version."""
    sizes, versions = [], []
    for members in (1_000, 1_199, 801, 1_200, 1_000, 960, None):
        await store.upsert_guilds([values.user_guild(member_count=members)], {GUILD})
        found = (await store.load([GUILD]))[GUILD]
        sizes.append(found.guild.member_count)
        versions.append(found.version)

    assert sizes == [1_000, 1_000, 1_000, 1_200, 1_200, 960, None]
    assert [after - before for before, after in itertools.pairwise(versions)] == [0, 0, 1, 0, 1, 1]


async def test_a_guild_counts_as_not_indexed_when_a_newer_release_wrote_its_channels(
    database: store_database.Database, store: guilds.Guilds
) -> None:
    """Until this release fetches it; the others of the same page are shown."""
    packed = msgspec.msgpack.encode([guild_codec.FORMAT + 1, [], [], []])
    await database["guilds"].update_one({"_id": GUILD}, {"$set": {"channels": packed}})

    found = (await store.load([GUILD]))[GUILD]

    assert (found.channels, found.guild.fetched_at) == ((), None)


async def test_hidden_channels_are_erased_when_our_bot_was_removed_for_long(
    database: store_database.Database, store: guilds.Guilds
) -> None:
    """Nobody fetches the guild any more, so that no listing drops them."""
    await store.mark_bot_removed([GUILD], NOW + 1)

    await store.purge(NOW + 2)

    row = await document(database)
    assert not row["channels"] or guild_codec.decode(GUILD, row["channels"], row["activity"])[0] == ()  # type: ignore[arg-type]  # bytes
