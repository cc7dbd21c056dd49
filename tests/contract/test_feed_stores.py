"""Shards and fed guilds in MongoDB: leases, sessions, proofs, and which writer loses."""

import dataclasses

import pytest

from indexing.domain import feed, feed_ports, model
from indexing.store import database as store_database
from indexing.store import erasure, fed_guilds, guilds, shards
from indexing.usecases import apply_feed
from tests import clockwork, stored, values

NOW = clockwork.START
GUILD, OTHER = values.GUILD, values.GUILD + 1_000
BOT, OWNER = 7, 8
SIGHT = feed.BotSight(BOT, OWNER, {GUILD: values.VIEW}, ())
KEY = "0/1"


class Setting:
    """The stores over one database, and an owned shard with a session."""

    def __init__(self, db: store_database.Database) -> None:
        self.now = NOW
        self.shards = shards.MongoShards(db)
        self.fed = fed_guilds.MongoFedGuilds(db)
        self.proofs = shards.Proofs(db, lambda: self.now, notice=0.0)
        self.guilds = guilds.Guilds(db, proofs=self.proofs)
        self.told: list[int] = []
        self.writer = apply_feed.FeedWriter(self.fed, lambda: self.now, self.tell)

    async def tell(self, guild_ids: object) -> None:
        """Note the guilds that were stored."""
        self.told.extend(guild_ids)  # type: ignore[arg-type]  # a collection

    async def own(self, owner: str = "a") -> feed_ports.Shard:
        """Own the shard."""
        await self.shards.add([KEY])
        owned = await self.shards.acquire(KEY, owner, now=self.now, until=self.now + 15)
        assert owned is not None
        return owned

    async def begin(self, owned: feed_ports.Shard, session: str, at: float) -> feed_ports.Shard:
        """Begin a session that is complete up to a moment."""
        began = dataclasses.replace(owned, session=session, url="wss://x", seq=1, synced_at=at, bot_id=BOT)
        assert await self.shards.begin_session(owned, began, "invalid_session")
        return began

    async def guild(self, guild_id: int = GUILD) -> model.Guild:
        """Return the guild as readers get it."""
        return (await self.guilds.get([guild_id]))[guild_id]

    async def channels(self) -> list[int]:
        """Return the ids of the stored channels."""
        return [row.channel_id for row in await stored.list_channels(self.guilds, [GUILD])]


@pytest.fixture
async def setting(database: store_database.Database) -> Setting:
    """Empty stores."""
    return Setting(database)


def created(*channels: model.Channel, seq: int = 2, guild_id: int = GUILD) -> feed.Numbered:
    """Return a GUILD_CREATE."""
    sight = dataclasses.replace(SIGHT, roles={guild_id: values.VIEW})
    return feed.Numbered(seq, feed.GuildCreated(guild_id, "fed", None, 5, channels, sight))


def changed(channel: model.Channel, seq: int) -> feed.Numbered:
    """Return a CHANNEL_UPDATE."""
    return feed.Numbered(seq, feed.ChannelChanged(GUILD, channel))


ONE, TWO = values.channel(1), values.channel(2)


async def test_a_shard_has_one_owner_when_several_want_it(setting: Setting) -> None:
    """Its lease must end first; the next owner has a greater epoch, and the former one writes nothing."""
    first = await setting.own("a")
    denied = await setting.shards.acquire(KEY, "b", now=NOW + 14, until=NOW + 30)
    second = await setting.shards.acquire(KEY, "b", now=NOW + 15, until=NOW + 30)

    assert denied is None
    assert second is not None
    assert second.epoch == first.epoch + 1
    assert not await setting.shards.checkpoint(first, seq=9, synced_at=NOW + 20, until=NOW + 40)
    assert not await setting.shards.begin_session(first, dataclasses.replace(first, session="x"), "lost")
    assert (await setting.shards.list())[0] == second


async def test_the_next_owner_resumes_when_a_shard_is_released(setting: Setting) -> None:
    """Session, address and event number are stored, and the lease ends at once."""
    owned = await setting.begin(await setting.own(), "s", NOW)
    await setting.shards.checkpoint(owned, seq=41, synced_at=NOW + 3, until=NOW + 15)
    await setting.shards.release(owned)

    taken = await setting.own("b")

    assert (taken.session, taken.url, taken.seq, taken.synced_at, taken.bot_id) == ("s", "wss://x", 41, NOW + 3, BOT)


