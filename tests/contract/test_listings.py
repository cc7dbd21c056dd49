"""The effect of listings on a guild's channels: stored, hidden and kept ones, and the version."""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Sequence

import pytest

from indexing.domain import freshness, model, ports
from tests import clockwork, stored, values
from tests.contract import conftest

NOW = clockwork.START
GUILD = values.GUILD
OTHER = GUILD + 1_000
DAY = 86_400.0
RICH = values.RICH_CHANNEL


@pytest.fixture
async def guilds(stores: conftest.Stores) -> ports.Guilds:
    """Guilds, one of them known."""
    await stores.guilds.upsert_guilds([values.user_guild(GUILD, name="first", icon="a")], {GUILD})
    return stores.guilds


async def lease(guilds: ports.Guilds, guild_id: int = GUILD, *, now: float = NOW) -> int:
    """Acquire the lease for 25 seconds; it must be free."""
    fence = await guilds.acquire_lease(guild_id, now=now, until=now + 25, fetched_before=now)
    assert fence is not None
    return fence


def schedule_of(rows: Sequence[model.Channel]) -> model.Schedule:
    """Return the schedule of a guild that has these channels."""
    return model.Schedule(fingerprint=freshness.fingerprint(rows))


async def fetched(guilds: ports.Guilds, rows: Sequence[model.Channel], now: float = NOW) -> model.IndexedGuild:
    """Store a listing; returns the guild afterwards."""
    fence = await lease(guilds, now=now)
    assert await stored.channels(guilds, GUILD, fence=fence, channels=rows, now=now, schedule=schedule_of(rows))
    return await indexed(guilds)


async def indexed(guilds: ports.Guilds) -> model.IndexedGuild:
    """Return the guild with its channels."""
    found = await guilds.load([GUILD, OTHER])
    assert found.keys() == {GUILD}
    assert await guilds.versions([GUILD, OTHER]) == {
        GUILD: model.GuildVersion(
            found[GUILD].version, found[GUILD].guild.fetched_at, found[GUILD].guild.schedule.next_at
        )
    }
    return found[GUILD]


async def test_nothing_is_returned_when_no_guild_is_requested(guilds: ports.Guilds) -> None:
    """No id, no guild, no version."""
    assert (await guilds.load([]), await guilds.versions([])) == ({}, {})


async def test_a_guild_has_no_channels_when_it_was_never_fetched(guilds: ports.Guilds) -> None:
    """Only its name is known."""
    found = await indexed(guilds)

    assert (found.guild, found.channels, found.gone) == (values.guild(name="first", icon="a"), (), ())


async def test_channels_are_unchanged_when_they_were_stored(guilds: ports.Guilds) -> None:
    """Every field, unknown types and 63-bit numbers included; the order is by position and id."""
    plain, same_place = values.channel(13, kind=999), values.channel(12)

    found = await fetched(guilds, [RICH, plain, same_place])

    assert found.channels == (same_place, plain, RICH)
    assert await stored.list_channels(guilds, [GUILD]) == [same_place, plain, RICH]


async def test_an_empty_listing_counts_when_the_guild_has_no_channel(guilds: ports.Guilds) -> None:
    """The guild counts as fetched."""
    found = (await fetched(guilds, [])).guild

    assert (found.fetched_at, found.channel_count, found.newest_message_id) == (NOW, 0, None)


async def test_channels_are_ordered_when_several_guilds_are_read(guilds: ports.Guilds) -> None:
    """By guild, then position, then id; guilds that were not requested are left out."""
    await guilds.upsert_guilds([values.user_guild(key) for key in (OTHER, OTHER + 1)], {OTHER, OTHER + 1})
    first = [values.channel(3, position=1), values.channel(1, position=2), values.channel(2, position=1)]
    await stored.channels(guilds, GUILD, fence=await lease(guilds), channels=first, now=NOW)
    for guild_id in (OTHER, OTHER + 1):
        rows = [values.channel(guild_id + 1, guild_id)]
        await stored.channels(guilds, guild_id, fence=await lease(guilds, guild_id), channels=rows, now=NOW)

    found = await stored.list_channels(guilds, {OTHER, GUILD})

    assert [channel.channel_id for channel in found] == [2, 3, 1, OTHER + 1]


