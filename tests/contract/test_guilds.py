"""Guilds: their fields, lease and fencing token, and schedule."""

import asyncio
import dataclasses

import pytest

from indexing.domain import freshness, model, ports
from tests import clockwork, stored, values
from tests.contract import conftest

NOW = clockwork.START
GUILD = values.GUILD
OTHER = GUILD + 1_000
RICH = values.RICH_CHANNEL


@pytest.fixture
async def guilds(stores: conftest.Stores) -> ports.Guilds:
    """Guilds, one of them named."""
    await stores.guilds.upsert_guilds([values.user_guild(GUILD, name="first", icon="a")], {GUILD})
    return stores.guilds


async def lease(guilds: ports.Guilds, *, now: float = NOW, fetched_before: float = NOW - 600) -> int:
    """Take the lease for 25 seconds; it must be free."""
    fence = await guilds.acquire_lease(GUILD, now=now, until=now + 25, fetched_before=fetched_before)
    assert fence is not None
    return fence


async def test_only_stored_guilds_are_returned_when_more_are_requested(guilds: ports.Guilds) -> None:
    """Unknown ids are left out."""
    found = await guilds.get([GUILD, OTHER])

    assert found == {GUILD: values.guild(name="first", icon="a")}


async def test_nothing_is_returned_when_no_guild_is_requested(guilds: ports.Guilds) -> None:
    """No id, no guild, no channel."""
    assert await guilds.get([]) == {}
    assert await stored.list_channels(guilds, []) == []


async def test_a_name_follows_when_the_guild_is_renamed(guilds: ports.Guilds) -> None:
    """The latest name and icon count."""
    await guilds.upsert_guilds([values.user_guild(GUILD, name="second", icon=None)], {GUILD})

    assert (await guilds.get([GUILD]))[GUILD] == values.guild(name="second")


async def test_the_size_is_the_members_present_when_discord_returns_both(guilds: ports.Guilds) -> None:
    """Members present say more than all members, which count when nothing better is known."""
    rows = [
        values.user_guild(GUILD, member_count=900, presence_count=300),
        values.user_guild(OTHER, member_count=70),
    ]

    await guilds.upsert_guilds(rows, {GUILD, OTHER})

    sizes = {key: guild.member_count for key, guild in (await guilds.get([GUILD, OTHER])).items()}
    assert sizes == {GUILD: 300, OTHER: 70}


async def test_access_is_updated_when_our_bot_is_removed_and_installed(guilds: ports.Guilds) -> None:
    """A guild without our bot is marked, until the bot is installed again."""
    rows = [values.user_guild(GUILD)]

    await guilds.upsert_guilds(rows, {OTHER})
    without = (await guilds.get([GUILD]))[GUILD].access
    await guilds.upsert_guilds(rows, {GUILD})
    again = (await guilds.get([GUILD]))[GUILD].access

    assert (without, again) == (model.Access.NOT_INSTALLED, model.Access.INSTALLED)


async def test_fetched_channels_stay_when_another_user_lists_the_guild(guilds: ports.Guilds) -> None:
    """Another user's guild list does not reset the guild to never fetched."""
    await stored.channels(guilds, GUILD, fence=await lease(guilds), channels=[RICH], now=NOW)

    await guilds.upsert_guilds([values.user_guild(GUILD, name="second")], {GUILD})

    found = (await guilds.get([GUILD]))[GUILD]
    assert (found.name, found.fetched_at, found.channel_count) == ("second", NOW, 1)
    assert await stored.list_channels(guilds, [GUILD]) == [RICH]


async def test_a_refusal_stays_when_another_user_lists_the_guild(guilds: ports.Guilds) -> None:
    """An installed bot may still lack access."""
    await guilds.mark_refused(GUILD, fence=await lease(guilds), error="NO_ACCESS", now=NOW, retry_at=NOW + 3600)

    await guilds.upsert_guilds([values.user_guild(GUILD)], {GUILD})

    found = (await guilds.get([GUILD]))[GUILD]
    assert (found.access, found.reason, found.retry_at) == (model.Access.DENIED, "NO_ACCESS", NOW + 3600)
    assert (found.refusals, found.refused_at) == (1, NOW)


