"""Single guilds and channels, many ids at once, and search: what pages show, and no more."""

import asyncio

import pytest

from indexing import errors
from indexing.usecases import find_channels, page_cut, search_channels, whole_user
from tests import fake_backend, stored, values
from tests.unit.usecases import test_browse

pytestmark = pytest.mark.clockwork
USER, OTHER = test_browse.USER, test_browse.OTHER
backend = test_browse.backend
"""Guilds 10, 20 and 30; each has a category (1), an open channel (2), a closed one (3) and one for a role (4)."""
VISIBLE = ["11", "12", "21", "22", "24", "31", "32", "33", "34"]
"""The user has the role in 20 and owns 30."""
DAY = 86_400.0


def finder(made: fake_backend.FakeBackend) -> find_channels.FindChannels:
    """Return lookups over a browser of their own."""
    browser = test_browse.browser(made)
    return find_channels.FindChannels(browser, whole_user.WholeUsers(browser, made.clock), made.clock)


def searcher(made: fake_backend.FakeBackend) -> search_channels.SearchChannels:
    """Return searches over a browser of their own."""
    browser = test_browse.browser(made)
    return search_channels.SearchChannels(browser, whole_user.WholeUsers(browser, made.clock), made.clock)


def ids(found: find_channels.Found) -> list[str]:
    """Return the ids of the rows."""
    return [str(row.channel_id) for row in found.rows]


async def test_visible_channels_are_returned_and_the_others_are_named_alike(backend: fake_backend.FakeBackend) -> None:
    """In the order of the request; hidden ones cannot be told from those that do not exist."""
    every = [str(guild + number) for guild in (30, 10, 20) for number in range(1, 6)]

    found = await finder(backend).check(USER, [*every, every[0]])

    assert ids(found) == [channel_id for channel_id in every if channel_id in VISIBLE]
    assert found.missing == ["35", "13", "14", "15", "23", "25"]
    assert found.outdated == []


async def test_a_check_agrees_with_pages_when_the_user_is_another(backend: fake_backend.FakeBackend) -> None:
    """They are in the first guild only, without a role."""
    every = [str(guild + number) for guild in (10, 20, 30) for number in range(1, 5)]

    assert ids(await finder(backend).check(OTHER, every)) == ["11", "12"]


async def test_a_channel_is_gone_when_a_fetch_hides_it(backend: fake_backend.FakeBackend) -> None:
    """Also for a process that has the old version in its cache; and a new one is found."""
    find = finder(backend)
    assert ids(await find.check(USER, ["12", "15"])) == ["12"]
    everyone = values.denied(10)
    rows = [values.channel(12, 10, overwrites=(everyone,)), values.channel(15, 10)]
    backend.clock.advance(1)
    await test_browse.fetched(backend, 10, rows)

    found = await find.check(USER, ["12", "15"])

    assert (ids(found), found.missing) == (["15"], ["12"])


@pytest.mark.parametrize("channel_id", ["13", "9999"], ids=["hidden", "unknown"])
async def test_a_channel_is_not_found_when_the_user_may_not_see_it(
    backend: fake_backend.FakeBackend, channel_id: str
) -> None:
    """With the same words as one that does not exist."""
    with pytest.raises(errors.ChannelNotFound, match="the user sees no such channel"):
        await finder(backend).get_channel(USER, channel_id)

    assert ids(await finder(backend).get_channel(USER, "12")) == ["12"]


async def test_a_guild_is_like_its_row_in_the_list(backend: fake_backend.FakeBackend) -> None:
    """A guild of others is not found."""
    rows = (await test_browse.browser(backend).list_guilds(USER, after=None, size=9)).rows

    for row in rows:
        found = await finder(backend).get_guild(USER, row.guild.guild_id)
        assert [each.guild for each in found.rows] == [row.guild]
        assert found.rows[0].channel_count == row.channel_count
    with pytest.raises(errors.GuildNotFound):
        await finder(backend).get_guild(OTHER, 20)


async def test_search_returns_visible_channels_by_name(backend: fake_backend.FakeBackend) -> None:
    """Names match before ranks; categories are left out, and so are channels that the user may not see."""
    find = searcher(backend)

    assert sorted(ids(await find.search(USER, "general", limit=9))) == ["12", "22", "32"]
    assert ids(await find.search(USER, "staff", limit=9)) == ["33"]
    assert ids(await find.search(USER, "rooms", limit=9)) == []
    assert len((await find.search(USER, "general", limit=2)).rows) == 2