async def test_overwrites_are_replaced_when_a_channel_becomes_private(guilds: ports.Guilds) -> None:
    """A channel that is closed to a role is stored as closed, whatever was stored before."""
    await fetched(guilds, [RICH])
    closed = values.channel(11, overwrites=(values.denied(5),))

    found = await fetched(guilds, [closed], NOW + 1)

    assert found.channels == (closed,)


async def test_a_channel_is_kept_with_the_reason_when_a_listing_no_longer_has_it(guilds: ports.Guilds) -> None:
    """Deleted or hidden from our bot: it is not shown, and an operator can see since when."""
    rows = [values.channel(1, kind=2), values.channel(2, kind=5), values.channel(3)]
    await fetched(guilds, rows)
    await fetched(guilds, rows[1:], NOW + 1)

    found = await fetched(guilds, rows[2:], NOW + 2)

    assert found.channels == (rows[2],)
    assert found.gone == (
        model.GoneChannel(1, 2, NOW + 1, "HIDDEN_OR_DELETED"),
        model.GoneChannel(2, 5, NOW + 2, "HIDDEN_OR_DELETED"),
    )


async def test_a_channel_is_shown_again_when_a_listing_has_it_again(guilds: ports.Guilds) -> None:
    """Unchanged, and no longer marked as gone; others stay gone."""
    rows = [values.channel(1), values.channel(2)]
    await fetched(guilds, rows)
    await fetched(guilds, [], NOW + 1)

    found = await fetched(guilds, rows[:1], NOW + 2)

    assert found.channels == (rows[0],)
    assert found.gone == (model.GoneChannel(2, 0, NOW + 1, "HIDDEN_OR_DELETED"),)


async def test_only_messages_are_stored_when_the_structure_is_unchanged(guilds: ports.Guilds) -> None:
    """Other fields, gone channels and the order stay; each channel gets its newest message."""
    quiet = [values.channel(5, position=2), values.channel(7, position=1), values.channel(6, position=2)]
    await fetched(guilds, [*quiet, values.channel(9)])
    before = await fetched(guilds, quiet, NOW + 1)
    busy = [dataclasses.replace(row, last_message_id=1_000 + row.channel_id) for row in quiet[1:]]

    found = await fetched(guilds, [*busy, quiet[0]], NOW + 2)

    assert found.channels == (busy[0], quiet[0], busy[1])
    assert found.gone == before.gone == (model.GoneChannel(9, 0, NOW + 1, "HIDDEN_OR_DELETED"),)
    assert found.guild == dataclasses.replace(before.guild, fetched_at=NOW + 2, newest_message_id=1_007)


LATE = [values.channel(1, name="late")]