async def test_a_lease_is_refused_when_another_process_holds_it(guilds: ports.Guilds) -> None:
    """One process fetches a guild at a time."""
    await lease(guilds)

    second = await guilds.acquire_lease(GUILD, now=NOW + 24, until=NOW + 49, fetched_before=NOW - 600)

    assert second is None
    assert (await guilds.get([GUILD]))[GUILD].lease_until == NOW + 25


async def test_a_lease_is_free_when_the_clock_was_set_back_since(guilds: ports.Guilds) -> None:
    """No lease lasts 300 s, so that one which seems to is from before."""
    assert await guilds.acquire_lease(GUILD, now=NOW + 3_600, until=NOW + 3_625, fetched_before=NOW)

    assert await guilds.acquire_lease(GUILD, now=NOW + 3_400, until=NOW + 3_425, fetched_before=NOW) is None
    assert await guilds.acquire_lease(GUILD, now=NOW, until=NOW + 25, fetched_before=NOW) is not None


async def test_one_gets_the_lease_when_many_ask_at_once(guilds: ports.Guilds) -> None:
    """Ten at once, one fence."""
    asked = [guilds.acquire_lease(GUILD, now=NOW, until=NOW + 25, fetched_before=NOW) for _ in range(10)]

    fences = await asyncio.gather(*asked)

    assert len([fence for fence in fences if fence is not None]) == 1


async def test_the_fencing_token_grows_when_a_lease_has_expired(guilds: ports.Guilds) -> None:
    """A holder that does not end its lease in time loses it, and the next holder has a greater fencing token."""
    first = await lease(guilds)

    second = await lease(guilds, now=NOW + 25)

    assert second > first


async def test_no_lease_is_granted_when_the_guild_was_fetched_since(guilds: ports.Guilds) -> None:
    """A listing younger than the requested time is enough; one exactly as old is not."""
    await stored.channels(guilds, GUILD, fence=await lease(guilds), channels=[], now=NOW)

    fresh = await guilds.acquire_lease(GUILD, now=NOW + 1, until=NOW + 26, fetched_before=NOW - 0.5)
    stale = await guilds.acquire_lease(GUILD, now=NOW + 1, until=NOW + 26, fetched_before=NOW)

    assert fresh is None
    assert stale is not None


async def test_no_lease_is_given_when_the_guild_is_unknown(guilds: ports.Guilds) -> None:
    """Only listed guilds are fetched."""
    assert await guilds.acquire_lease(OTHER, now=NOW, until=NOW + 25, fetched_before=NOW) is None


async def test_the_guild_has_the_facts_of_its_listing_when_one_is_stored(guilds: ports.Guilds) -> None:
    """Time, number, newest message and access are stored, and the lease ends."""
    await guilds.mark_refused(GUILD, fence=await lease(guilds), error="NO_ACCESS", now=NOW, retry_at=NOW + 3600)
    rows = [values.channel(1, last_message_id=70), values.channel(2, last_message_id=90), values.channel(3)]

    await stored.channels(guilds, GUILD, fence=await lease(guilds), channels=rows, now=NOW + 2)

    assert (await guilds.get([GUILD]))[GUILD] == values.guild(
        name="first", icon="a", fetched_at=NOW + 2, newest_message_id=90, channel_count=3
    )


async def test_a_late_holder_changes_nothing_when_it_ends_a_lost_lease(guilds: ports.Guilds) -> None:
    """Neither its refusal nor its release touches the lease of the next holder."""
    late = await lease(guilds)
    await lease(guilds, now=NOW + 25)
    before = await guilds.get([GUILD])

    await guilds.mark_refused(GUILD, fence=late, error="NO_ACCESS", now=NOW, retry_at=NOW + 3600)
    await guilds.release_lease(GUILD, fence=late)

    assert await guilds.get([GUILD]) == before


