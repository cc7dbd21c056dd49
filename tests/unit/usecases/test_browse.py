"""What a user is shown of the index."""

import asyncio
from typing import Any

import pytest

from indexer_service.api import convert
from indexer_service.v1 import indexer_pb2 as pb
from indexing import errors, settings
from indexing.domain import model, permissions
from indexing.usecases import browse, guild_views, page_cut
from tests import fake_backend, stored, values

pytestmark = pytest.mark.clockwork
USER, OTHER = values.USER, values.USER + 1
ROLE = 5
GUILDS = [10, 20, 30]


def channels(guild_id: int) -> list[model.Channel]:
    """Return a category with an open channel, a closed one and one for a role; some are old and one was never used."""
    everyone = values.denied(guild_id)
    return [
        values.channel(guild_id + 1, guild_id, kind=4, name="Rooms", position=0),
        values.channel(guild_id + 2, guild_id, name="General", position=1, parent_id=guild_id + 1, last_message_id=50),
        values.channel(guild_id + 3, guild_id, name="staff", position=1, overwrites=(everyone,), last_message_id=99),
        values.channel(
            guild_id + 4,
            guild_id,
            kind=2,
            name="gen-voice",
            position=2,
            overwrites=(everyone, values.allowed(ROLE)),
            last_message_id=guild_id,
        ),
    ]


@pytest.fixture
async def backend() -> fake_backend.FakeBackend:
    """Three guilds are indexed; the user has the role in the second and owns the third."""
    made = fake_backend.make()
    rows = [values.user_guild(10), values.user_guild(20), values.user_guild(30, owner=True)]
    await made.add_user(rows)
    await stored.guild_list(made.users, USER, rows, made.clock())
    await stored.guild_list(made.users, OTHER, [values.user_guild(10)], made.clock())
    await made.guilds.upsert_guilds(rows, GUILDS)
    for guild_id in GUILDS:
        await fetched(made, guild_id, channels(guild_id))
    await stored.roles(made.users, USER, 20, (ROLE,), made.clock())
    return made


async def fetched(
    backend: fake_backend.FakeBackend,
    guild_id: int,
    rows: list[model.Channel],
    schedule: model.Schedule = model.NEVER_FETCHED,
) -> None:
    """Store a guild as fetched now."""
    now = backend.clock()
    fence = await backend.guilds.acquire_lease(guild_id, now=now, until=now + 1, fetched_before=now)
    assert fence is not None
    await stored.channels(backend.guilds, guild_id, fence=fence, channels=rows, now=now, schedule=schedule)


async def counted(backend: fake_backend.FakeBackend) -> dict[int, tuple[int | None, str]]:
    """Return each guild's channel count and the reason why it may be incomplete."""
    views = (await browser(backend).list_guilds(USER, after=None, size=50)).rows
    return {view.guild.guild_id: (view.channel_count, view.reason) for view in views}


def browser(backend: fake_backend.FakeBackend, rules: settings.IndexingSettings | None = None) -> browse.Browse:
    """Return the use case."""
    return browse.Browse(
        backend.deps, rules or backend.config, encode_channel=as_it_is, encode_guild=as_it_is, monotonic=backend.clock
    )


def as_it_is(row: Any) -> Any:  # noqa: ANN401 -- a channel or a guild
    """Return the row unchanged: pages are compared, not sent."""
    return row


async def ids(backend: fake_backend.FakeBackend, *, size: int = 100, user: int = USER, **wanted: Any) -> list[int]:  # noqa: ANN401 -- any field of a filter
    """Return the ids of all pages."""
    after: tuple[Any, ...] | None = None
    found: list[int] = []
    reader = browser(backend)
    while True:
        page = await reader.list_channels(user, page_cut.ChannelFilter(**wanted), after=after, size=size)
        assert len(page.rows) <= size
        found += [row.channel_id for row in page.rows]
        after = page.following
        if after is None:
            return found


