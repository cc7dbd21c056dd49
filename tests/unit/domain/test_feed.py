"""Events of the Gateway folded into a guild: replays, duplicates, outages, and what our bot may view."""

import dataclasses

import hypothesis
from hypothesis import strategies as st

from indexing.domain import feed, model, reasons
from tests import values

GUILD, BOT, OWNER = values.GUILD, 7, 8
STAFF, EVERYONE = 50, GUILD
NOW = 1_000.0
VIEW = values.VIEW
SIGHT = feed.BotSight(BOT, OWNER, {EVERYONE: VIEW, STAFF: 0}, ())


def stored(**changes: object) -> feed.FedGuild:
    """Return a guild that nothing is stored of."""
    guild = model.Guild(GUILD, "", None, None, model.Access.UNKNOWN, None, None, 0, "", 0.0, 0.0)
    return dataclasses.replace(feed.FedGuild(guild, ()), **changes)  # type: ignore[arg-type]  # any field


def created(*channels: model.Channel, sight: feed.BotSight | None = SIGHT) -> feed.GuildCreated:
    """Return a GUILD_CREATE."""
    return feed.GuildCreated(GUILD, "name", None, 5, channels, sight)


def numbered(*events: feed.Event, first: int = 1) -> list[feed.Numbered]:
    """Return events with their numbers."""
    return [feed.Numbered(seq, event) for seq, event in enumerate(events, start=first)]


def changed(channel: model.Channel) -> feed.ChannelChanged:
    """Return a CHANNEL_UPDATE."""
    return feed.ChannelChanged(GUILD, channel)


def ids(guild: feed.FedGuild) -> list[int]:
    """Return the ids of the shown channels."""
    return [row.channel_id for row in guild.channels]


def gone(guild: feed.FedGuild) -> dict[int, str]:
    """Return why channels are gone."""
    return {row.channel_id: row.reason for row in guild.gone}


ONE, TWO, THREE = (values.channel(number) for number in (1, 2, 3))
PRIVATE = values.channel(4, overwrites=[values.denied(EVERYONE), values.allowed(STAFF)])
REDACTED = values.channel(1, name="___hidden___", flags=model.OBFUSCATED)


def test_the_guild_is_live_when_its_guild_create_is_folded() -> None:
    """Name, channels and the session are stored; redacted channels are left out."""
    after = feed.fold(stored(), numbered(created(REDACTED, TWO)), "s", NOW)

    assert (after.live, after.session, after.seq, after.guild.name) == (True, "s", 1, "name")
    assert ids(after) == [2]


def test_events_change_the_channels_when_the_guild_is_live() -> None:
    """Channels are added, replaced and deleted."""
    renamed = dataclasses.replace(TWO, name="new")
    events = numbered(created(ONE, TWO), changed(THREE), changed(renamed), feed.ChannelDeleted(GUILD, 1, 0))

    after = feed.fold(stored(), events, "s", NOW)

    assert after.channels == (renamed, THREE)
    assert gone(after) == {1: reasons.CHANNEL_DELETED}


def test_events_change_nothing_when_the_session_has_not_created_the_guild() -> None:
    """Another session's guild, or one that is not live, is not known to be complete."""
    before = feed.fold(stored(), numbered(created(ONE)), "old", NOW)

    assert feed.fold(before, numbered(changed(TWO), first=9), "new", NOW) is before
    assert feed.fold(stored(), numbered(changed(TWO)), "s", NOW) == stored()


def test_a_deleted_channel_stays_deleted_when_an_older_update_comes_late() -> None:
    """Ids are never used again."""
    events = numbered(created(ONE), feed.ChannelDeleted(GUILD, 1, 0), changed(ONE))

    assert ids(feed.fold(stored(), events, "s", NOW)) == []


def test_a_channel_is_hidden_when_it_becomes_redacted_and_shown_when_it_is_whole_again() -> None:
    """The old contents of a redacted channel are not kept in sight."""
    hidden = feed.fold(stored(), numbered(created(ONE), changed(REDACTED)), "s", NOW)
    shown = feed.fold(hidden, numbered(changed(ONE), first=3), "s", NOW)

    assert (ids(hidden), gone(hidden)) == ([], {1: reasons.HIDDEN_OR_DELETED})
    assert (ids(shown), gone(shown)) == ([1], {})


def test_channels_are_hidden_when_our_bot_loses_sight_without_being_told() -> None:
    """A role that the bot loses, a role that loses its permission, and a deleted role take channels away."""
    sight = dataclasses.replace(SIGHT, bot_roles=(STAFF,))
    before = feed.fold(stored(), numbered(created(ONE, PRIVATE, sight=sight)), "s", NOW)
    lost = feed.BotRolesChanged(GUILD, ())
    closed = feed.RoleChanged(GUILD, EVERYONE, 0)

    assert ids(before) == [1, 4]
    assert ids(feed.fold(before, numbered(lost, first=2), "s", NOW)) == [1]
    assert ids(feed.fold(before, numbered(closed, first=2), "s", NOW)) == [4]
    assert ids(feed.fold(before, numbered(closed, lost, first=2), "s", NOW)) == []


def test_a_hidden_channel_stays_hidden_when_the_role_returns_until_it_is_sent_whole() -> None:
    """What changed while it was hidden is unknown."""
    sight = dataclasses.replace(SIGHT, bot_roles=(STAFF,))
    roles = [feed.BotRolesChanged(GUILD, ()), feed.BotRolesChanged(GUILD, (STAFF,))]
    before = feed.fold(stored(), numbered(created(PRIVATE, sight=sight), *roles), "s", NOW)

    assert ids(before) == []
    assert ids(feed.fold(before, numbered(changed(PRIVATE), first=4), "s", NOW)) == [4]