async def test_a_refusal_keeps_the_data_when_our_bot_lost_access(guilds: ports.Guilds) -> None:
    """Reason and time of the next attempt are stored and the lease ends; channels stay unchanged."""
    await stored.channels(guilds, GUILD, fence=await lease(guilds), channels=[RICH], now=NOW)

    fence = await lease(guilds, fetched_before=NOW)
    await guilds.mark_refused(GUILD, fence=fence, error="GUILD_UNAVAILABLE", now=NOW, retry_at=NOW + 3600)

    found = (await guilds.get([GUILD]))[GUILD]
    assert (found.access, found.reason, found.retry_at) == (model.Access.DENIED, "GUILD_UNAVAILABLE", NOW + 3600)
    assert (found.fetched_at, found.lease_until) == (NOW, 0.0)
    assert await stored.list_channels(guilds, [GUILD]) == [RICH]


async def test_the_next_may_fetch_when_a_lease_is_released(guilds: ports.Guilds) -> None:
    """A failed fetch does not lock the guild, and is no fetch."""
    fence = await lease(guilds)

    await guilds.release_lease(GUILD, fence=fence)

    assert (await guilds.get([GUILD]))[GUILD] == values.guild(name="first", icon="a")
    assert await lease(guilds) > fence


SCHEDULE = model.Schedule(next_at=NOW + 900, interval=900.0, changed_at=NOW - 5, failures=2)


async def read(guilds: ports.Guilds, *rows: model.Channel, schedule: model.Schedule = SCHEDULE) -> None:
    """Let the guild be fetched now."""
    fence = await lease(guilds, fetched_before=NOW)
    schedule = dataclasses.replace(schedule, fingerprint=freshness.fingerprint(rows))
    assert await stored.channels(guilds, GUILD, fence=fence, channels=rows, now=NOW, schedule=schedule)


async def test_the_schedule_is_returned_when_a_guild_was_fetched(guilds: ports.Guilds) -> None:
    """It outlives every process; a failure replaces it and leaves the channels."""
    await read(guilds, RICH)
    kept = (await guilds.get([GUILD]))[GUILD].schedule
    later = dataclasses.replace(kept, next_at=NOW + 1800, interval=1800.0, failures=3)

    await guilds.release_lease(GUILD, fence=await lease(guilds, fetched_before=NOW), schedule=later)

    assert kept == dataclasses.replace(SCHEDULE, fingerprint=freshness.fingerprint([RICH]))
    assert (await guilds.get([GUILD]))[GUILD].schedule == later
    assert await stored.list_channels(guilds, [GUILD]) == [RICH]


async def test_the_most_overdue_guilds_are_first_when_several_are_due(guilds: ports.Guilds) -> None:
    """Guilds that are not scheduled or not due are left out; the limit applies."""
    moments = {OTHER: NOW - 5, OTHER + 1: NOW - 9, OTHER + 2: NOW + 1, OTHER + 3: 0.0}
    await guilds.upsert_guilds([values.user_guild(key) for key in moments], set(moments))
    for key, next_at in moments.items():
        fence = await guilds.acquire_lease(key, now=NOW, until=NOW + 25, fetched_before=NOW)
        assert fence is not None
        schedule = model.Schedule(next_at=next_at)
        await stored.channels(guilds, key, fence=fence, channels=[], now=NOW - 60, schedule=schedule)

    assert [guild.guild_id for guild in await guilds.list_due(NOW, 9)] == [OTHER + 1, OTHER]
    assert [guild.guild_id for guild in await guilds.list_due(NOW, 1)] == [OTHER + 1]


async def test_a_guild_is_due_once_when_many_want_it_soon(guilds: ports.Guilds) -> None:
    """The first time counts; a guild that was not scheduled is due again, one that was never fetched is not."""
    await guilds.upsert_guilds([values.user_guild(OTHER)], {OTHER})
    await read(guilds, RICH)
    for later in (0.0, 5.0):
        await guilds.schedule_soon([GUILD, OTHER], NOW + later)
    first = [(guild.guild_id, guild.schedule.next_at) for guild in await guilds.list_due(NOW + 9, 9)]
    await read(guilds, RICH, schedule=model.NEVER_FETCHED)
    await guilds.schedule_soon([GUILD], NOW + 7)

    assert first == [(GUILD, NOW)]
    assert [guild.schedule.next_at for guild in await guilds.list_due(NOW + 9, 9)] == [NOW + 7]