async def test_the_age_of_guilds_is_observed_when_they_are_listed(backend: fake_backend.FakeBackend) -> None:
    """One observation for each guild of the page that was ever fetched: three of the four, all fetched 30 s ago."""
    await backend.guilds.upsert_guilds([values.user_guild(40)], {40})
    await stored.guild_list(backend.users, USER, [values.user_guild(key) for key in (10, 20, 30, 40)], backend.clock())
    observed: list[float] = []
    reader = browse.Browse(
        backend.deps,
        backend.config,
        encode_channel=as_it_is,
        encode_guild=as_it_is,
        monotonic=backend.clock,
        observe_ages=observed.extend,
    )
    backend.clock.advance(30)

    page = await reader.list_guilds(USER, after=None, size=50)

    assert len(page.rows) == 4
    assert observed == [30.0, 30.0, 30.0]


async def test_guilds_are_ranked_once_when_many_list_them_at_once(backend: fake_backend.FakeBackend) -> None:
    """And while the user goes on reading they are ranked again before a caller would have to wait for it."""
    encoded: list[guild_views.GuildView] = []

    def encode(view: guild_views.GuildView) -> guild_views.GuildView:
        encoded.append(view)
        return view

    reader = browse.Browse(
        backend.deps, backend.config, encode_channel=as_it_is, encode_guild=encode, monotonic=backend.clock
    )
    pages = await asyncio.gather(*(reader.list_guilds(USER, after=None, size=50) for _ in range(5)))
    assert [len(page.rows) for page in pages] == [3] * 5
    assert len(encoded) == 3

    backend.clock.advance(0.8)
    assert (await reader.list_guilds(USER, after=None, size=50)).rows == pages[0].rows
    user = await reader.cache.user(USER)
    for _ in range(10):
        await asyncio.sleep(0)

    ranked = reader.cache.ranked(user)
    assert ranked is not None
    assert ranked.valid_until == backend.clock() + browse.LIST_AGE
    assert len(encoded) == 3


async def test_only_visible_channels_are_returned_when_a_user_lists_channels(backend: fake_backend.FakeBackend) -> None:
    """By guild, in the clients' order: open channels, those of the user's roles, and all of a guild that they own."""
    assert await ids(backend) == [11, 12, 24, 21, 22, 33, 34, 31, 32]


async def test_nothing_forbidden_is_shown_when_any_filter_is_used(backend: fake_backend.FakeBackend) -> None:
    """A filter narrows the visible channels and never widens them."""
    forbidden = {13, 14, 23}
    filters: list[dict[str, Any]] = [
        {"guild_id": 10},
        {"name_prefix": "staff"},
        {"name_prefix": "gen"},
        {"kinds": (0, 2)},
        {"by_activity": True},
    ]

    shown = [await ids(backend, **wanted) for wanted in filters]

    assert not forbidden & {channel_id for found in shown for channel_id in found}


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        pytest.param({"guild_id": 20}, [24, 21, 22], id="one-guild"),
        pytest.param({"guild_id": 99}, [], id="not-a-member"),
        pytest.param({"name_prefix": "GEN"}, [12, 24, 22, 34, 32], id="prefix-in-any-case"),
        pytest.param({"name_prefix": "eneral"}, [], id="not-a-prefix"),
        pytest.param({"kinds": (2, 4)}, [11, 24, 21, 34, 31], id="types"),
        pytest.param({"guild_id": 30, "kinds": (0,), "name_prefix": "s"}, [33], id="all-together"),
        pytest.param({"by_activity": True, "guild_id": 30}, [33, 32, 34, 31], id="newest-first-unused-last"),
    ],
)
async def test_channels_are_filtered_and_ordered_when_the_caller_sets_a_filter(
    backend: fake_backend.FakeBackend, wanted: dict[str, Any], found: list[int]
) -> None:
    """By guild, name prefix, type and activity."""
    assert await ids(backend, **wanted) == found