def test_an_administrator_sees_everything_when_it_is_our_bot() -> None:
    """Overwrites do not apply to administrators and owners."""
    admin = feed.BotSight(BOT, OWNER, {EVERYONE: 0, STAFF: values.ADMINISTRATOR}, (STAFF,))
    owner = feed.BotSight(OWNER, OWNER, {EVERYONE: 0}, ())

    assert ids(feed.fold(stored(), numbered(created(ONE, PRIVATE, sight=admin)), "s", NOW)) == [1, 4]
    assert ids(feed.fold(stored(), numbered(created(ONE, PRIVATE, sight=owner)), "s", NOW)) == [1, 4]


def test_the_guild_is_not_fed_any_more_when_an_outage_or_an_unreadable_event_comes() -> None:
    """What is stored stays; a replayed GUILD_CREATE does not revive the guild, a new one does."""
    for event in (feed.GuildUnavailable(GUILD), feed.Unreadable(GUILD)):
        events = numbered(created(ONE), event)
        before = feed.fold(stored(), events, "s", NOW)

        assert (before.live, ids(before)) == (False, [1])
        assert feed.fold(before, events, "s", NOW) is before
        assert feed.fold(before, numbered(created(ONE, TWO), first=3), "s", NOW).live


def test_the_guild_is_removed_when_our_bot_is() -> None:
    """Its channels are no longer shown; a later GUILD_CREATE brings it back."""
    events = numbered(created(ONE), feed.BotRemoved(GUILD))

    removed = feed.fold(stored(), events, "s", NOW)
    back = feed.fold(removed, numbered(created(TWO), first=3), "s", NOW)

    assert (removed.removed, removed.live, ids(removed)) == (True, False, [])
    assert (back.removed, back.live, ids(back)) == (False, True, [2])


def test_a_guild_is_not_fed_when_the_bots_own_rights_are_unknown() -> None:
    """Then nothing says which channels it loses; the guild is fetched by REST."""
    assert not feed.fold(stored(), numbered(created(ONE, sight=None)), "s", NOW).live


CHANNELS = st.builds(
    lambda number, name, hidden: values.channel(number, name=name, overwrites=[values.denied(STAFF)] if hidden else []),
    st.integers(1, 4),
    st.sampled_from("ab"),
    st.booleans(),
)
EVENTS = st.one_of(
    CHANNELS.map(changed),
    st.integers(1, 4).map(lambda number: feed.ChannelDeleted(GUILD, number, 0)),
    st.sampled_from([0, VIEW, None]).map(lambda bits: feed.RoleChanged(GUILD, STAFF, bits)),
    st.sampled_from([(), (STAFF,)]).map(lambda roles: feed.BotRolesChanged(GUILD, roles)),
    st.just(feed.GuildUnavailable(GUILD)),
    st.lists(CHANNELS, max_size=3, unique_by=lambda row: row.channel_id).map(lambda rows: created(*rows)),
)


@hypothesis.given(st.lists(EVENTS, max_size=12), st.data())
def test_the_same_guild_results_whatever_is_replayed_or_batched(events: list[feed.Event], data: st.DataObject) -> None:
    """Any prefix replayed, any event doubled and any batch boundary give what one pass gives."""
    told = numbered(created(ONE, PRIVATE), *events)
    once = feed.fold(stored(), told, "s", NOW)
    cut = data.draw(st.integers(0, len(told)))
    again = data.draw(st.integers(0, cut))
    doubled = [one for one in told[:cut] for _ in range(data.draw(st.integers(1, 2)))]

    after = feed.fold(feed.fold(stored(), doubled, "s", NOW), told[again:], "s", NOW)

    assert after == once


def test_an_event_of_the_stored_number_changes_nothing_and_the_next_one_does() -> None:
    """A replay begins with what is stored already."""
    before = feed.fold(stored(), numbered(created(ONE), changed(TWO)), "s", NOW)

    again = feed.fold(before, [feed.Numbered(2, feed.ChannelDeleted(GUILD, 1, 0))], "s", NOW)
    after = feed.fold(before, [feed.Numbered(3, feed.ChannelDeleted(GUILD, 1, 0))], "s", NOW)

    assert again is before
    assert (ids(after), after.seq) == ([2], 3)


def test_other_gone_channels_stay_gone_when_one_is_deleted() -> None:
    """A channel that is deleted twice is gone once, since the later moment."""
    events = numbered(created(ONE, TWO), feed.ChannelDeleted(GUILD, 1, 0), feed.ChannelDeleted(GUILD, 2, 0))
    before = feed.fold(stored(), events, "s", NOW)

    after = feed.fold(before, numbered(feed.ChannelDeleted(GUILD, 2, 0), first=4), "s", NOW + 1)

    assert [(row.channel_id, row.gone_at) for row in after.gone] == [(1, NOW), (2, NOW + 1)]


def test_a_guild_of_which_nothing_was_sent_is_neither_fed_nor_stored() -> None:
    """Numbers begin at zero, so that the first event of any session counts."""
    guild = stored()

    assert (guild.session, guild.seq, guild.epoch, guild.fence) == ("", 0, 0, 0)
    assert (guild.live, guild.removed, guild.created, guild.sight, guild.gone) == (False, False, False, None, ())


def test_a_role_keeps_only_the_rights_that_decide_what_is_shown() -> None:
    """To administer, to manage channels, and to view them."""
    events = numbered(created(ONE), feed.RoleChanged(GUILD, STAFF, (1 << 40) - 1))

    after = feed.fold(stored(), events, "s", NOW)

    assert after.sight is not None
    assert after.sight.roles[STAFF] == 1 << 3 | 1 << 4 | 1 << 10