@pytest.mark.parametrize("method", ["guild", "channel", "check", "search", "guilds", "channels"])
async def test_old_rows_are_left_out_when_a_max_age_is_given(backend: fake_backend.FakeBackend, method: str) -> None:
    """Their guilds are named. Rights count like channels: the list of guilds, and roles where they matter."""
    backend.clock.advance(100)
    await stored.guild_list(backend.users, USER, [values.user_guild(each) for each in (10, 20, 30)], backend.clock())
    await test_browse.fetched(backend, 10, test_browse.channels(10))
    await stored.roles(backend.users, USER, 10, (), backend.clock())
    backend.clock.advance(10)

    async def read(max_age: float | None) -> tuple[bool, list[int]]:
        find, browser = finder(backend), test_browse.browser(backend)
        if method == "guild":
            answers = [await find.get_guild(USER, guild, max_age=max_age) for guild in (10, 20)]
            return bool(answers[1].rows), [each for answer in answers for each in answer.outdated]
        if method == "channel":
            answers = [await find.get_channel(USER, channel, max_age=max_age) for channel in ("12", "22")]
            return bool(answers[1].rows), [each for answer in answers for each in answer.outdated]
        if method == "check":
            answer = await find.check(USER, ["12", "22"], max_age=max_age)
            return "22" in ids(answer), answer.outdated
        if method == "search":
            answer = await searcher(backend).search(USER, "general", limit=9, max_age=max_age)
            return "22" in ids(answer), [each for each in answer.outdated if each != 30]
        if method == "guilds":
            page = await browser.list_guilds(USER, after=None, size=9, max_age=max_age)
            return any(row.guild.guild_id == 20 for row in page.rows), [each for each in page.outdated if each != 30]
        wanted = page_cut.ChannelFilter()
        page = await browser.list_channels(USER, wanted, after=None, size=99, max_age=max_age)
        return any(row.guild_id == 20 for row in page.rows), [each for each in page.outdated if each != 30]

    assert await read(None) == (True, [])
    assert await read(200.0) == (True, [])
    assert await read(50.0) == (False, [20])
    (_, outdated) = await read(5.0)
    assert 10 in outdated


async def test_nothing_is_found_when_the_guild_list_is_too_old(backend: fake_backend.FakeBackend) -> None:
    """The user may have left since."""
    backend.clock.advance(backend.config.roles_hard_age)

    found = await finder(backend).check(USER, VISIBLE)

    assert (found.rows, found.missing) == ([], VISIBLE)
    assert (await searcher(backend).search(USER, "general", limit=9)).rows == []


async def test_a_guild_that_is_not_stored_has_no_channels(backend: fake_backend.FakeBackend) -> None:
    """It does not keep the others from being read."""
    rows = [values.user_guild(10), values.user_guild(77)]
    backend.clock.advance(1)
    await stored.guild_list(backend.users, OTHER, rows, backend.clock())

    assert ids(await finder(backend).check(OTHER, ["12", "78"])) == ["12"]


async def test_an_unknown_user_is_an_error(backend: fake_backend.FakeBackend) -> None:
    """Like for pages."""
    with pytest.raises(errors.UserNotFound):
        await searcher(backend).search(USER + 99, "general", limit=1)


async def test_a_search_shows_nothing_that_was_hidden_a_moment_ago(backend: fake_backend.FakeBackend) -> None:
    """What is shown is checked by each call, also within the second in which other guilds are not."""
    find = searcher(backend)
    before = ids(await find.search(USER, "general", limit=9))
    await test_browse.fetched(backend, 10, [values.channel(12, 10, name="general", overwrites=(values.denied(10),))])

    after = ids(await find.search(USER, "general", limit=9))

    assert sorted(before) == ["12", "22", "32"]
    assert sorted(after) == ["22", "32"]


async def test_everything_is_found_when_the_guilds_do_not_fit_into_the_cache() -> None:
    """The smallest cache allowed holds some 80 of them; the others are loaded again."""
    made = fake_backend.make(read_cache_bytes=1 << 20)
    guild_ids = range(1_000, 3_000, 20)
    rows = [values.user_guild(guild_id) for guild_id in guild_ids]
    await made.add_user(rows)
    await made.guilds.upsert_guilds(rows, guild_ids)
    await stored.guild_list(made.users, USER, rows, made.clock())
    for guild_id in guild_ids:
        await test_browse.fetched(made, guild_id, [values.channel(guild_id + 1, guild_id, name=f"room {guild_id}")])
    find, search = finder(made), searcher(made)
    every = [str(guild_id + 1) for guild_id in guild_ids]

    for _ in range(2):
        assert ids(await find.check(USER, [*every, "7"])) == every
        assert sorted(ids(await search.search(USER, "room", limit=1_000))) == every
        assert ids(await find.get_channel(USER, every[0])) == [every[0]]


async def test_a_search_finds_a_new_channel_when_two_seconds_have_passed(backend: fake_backend.FakeBackend) -> None:
    """Whatever was prepared before; and ranks it like any other."""
    search = searcher(backend)
    assert ids(await search.search(USER, "fresh", limit=9)) == []
    await test_browse.fetched(backend, 10, [*test_browse.channels(10), values.channel(15, 10, name="fresh")])
    backend.clock.advance(search_channels.MOST_MISSED)

    assert ids(await search.search(USER, "fresh", limit=9)) == ["15"]


async def test_names_are_prepared_again_in_the_background_when_they_are_a_second_old(
    backend: fake_backend.FakeBackend,
) -> None:
    """The call that notices does not wait; the next one has the new names."""
    search = searcher(backend)
    await search.search(USER, "fresh", limit=9)
    await test_browse.fetched(backend, 10, [*test_browse.channels(10), values.channel(15, 10, name="fresh")])
    backend.clock.advance(whole_user.MISSED_AGE)

    noticed = ids(await search.search(USER, "fresh", limit=9))
    await asyncio.sleep(0.1)

    assert (noticed, ids(await search.search(USER, "fresh", limit=9))) == ([], ["15"])