@pytest.mark.parametrize(
    ("first", "second", "written"),
    [
        pytest.param([values.channel(1, name="new")], LATE, False, id="both-change-the-structure"),
        pytest.param([values.channel(1, name="new")], [values.channel(1)], False, id="one-brings-only-messages"),
        pytest.param([values.channel(1, last_message_id=5)], LATE, True, id="the-other-brought-only-messages"),
    ],
)
async def test_a_listing_is_refused_when_the_structure_changed_since_the_guild_was_loaded(
    guilds: ports.Guilds,
    first: list[model.Channel],
    second: list[model.Channel],
    written: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """Its departures result from a comparison with channels that are no longer stored."""
    known = await fetched(guilds, [values.channel(1)])
    fence = await lease(guilds, now=NOW + 1)
    assert await guilds.store_channels(GUILD, model.Listing(fence, first, NOW + 1, schedule_of(first), known.guild))
    before = await indexed(guilds)

    done = await guilds.store_channels(GUILD, model.Listing(fence, second, NOW + 2, schedule_of(second), known.guild))

    assert done is written
    if not written:
        assert await indexed(guilds) == before


@pytest.mark.parametrize("stored_meanwhile", [True, False], ids=["next-has-stored", "next-is-fetching"])
async def test_a_late_writer_changes_nothing_when_its_lease_was_lost(
    guilds: ports.Guilds,
    stored_meanwhile: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """Its channels, departures, time and end of the lease are all ignored."""
    known = await fetched(guilds, [values.channel(1)])
    late = await lease(guilds, now=NOW + 1000)
    current = await lease(guilds, now=NOW + 1025)
    rows = [values.channel(1), values.channel(2)]
    if stored_meanwhile:
        listing = model.Listing(current, rows, NOW + 1026, schedule_of(rows), known.guild)
        assert await guilds.store_channels(GUILD, listing)
    before = await indexed(guilds)

    listing = model.Listing(late, LATE, NOW + 1030, schedule_of(LATE), before.guild)
    written = await guilds.store_channels(GUILD, listing)

    assert not written
    assert await indexed(guilds) == before


async def test_one_listing_is_stored_when_several_are_written_at_once(guilds: ports.Guilds) -> None:
    """All are based on the same structure: the first write refuses the others."""
    known = await fetched(guilds, [values.channel(1)])
    fence = await lease(guilds, now=NOW + 1)
    changed = [[values.channel(1, name=f"name {number}")] for number in range(5)]
    listings = [model.Listing(fence, rows, NOW + 1, schedule_of(rows), known.guild) for rows in changed]

    written = await asyncio.gather(*(guilds.store_channels(GUILD, listing) for listing in listings))

    assert sorted(written) == [False] * 4 + [True]
    assert (await indexed(guilds)).channels == (changed[written.index(True)][0],)


async def test_a_late_listing_changes_nothing_when_our_bot_was_removed_meanwhile(guilds: ports.Guilds) -> None:
    """Stored channels stay hidden after an earlier response; a later listing shows them again."""
    known = await fetched(guilds, [RICH])
    late = await lease(guilds, now=NOW + 1)

    await guilds.mark_bot_removed([GUILD, OTHER], NOW + 2)
    written = await guilds.store_channels(GUILD, model.Listing(late, [RICH], NOW + 1, schedule_of([RICH]), known.guild))
    hidden = await indexed(guilds)
    await guilds.upsert_guilds([values.user_guild(GUILD, name="first", icon="a")], {GUILD})
    shown = await fetched(guilds, [RICH], NOW + 3)

    assert (written, hidden.channels, hidden.gone) == (False, (), ())
    assert (hidden.guild.access, hidden.guild.reason) == (model.Access.NOT_INSTALLED, "BOT_REMOVED")
    assert (hidden.guild.fetched_at, hidden.guild.schedule.next_at, hidden.guild.channel_count) == (None, 0.0, 0)
    assert (shown.guild.access, shown.guild.reason, shown.channels) == (model.Access.INSTALLED, "", (RICH,))
    assert shown.version > hidden.version > known.version


async def test_only_data_past_its_retention_is_erased_when_guilds_are_purged(stores: conftest.Stores) -> None:
    """Gone channels, and guilds without members that were not viewed for as long, with all their channels."""
    guilds, row = stores.guilds, values.user_guild(GUILD)
    await guilds.upsert_guilds([row, values.user_guild(OTHER)], {GUILD, OTHER})
    await stored.guild_list(stores.users, values.USER, [row], NOW)
    await guilds.mark_viewed([OTHER], NOW)
    await stored.channels(guilds, OTHER, fence=await lease(guilds, OTHER), channels=[values.channel(5, OTHER)], now=NOW)
    for later in range(3):
        fence = await lease(guilds, now=NOW + later)
        rows = [RICH, values.channel(12), values.channel(13)][: 3 - later]
        await stored.channels(guilds, GUILD, fence=fence, channels=rows, now=NOW + later, schedule=schedule_of(rows))

    early = await guilds.purge(NOW)
    erased = await guilds.purge(NOW + 2)
    again = await guilds.purge(NOW + 2)

    assert (early, erased, again) == (0, 2, 0)
    found = await indexed(guilds)
    assert found.channels == (RICH,)
    assert found.gone == (model.GoneChannel(12, 0, NOW + 2, "HIDDEN_OR_DELETED"),)


async def test_a_purged_guild_accepts_listings_when_its_structure_is_unchanged(guilds: ports.Guilds) -> None:
    """Erasing gone channels does not change the shown ones."""
    await guilds.mark_viewed([GUILD], NOW + 5)
    await fetched(guilds, [values.channel(1), values.channel(2)])
    before = await fetched(guilds, [values.channel(1)], NOW + 1)

    erased = await guilds.purge(NOW + 2)
    after = await fetched(guilds, [values.channel(1, last_message_id=3)], NOW + 3)

    assert erased == 1
    assert after.channels == (values.channel(1, last_message_id=3),)
    assert after.gone == ()
    assert (before.version, len(before.gone)) == (after.version - 1, 1)


async def test_a_gone_channel_is_dropped_by_the_next_listing_when_its_retention_is_over(
    guilds: ports.Guilds,
) -> None:
    """A guild does not grow between purges."""
    await fetched(guilds, [values.channel(1), values.channel(2), values.channel(3)])
    await fetched(guilds, [values.channel(2), values.channel(3)], NOW + 1)
    kept = await fetched(guilds, [values.channel(3)], NOW + 30 * DAY)

    found = await fetched(guilds, [], NOW + 30 * DAY + 2)

    assert [row.channel_id for row in kept.gone] == [1, 2]
    assert [row.channel_id for row in found.gone] == [2, 3]


Step = Callable[[ports.Guilds], Awaitable[object]]


async def activity(guilds: ports.Guilds) -> None:
    """Store a listing with a new message."""
    await fetched(guilds, [values.channel(1, last_message_id=7)], NOW + 1)


async def nothing_new(guilds: ports.Guilds) -> None:
    """Store the same listing again."""
    await fetched(guilds, [values.channel(1)], NOW + 1)


async def renamed(guilds: ports.Guilds) -> None:
    """Store a listing with another structure."""
    await fetched(guilds, [values.channel(1, name="renamed")], NOW + 1)


async def refused(guilds: ports.Guilds) -> None:
    """Store a refusal."""
    fence = await lease(guilds, now=NOW + 1)
    await guilds.mark_refused(GUILD, fence=fence, error="NO_ACCESS", now=NOW + 1, retry_at=NOW + 3600)


async def allowed_again(guilds: ports.Guilds) -> None:
    """Store the same listing after a refusal: two changes."""
    await refused(guilds)
    await fetched(guilds, [values.channel(1)], NOW + 2)


async def failed(guilds: ports.Guilds) -> None:
    """Store a passing failure, whose reason is shown with the old channels."""
    schedule = dataclasses.replace((await indexed(guilds)).guild.schedule, failures=1)
    await guilds.release_lease(GUILD, fence=await lease(guilds, now=NOW + 1), schedule=schedule)


async def works_again(guilds: ports.Guilds) -> None:
    """Store the same listing after a failure: two changes."""
    await failed(guilds)
    await fetched(guilds, [values.channel(1)], NOW + 2)


@pytest.mark.parametrize(
    ("step", "growth"),
    [
        (nothing_new, 0),
        (activity, 1),
        (renamed, 1),
        (refused, 1),
        (allowed_again, 2),
        (failed, 1),
        (works_again, 2),
        (lambda guilds: guilds.mark_bot_removed([GUILD], NOW + 1), 1),
        (lambda guilds: guilds.upsert_guilds([values.user_guild(GUILD, name="first", icon="a")], {GUILD}), 0),
        (lambda guilds: guilds.upsert_guilds([values.user_guild(GUILD, name="second", icon="a")], {GUILD}), 1),
        (lambda guilds: guilds.upsert_guilds([values.user_guild(GUILD, name="first", icon="b")], {GUILD}), 1),
        (lambda guilds: guilds.upsert_guilds([values.user_guild(GUILD, name="first", icon="a")], set()), 1),
        (lambda guilds: guilds.mark_viewed([GUILD], NOW, waiting=[GUILD]), 0),
        (lambda guilds: guilds.schedule_soon([GUILD], NOW), 0),
        (lambda guilds: guilds.acquire_lease(GUILD, now=NOW + 1, until=NOW + 2, fetched_before=NOW + 1), 0),
    ],
    ids=[
        *("nothing-new", "activity", "renamed", "refused", "refused-then-allowed", "failed", "failed-then-works"),
        *("bot-removed", "listed-as-before", "other-name", "other-icon", "without-bot"),
        *("viewed", "scheduled", "leased"),
    ],
)
async def test_the_version_grows_exactly_when_something_shown_changes(
    guilds: ports.Guilds, step: Step, growth: int
) -> None:
    """Caches compare versions; times of fetches are loaded with them."""
    before = await fetched(guilds, [values.channel(1)])

    await step(guilds)

    assert (await indexed(guilds)).version - before.version == growth