@pytest.mark.parametrize("by_activity", [False, True], ids=["by-position", "by-activity"])
@pytest.mark.parametrize("size", [1, 2, 3, 8, 9, 10])
async def test_every_channel_is_returned_once_when_pages_are_followed(
    backend: fake_backend.FakeBackend,
    size: int,
    by_activity: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """For every page size, in the order of the whole list, without an empty last page."""
    whole = await ids(backend, by_activity=by_activity)

    assert await ids(backend, by_activity=by_activity, size=size) == whole
    assert len(set(whole)) == len(whole) == 9


async def test_no_channel_is_skipped_when_another_is_removed_between_pages(backend: fake_backend.FakeBackend) -> None:
    """A page starts after the last channel returned, not at an offset."""
    reader = browser(backend)
    first = await reader.list_channels(USER, page_cut.ChannelFilter(), after=None, size=3)
    backend.clock.advance(1.0)
    await fetched(backend, 10, channels(10)[1:])

    rest = await reader.list_channels(USER, page_cut.ChannelFilter(), after=first.following, size=100)

    assert [row.channel_id for row in first.rows + rest.rows] == [11, 12, 24, 21, 22, 33, 34, 31, 32]


async def test_a_page_can_be_sent_when_topics_have_the_maximum_length(backend: fake_backend.FakeBackend) -> None:
    """A guild's owner cannot break the lists of its members; no row is skipped."""
    topic = "\U0001f389" * 16_384
    rows = [values.channel(1_000 + number, 10, topic=topic, name="\U0001f389" * 1_000) for number in range(120)]
    await fetched(backend, 10, rows)
    found, after, pages = [], None, 0
    while pages == 0 or after is not None:
        page = await browser(backend).list_channels(USER, page_cut.ChannelFilter(guild_id=10), after=after, size=500)
        found += page.rows
        after = page.following
        pages += 1

        answer = pb.ListChannelsResponse(channels=[convert.channel(row) for row in page.rows])
        assert 0 < answer.ByteSize() < 512 << 10

    assert found == rows
    assert pages > 1


async def test_each_user_sees_their_own_channels_when_guilds_are_shared(backend: fake_backend.FakeBackend) -> None:
    """Channels are stored once and filtered by each user's rights."""
    assert await ids(backend, user=OTHER) == [11, 12]


async def test_a_guild_is_not_shown_when_the_user_has_left_it(backend: fake_backend.FakeBackend) -> None:
    """At once, although its channels are still stored."""
    await stored.left(backend.users, USER, 30)

    assert await ids(backend) == [11, 12, 24, 21, 22]
    views = (await browser(backend).list_guilds(USER, after=None, size=50)).rows
    assert {view.guild.guild_id for view in views} == {10, 20}


async def test_a_roles_channels_are_hidden_when_the_roles_are_too_old(backend: fake_backend.FakeBackend) -> None:
    """Access expires when roles are not confirmed."""
    backend.clock.advance(backend.config.roles_hard_age)
    await stored.guild_list(backend.users, USER, backend.discord.lists[USER], backend.clock())

    assert await ids(backend, guild_id=20) == [21, 22]


async def test_a_roles_channels_are_not_counted_when_the_roles_are_too_old(backend: fake_backend.FakeBackend) -> None:
    """The guild's row counts the channels shown and says that there may be more."""
    before = await counted(backend)
    backend.clock.advance(backend.config.roles_hard_age)
    await stored.guild_list(backend.users, USER, backend.discord.lists[USER], backend.clock())

    after = await counted(backend)

    assert before[20] == (len(await ids(backend, guild_id=20)) + 1, "")
    assert after[20] == (len(await ids(backend, guild_id=20)), "ROLES_UNKNOWN")


async def test_nothing_is_shown_when_the_guild_list_is_too_old(backend: fake_backend.FakeBackend) -> None:
    """Discord does not report removals: even an owner loses access when their guild list is not fetched any more."""
    backend.clock.advance(backend.config.roles_hard_age - 1.0)
    young = await ids(backend)
    backend.clock.advance(1.0)

    old = await ids(backend)
    views = (await browser(backend).list_guilds(USER, after=None, size=50)).rows
    await stored.guild_list(backend.users, USER, backend.discord.lists[USER], backend.clock())

    assert {11, 21, 33} < set(young)
    assert old == []
    assert {(view.channel_count, view.reason) for view in views} == {(0, "LIST_TOO_OLD")}
    assert {11, 21, 33} < set(await ids(backend))


async def test_nothing_is_shown_when_the_guild_list_has_no_time(backend: fake_backend.FakeBackend) -> None:
    """Its age is unknown, so that it counts as too old; the next guild list sets the time."""
    backend.users.forget_times()

    assert await ids(backend) == []
    assert await counted(backend) == dict.fromkeys(GUILDS, (0, "LIST_TOO_OLD"))


async def test_nothing_new_is_shown_when_the_guild_list_is_too_old(backend: fake_backend.FakeBackend) -> None:
    """Neither names nor times nor activity nor access that other users' jobs found out since; the ids stay."""
    backend.clock.advance(backend.config.roles_hard_age)
    before = (await browser(backend).list_guilds(USER, after=None, size=50)).rows
    await backend.guilds.upsert_guilds([values.user_guild(10, name="renamed", icon="new", member_count=9)], GUILDS)
    await fetched(backend, 10, [values.channel(11, 10, last_message_id=values.snowflake(backend.clock()))])
    await backend.guilds.mark_bot_removed([20], backend.clock())
    backend.clock.advance(browse.LIST_AGE)

    after = await browser(backend).list_guilds(USER, after=None, size=50)

    assert after.rows == before
    assert {view.guild for view in after.rows} == {guild_views.without_news(guild_id) for guild_id in GUILDS}
    assert after.stale == []


async def age_channels(backend: fake_backend.FakeBackend, seconds: float) -> None:
    """Let time pass after the fetch of the channels; the guild lists stay recent."""
    backend.clock.advance(seconds)
    for user in (USER, OTHER):
        rows = backend.discord.lists[USER] if user == USER else [values.user_guild(10)]
        await stored.guild_list(backend.users, user, rows, backend.clock())
    await stored.roles(backend.users, USER, 20, (ROLE,), backend.clock())


async def test_only_owners_and_administrators_see_channels_that_are_too_old(backend: fake_backend.FakeBackend) -> None:
    """Overwrites that nobody has confirmed for so long may have become stricter, which concerns all other members."""
    await age_channels(backend, backend.config.channels_hard_age - 1.0)
    young = await ids(backend)
    await age_channels(backend, 1.0)

    assert young == [11, 12, 24, 21, 22, 33, 34, 31, 32]
    assert await ids(backend) == [33, 34, 31, 32]
    assert await ids(backend, user=OTHER) == []
    assert await counted(backend) == {
        10: (0, "CHANNELS_TOO_OLD"),
        20: (0, "CHANNELS_TOO_OLD"),
        30: (4, "CHANNELS_TOO_OLD"),
    }


async def test_channels_that_are_too_old_are_shown_again_when_the_guild_is_fetched(
    backend: fake_backend.FakeBackend,
) -> None:
    """Also by a reader that has them in its cache, and although the fetch finds no change and makes no version."""
    reader = browser(backend)
    wanted = page_cut.ChannelFilter(guild_id=10)
    structure = model.Schedule(fingerprint="of these channels")
    await fetched(backend, 10, channels(10), structure)
    await age_channels(backend, backend.config.channels_hard_age)
    old = await reader.list_channels(USER, wanted, after=None, size=9)
    versions = [await backend.guilds.versions([10])]
    await fetched(backend, 10, channels(10), structure)
    versions.append(await backend.guilds.versions([10]))

    page = await reader.list_channels(USER, wanted, after=None, size=9)

    assert versions[0][10].version == versions[1][10].version
    assert (old.rows, old.stale) == ([], [10])
    assert [row.channel_id for row in page.rows] == [11, 12]


async def test_a_guild_is_due_when_a_reader_finds_its_channels_too_old(backend: fake_backend.FakeBackend) -> None:
    """Otherwise nothing would ever fetch it again for a user who starts no job."""
    reader = browser(backend)
    await age_channels(backend, backend.config.channels_hard_age)
    await reader.list_channels(OTHER, page_cut.ChannelFilter(guild_id=10), after=None, size=9)

    await reader.write_views()

    assert [guild.guild_id for guild in await backend.guilds.list_due(backend.clock(), 9)] == [10]


async def test_a_cached_page_hides_channels_when_they_become_too_old(backend: fake_backend.FakeBackend) -> None:
    """By channels and by counts: nothing is shown past its age because it was cached fresh."""
    rules = backend.config.model_copy(update={"read_cache_max_age": 1.0})
    reader, wanted = browser(backend, rules), page_cut.ChannelFilter(guild_id=10)
    await age_channels(backend, rules.channels_hard_age - 0.5)
    assert len((await reader.list_channels(USER, wanted, after=None, size=9)).rows) == 2
    young = (await reader.list_guilds(USER, after=None, size=9)).rows

    backend.clock.advance(0.5)

    assert (await reader.list_channels(USER, wanted, after=None, size=9)).rows == []
    old = (await reader.list_guilds(USER, after=None, size=9)).rows
    counts = [{view.guild.guild_id: view.channel_count for view in rows} for rows in (young, old)]
    assert counts == [{10: 2, 20: 3, 30: 4}, {10: 0, 20: 0, 30: 4}]


async def test_channels_are_hidden_at_once_when_the_guild_refuses_the_bot(backend: fake_backend.FakeBackend) -> None:
    """A 403 means that no later change will be noticed; other refusals leave the channels until they are too old."""
    for guild_id, reason in ((10, "NO_ACCESS"), (20, "GUILD_UNAVAILABLE"), (30, "NO_ACCESS")):
        now = backend.clock()
        fence = await backend.guilds.acquire_lease(guild_id, now=now, until=now + 1, fetched_before=now)
        assert fence is not None
        await backend.guilds.mark_refused(guild_id, fence=fence, error=reason, now=now, retry_at=now + 60)

    assert await ids(backend) == [24, 21, 22, 33, 34, 31, 32]
    assert await counted(backend) == {10: (0, "NO_ACCESS"), 20: (3, "GUILD_UNAVAILABLE"), 30: (4, "NO_ACCESS")}
    await age_channels(backend, backend.config.channels_hard_age)
    assert (await counted(backend))[20] == (0, "CHANNELS_TOO_OLD")


async def end_consent(backend: fake_backend.FakeBackend, shown_until: float, *, revoke: bool) -> None:
    """End the user's consent by a revocation or by Discord's refusal."""
    if revoke:
        await backend.credentials.delete(USER, shown_until=shown_until)
    else:
        version = (await backend.credentials.get(USER)).version
        await backend.credentials.mark_refused(USER, version=version, shown_until=shown_until)


@pytest.mark.parametrize("revoke", [False, True], ids=["refused", "revoked"])
@pytest.mark.parametrize("grace", [0.0, 3600.0])
async def test_nothing_is_shown_when_the_consent_has_ended(
    backend: fake_backend.FakeBackend,
    grace: float,
    revoke: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """After the grace time, from a reader's cache as well; an unproven pair changes nothing, a proven one does."""
    reader = browser(backend)

    async def shown() -> tuple[int, int]:
        guilds = await reader.list_guilds(USER, after=None, size=50)
        found = await reader.list_channels(USER, page_cut.ChannelFilter(), after=None, size=50)
        return len(guilds.rows), len(found.rows)

    before = await shown()
    await end_consent(backend, backend.clock() + grace, revoke=revoke)
    during = await shown()
    backend.clock.advance(grace)
    after = await shown()
    await backend.users.put_unproven(USER, values.credential())
    unproven = await shown()
    await backend.users.put_credential(USER, values.credential())

    assert before == await shown()
    assert before[0] == len(GUILDS)
    assert (during, after, unproven) == (before if grace else (0, 0), (0, 0), (0, 0))


@pytest.mark.parametrize("user", [OTHER + 1, 0], ids=["unknown", "nobody"])
async def test_user_not_found_is_raised_when_an_unknown_user_browses(
    backend: fake_backend.FakeBackend, user: int
) -> None:
    """An empty list would mean that the user can see nothing."""
    with pytest.raises(errors.UserNotFound):
        await browser(backend).list_channels(user, page_cut.ChannelFilter(), after=None, size=10)
    with pytest.raises(errors.UserNotFound):
        await browser(backend).list_guilds(user, after=None, size=10)


async def test_lists_are_empty_when_a_known_user_was_never_indexed(backend: fake_backend.FakeBackend) -> None:
    """A stored credential makes the user known."""
    await backend.users.put_credential(OTHER + 1, values.credential())

    assert await ids(backend, user=OTHER + 1) == []
    assert await browser(backend).list_guilds(OTHER + 1, after=None, size=10) == browse.Page([], None, [])


@pytest.mark.parametrize("size", [1, 2, 3, 4])
async def test_every_guild_is_returned_once_when_pages_are_followed(
    backend: fake_backend.FakeBackend, size: int
) -> None:
    """By rank, with its position, for every page size."""
    await backend.users.put_preferences(USER, model.Preferences(pinned=(20,)))
    after: tuple[Any, ...] | None = None
    views: list[guild_views.GuildView] = []

    while not views or after is not None:
        page = await browser(backend).list_guilds(USER, after=after, size=size)
        views += page.rows
        after = page.following

    assert [(view.guild.guild_id, view.position) for view in views] == [(20, 0), (30, 1), (10, 2)]


async def test_a_guild_row_has_all_known_facts_when_it_is_listed(backend: fake_backend.FakeBackend) -> None:
    """The number of visible channels, the ownership, and the reason why channels are missing."""
    views = (await browser(backend).list_guilds(USER, after=None, size=50)).rows

    found = {view.guild.guild_id: (view.owner, view.channel_count, view.stale, view.reason) for view in views}
    assert found == {
        10: (False, 2, False, "ROLES_UNKNOWN"),
        20: (False, 3, False, ""),
        30: (True, 4, False, ""),
    }


async def test_a_guild_is_marked_stale_when_it_is_old(backend: fake_backend.FakeBackend) -> None:
    """From the configured age on."""
    backend.clock.advance(backend.config.max_age)

    views = (await browser(backend).list_guilds(USER, after=None, size=50)).rows

    assert {view.stale for view in views} == {True}


async def test_a_guild_has_a_reason_when_its_channels_are_missing(backend: fake_backend.FakeBackend) -> None:
    """No bot, no access, or not fetched yet; channels fetched before a refusal are not counted."""
    rows = [values.user_guild(guild_id) for guild_id in (10, 20, 40)]
    await stored.guild_list(backend.users, USER, rows, backend.clock())
    await backend.guilds.upsert_guilds(rows, [10, 40])
    now = backend.clock()
    fence = await backend.guilds.acquire_lease(10, now=now, until=now + 1, fetched_before=now)
    assert fence is not None
    await backend.guilds.mark_refused(10, fence=fence, error="NO_ACCESS", now=now, retry_at=now + 60)

    views = (await browser(backend).list_guilds(USER, after=None, size=50)).rows

    found = {view.guild.guild_id: (view.channel_count, view.reason) for view in views}
    assert found == {10: (0, "NO_ACCESS"), 20: (None, "BOT_NOT_INSTALLED"), 40: (None, "NOT_INDEXED_YET")}


async def test_the_count_equals_the_channels_shown_when_a_guild_is_opened(backend: fake_backend.FakeBackend) -> None:
    """Both lists agree with each other and with the permission rules."""
    views = (await browser(backend).list_guilds(USER, after=None, size=50)).rows

    for view in views:
        guild_id = view.guild.guild_id
        membership = await stored.member(backend.users, USER, guild_id)
        assert membership is not None
        seen = permissions.visible_channels(
            membership, await stored.list_channels(backend.guilds, [guild_id]), membership.role_ids
        )
        assert view.channel_count == len(seen) == len(await ids(backend, guild_id=guild_id))


async def test_a_guild_without_our_bot_has_an_install_link_when_one_is_configured(
    backend: fake_backend.FakeBackend,
) -> None:
    """The link selects the guild; the reason says whether our bot was ever in it."""
    rows = [values.user_guild(guild_id) for guild_id in (10, 20, 40)]
    await stored.guild_list(backend.users, USER, rows, backend.clock())
    await backend.guilds.mark_bot_removed([20, 40], backend.clock())
    await backend.guilds.upsert_guilds(rows, [10])
    rules = backend.config.model_copy(
        update={"install_url": "https://discord.com/oauth2/authorize?client_id=1&scope=bot"}
    )

    views = (await browser(backend, rules).list_guilds(USER, after=None, size=50)).rows

    found = {view.guild.guild_id: (view.reason, view.install_url) for view in views}
    link = "https://discord.com/oauth2/authorize?client_id=1&scope=bot&guild_id={}&disable_guild_select=true"
    assert found == {
        10: ("ROLES_UNKNOWN", ""),
        20: ("BOT_REMOVED", link.format(20)),
        40: ("BOT_NOT_INSTALLED", link.format(40)),
    }
    assert await ids(backend, guild_id=20) == []


async def test_stale_channels_are_returned_and_refreshed_once_when_they_are_viewed(
    backend: fake_backend.FakeBackend,
) -> None:
    """They are marked stale; the guild is scheduled now, however often it is viewed."""
    reader = browser(backend)
    young = await reader.list_channels(USER, page_cut.ChannelFilter(guild_id=10), after=None, size=9)
    backend.clock.advance(backend.config.max_age)
    due = backend.clock()
    stale = []
    for _ in range(3):
        page = await reader.list_channels(USER, page_cut.ChannelFilter(guild_id=10), after=None, size=9)
        stale.append(page.stale)
        await reader.write_views()
        backend.clock.advance(1)

    assert (young.stale, stale) == ([], [[10]] * 3)
    found = (await backend.guilds.get([10]))[10]
    assert (found.schedule.next_at, found.last_viewed_at) == (due, due)
    membership = await stored.member(backend.users, USER, 10)
    assert membership is not None
    assert membership.last_viewed_at == due
    assert [guild.guild_id for guild in await backend.guilds.list_due(backend.clock(), 9)] == [10]


async def test_a_guilds_rank_is_explained_when_guilds_are_listed(backend: fake_backend.FakeBackend) -> None:
    """Every signal with its contribution; the contributions sum up to the score."""
    await backend.users.put_preferences(USER, model.Preferences(pinned=(20,)))

    views = (await browser(backend).list_guilds(USER, after=None, size=50)).rows

    assert [(view.guild.guild_id, view.rank.inputs.pinned) for view in views] == [(20, 0), (30, None), (10, None)]
    assert all(view.rank.score == pytest.approx(sum(view.rank.contributions.values())) for view in views)
    assert views[1].rank.contributions["owner"] > views[2].rank.contributions["owner"] == 0