async def test_a_guild_is_as_fresh_as_its_session_when_it_is_fed(setting: Setting) -> None:
    """One write of the shard keeps all of its guilds fresh; no guild is written for that."""
    owned = await setting.begin(await setting.own(), "s", NOW)
    await setting.writer.apply(owned, [created(ONE)])
    before = await setting.guild()
    setting.now = NOW + 60
    await setting.shards.checkpoint(owned, seq=2, synced_at=NOW + 55, until=NOW + 75)
    after = await setting.guild()

    assert (before.access, before.fetched_at, before.channel_count) == (model.Access.INSTALLED, NOW, 1)
    assert (after.fetched_at, after.fed_by) == (NOW + 55, KEY)
    assert (await setting.guilds.versions([GUILD]))[GUILD].fetched_at == NOW + 55
    assert setting.told == [GUILD]


async def test_all_guilds_stop_being_fed_when_a_new_session_begins(setting: Setting) -> None:
    """One write does it; each keeps the moment up to which it was proven."""
    owned = await setting.begin(await setting.own(), "s", NOW)
    await setting.writer.apply(owned, [created(ONE), created(TWO, guild_id=OTHER, seq=3)])
    await setting.shards.checkpoint(owned, seq=3, synced_at=NOW + 50, until=NOW + 70)
    owned = dataclasses.replace(owned, seq=3, synced_at=NOW + 50)
    began = await setting.begin(owned, "t", NOW + 60)
    await setting.writer.apply(began, [created(ONE)])

    first, second = await setting.guild(), await setting.guild(OTHER)

    assert (first.fetched_at, first.fed_by) == (NOW + 60, KEY)
    assert (second.fetched_at, second.fed_by) == (NOW + 50, "")


async def test_a_session_does_not_feed_when_it_is_silent(setting: Setting) -> None:
    """Jobs do not wait for a shard that proves nothing; the age of its guilds grows."""
    owned = await setting.begin(await setting.own(), "s", NOW)
    await setting.writer.apply(owned, [created(ONE)])
    setting.now = NOW + shards.FEEDS_FOR

    found = await setting.guild()

    assert (found.fetched_at, found.fed_by) == (NOW, "")


async def test_events_are_stored_once_when_a_batch_is_repeated(setting: Setting) -> None:
    """The version grows with what is shown, and not with what is known."""
    owned = await setting.begin(await setting.own(), "s", NOW)
    batch = [created(ONE), changed(TWO, 3), changed(dataclasses.replace(TWO, name="new"), 4)]
    await setting.writer.apply(owned, batch)
    version = (await setting.guilds.versions([GUILD]))[GUILD].version

    again = await setting.writer.apply(owned, batch)

    assert again == 0
    assert (await setting.guilds.versions([GUILD]))[GUILD].version == version
    assert [row.name for row in await stored.list_channels(setting.guilds, [GUILD])] == ["channel 1", "new"]


async def test_a_listing_is_not_stored_when_an_event_came_while_it_was_fetched(setting: Setting) -> None:
    """The fencing token grows with each event, so the older answer changes nothing."""
    owned = await setting.begin(await setting.own(), "s", NOW)
    await setting.writer.apply(owned, [created(ONE)])
    fence = await setting.guilds.acquire_lease(GUILD, now=NOW + 1, until=NOW + 26, fetched_before=NOW + 1)
    assert fence is not None
    known = await setting.guild()
    await setting.writer.apply(owned, [changed(TWO, 3)])

    kept = await setting.guilds.store_channels(GUILD, model.Listing(fence, [ONE], NOW + 1, known=known))

    assert not kept
    assert await setting.channels() == [1, 2]


async def test_an_event_is_stored_when_a_listing_came_in_between(setting: Setting) -> None:
    """The event is folded again into what the listing stored; the guild counts as old as the session's proof."""
    owned = await setting.begin(await setting.own(), "s", NOW)
    await setting.writer.apply(owned, [created(ONE)])
    await stored.channels(setting.guilds, GUILD, fence=await lease(setting), channels=[ONE, TWO], now=NOW + 5)
    listed = await setting.guild()
    await setting.writer.apply(owned, [changed(values.channel(3), 3)])

    assert listed.fetched_at == NOW + 5
    assert await setting.channels() == [1, 2, 3]
    assert (await setting.guild()).fetched_at == NOW