async def test_views_are_stored_when_they_are_some_minutes_apart(guilds: ports.Guilds) -> None:
    """A busy guild does not cost a write for each view; waiting users are always counted."""
    seen = []
    for later in (0.0, 60.0, 300.0):
        await guilds.mark_viewed([GUILD], NOW + later, waiting=[GUILD])
        found = (await guilds.get([GUILD]))[GUILD]
        seen.append((found.last_viewed_at, found.demand))
    await read(guilds)

    assert seen == [(NOW, 1), (NOW, 2), (NOW + 300, 3)]
    found = (await guilds.get([GUILD]))[GUILD]
    assert (found.last_viewed_at, found.demand) == (NOW + 300, 0)


async def test_refusals_are_counted_when_they_come_in_a_row(guilds: ports.Guilds) -> None:
    """A success resets the count; a guild that refuses is not fetched again by itself."""
    await read(guilds, RICH)
    for number in (1.0, 2.0):
        fence = await lease(guilds, fetched_before=NOW)
        await guilds.mark_refused(GUILD, fence=fence, error="NO_ACCESS", now=NOW + number, retry_at=NOW + 3600)
    refused = (await guilds.get([GUILD]))[GUILD]
    due = await guilds.list_due(NOW + 10_000, 9)
    await read(guilds, RICH)

    assert (refused.refusals, refused.refused_at, refused.schedule.next_at, due) == (2, NOW + 2, 0.0, [])
    assert (await guilds.get([GUILD]))[GUILD].refusals == 0


async def test_a_new_guild_begins_with_a_view_and_a_request_when_its_list_says_so(
    guilds: ports.Guilds,
) -> None:
    """A guild that was known, or that lacks our bot, does not."""
    rows = [values.user_guild(key) for key in (GUILD, OTHER, OTHER + 1)]

    _, new = await guilds.upsert_guilds(rows, {GUILD, OTHER}, viewed_at=NOW)

    assert new == {OTHER, OTHER + 1}
    found = await guilds.get([GUILD, OTHER, OTHER + 1])
    assert (found[GUILD].last_viewed_at, found[GUILD].demand) == (None, 0)
    assert (found[OTHER].last_viewed_at, found[OTHER].demand) == (NOW, 1)
    assert (found[OTHER + 1].last_viewed_at, found[OTHER + 1].demand) == (None, 0)


async def test_storing_a_list_returns_its_guilds_as_a_later_read_does(guilds: ports.Guilds) -> None:
    """New ones, changed ones, and those that stay as they are."""
    await guilds.upsert_guilds([values.user_guild(key, name="same") for key in (GUILD, OTHER)], {GUILD, OTHER})
    rows = [values.user_guild(OTHER, name="same"), values.user_guild(GUILD, name="other"), values.user_guild(77)]

    found, new = await guilds.upsert_guilds(rows, {GUILD, 77}, viewed_at=NOW)

    names = {key: (guild.name, guild.access) for key, guild in found.items()}
    assert names == {
        OTHER: ("same", model.Access.NOT_INSTALLED),
        GUILD: ("other", model.Access.INSTALLED),
        77: (values.user_guild(77).name, model.Access.INSTALLED),
    }
    assert (new, found) == ({77}, await guilds.get([OTHER, GUILD, 77]))


async def test_guilds_are_found_and_viewed_when_they_need_several_statements(guilds: ports.Guilds) -> None:
    """One statement names 100 ids at most; a guild counts as often as it is named."""
    ids = list(range(OTHER, OTHER + 250))
    await guilds.upsert_guilds([values.user_guild(key) for key in ids], set(ids))

    await guilds.mark_viewed(ids, NOW, waiting=[*ids[:201], *ids[:50]])

    found = await guilds.get(ids)
    assert sorted(found) == ids
    assert {guild.last_viewed_at for guild in found.values()} == {NOW}
    assert [found[key].demand for key in ids] == [2] * 50 + [1] * 151 + [0] * 49