async def lease(setting: Setting) -> int:
    """Take the guild's lease."""
    fence = await setting.guilds.acquire_lease(GUILD, now=NOW + 1, until=NOW + 26, fetched_before=NOW + 1)
    assert fence is not None
    return fence


async def test_a_former_owner_stores_nothing_when_a_later_one_feeds_the_guild(setting: Setting) -> None:
    """A process that was stopped for longer than its lease continues with an older epoch."""
    former = await setting.begin(await setting.own("a"), "s", NOW)
    await setting.writer.apply(former, [created(ONE)])
    setting.now = NOW + 20
    later = await setting.own("b")
    await setting.writer.apply(later, [changed(TWO, 3)])

    await setting.writer.apply(former, [changed(values.channel(3), 3), changed(values.channel(4), 9)])

    assert await setting.channels() == [1, 2]


async def test_no_guild_is_stored_when_only_a_late_event_names_it(setting: Setting) -> None:
    """An erased guild returns with a GUILD_CREATE only."""
    owned = await setting.begin(await setting.own(), "s", NOW)

    await setting.writer.apply(owned, [changed(ONE, 2)])

    assert await setting.guilds.get([GUILD]) == {}


async def test_channels_are_hidden_when_our_bot_is_removed_and_return_with_it(setting: Setting) -> None:
    """Also in guilds that a new session does not name."""
    owned = await setting.begin(await setting.own(), "s", NOW)
    await setting.writer.apply(owned, [created(ONE), created(TWO, guild_id=OTHER, seq=3)])
    await setting.writer.apply(owned, [feed.Numbered(4, feed.BotRemoved(GUILD))])
    await setting.writer.remove_missing(owned, [GUILD])
    removed = [await setting.guild(), await setting.guild(OTHER)]
    await setting.writer.apply(owned, [created(ONE, seq=5)])

    assert [(one.access, one.fetched_at) for one in removed] == [(model.Access.NOT_INSTALLED, None)] * 2
    assert ((await setting.guild()).access, await setting.channels()) == (model.Access.INSTALLED, [1])


async def test_fed_guilds_are_not_refreshed_when_they_are_due(setting: Setting) -> None:
    """They are postponed, so that the refresh lane finds them soon after the feed ends."""
    owned = await setting.begin(await setting.own(), "s", NOW)
    await setting.writer.apply(owned, [created(ONE)])
    await setting.guilds.schedule_soon([GUILD], NOW)

    assert await setting.guilds.list_due(NOW, 10) == []
    setting.now = NOW + 2_000
    assert [one.guild_id for one in await setting.guilds.list_due(NOW + 2_000, 10)] == [GUILD]


async def test_a_fed_guild_stays_when_no_user_is_left(setting: Setting, database: store_database.Database) -> None:
    """Purge and erasure leave it while it is fed: only a new session would bring it back."""
    owned = await setting.begin(await setting.own(), "s", NOW)
    await setting.writer.apply(owned, [created(ONE)])

    await setting.guilds.purge(NOW)
    await erasure.MongoUserData(database).erase_guilds([GUILD], but=values.USER)
    assert await setting.channels() == [1]

    setting.now = NOW + shards.FEEDS_FOR
    assert await setting.guilds.purge(NOW) == 1


async def test_audits_take_turns_among_all_guilds_or_among_those_that_changed_last(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one whose audit is the longest ago; a guild that changes often shows a deaf session soonest."""
    monkeypatch.setattr(fed_guilds, "RECENT", 1)
    owned = await setting.begin(await setting.own(), "s", NOW)
    await setting.writer.apply(owned, [created(ONE), created(values.channel(3, OTHER), guild_id=OTHER)])
    setting.now = NOW + 10.0
    await setting.writer.apply(owned, [changed(TWO, 3)])

    recent = [await setting.fed.pick_for_audit(owned, NOW + number, recent=True) for number in (1, 2)]
    of_all = [await setting.fed.pick_for_audit(owned, NOW + number, recent=False) for number in (3, 4)]

    assert recent == [GUILD, GUILD]
    assert of_all == [OTHER, GUILD]
