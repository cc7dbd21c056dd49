"""A user's guild list, and the set of guilds that have our bot."""

import asyncio
import dataclasses
from typing import Any

import pytest

from indexing import errors
from indexing.domain import model, ports
from indexing.usecases import bot_list, demand, guild_lists
from tests import fake_backend, fakes, stored, values

pytestmark = pytest.mark.clockwork
USER = values.USER
PURPOSE = ports.Purpose(model.Lane.INTERACTIVE, USER, "job:list", 0.5)


@pytest.fixture
async def backend() -> fake_backend.FakeBackend:
    """One user in three guilds, one of them without our bot."""
    made = fake_backend.make()
    await made.add_user([values.user_guild(guild_id) for guild_id in (10, 20, 30)])
    made.discord.installed.discard(20)
    return made


class SilentGuilds(fakes.MemoryGuilds):
    """Port `ports.Guilds`, with a server that never answers."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    async def mark_viewed(self, *_: object, **__: object) -> None:
        """Wait for ever."""
        self.asked += 1
        await asyncio.Event().wait()


class CountingUsers(fakes.MemoryUsers):
    """Port `ports.Users`, which takes 0.1 s to store a list, and counts those that are stored at once."""

    def __init__(self) -> None:
        super().__init__()
        self.storing = self.most = 0

    async def replace_guild_list(self, known: model.User, guilds: Any, asked_at: float) -> bool:  # noqa: ANN401 -- rows
        """Count, and store."""
        self.storing += 1
        self.most = max(self.most, self.storing)
        await asyncio.sleep(0.1)
        self.storing -= 1
        return await super().replace_guild_list(known, guilds, asked_at)


@pytest.mark.parametrize(("limit", "most"), [(4, 4), (32, 12)])
async def test_lists_are_stored_side_by_side_as_far_as_the_store_takes_operations(
    backend: fake_backend.FakeBackend, limit: int, most: int
) -> None:
    """A far store takes more; one near by would only be slower for the first of twelve users."""
    users = CountingUsers()
    deps = dataclasses.replace(backend.deps, users=users)
    listing = guild_lists.GuildLists(deps, backend.config, most_stored=lambda: limit)
    for user in range(1, 13):
        await users.put_credential(user, values.credential())
        backend.discord.lists[user] = [values.user_guild(10)]

    await asyncio.gather(
        *(
            listing.fetch_guild_list(
                values.job(user_id=user), values.credential(), dataclasses.replace(PURPOSE, user_id=user)
            )
            for user in range(1, 13)
        )
    )

    assert users.most == most


def lists(backend: fake_backend.FakeBackend) -> guild_lists.GuildLists:
    """Return the use case."""
    return guild_lists.GuildLists(backend.deps, backend.config)


async def test_the_whole_list_is_stored_when_it_is_fetched(backend: fake_backend.FakeBackend) -> None:
    """Memberships, names, and whether our bot is there; tasks are ordered by rank."""
    backend.discord.lists[USER][2] = values.user_guild(30, owner=True, name="mine")

    units = (await lists(backend).fetch_guild_list(values.job(), values.credential(), PURPOSE)).tasks

    assert [(unit.guild_id, unit.position, unit.name) for unit in units] == [
        (30, 0, "mine"),
        (10, 1, "guild 10"),
        (20, 2, "guild 20"),
    ]
    assert await values.stored_membership(backend.users, USER, 30) == values.membership(
        guild_id=30, owner=True, roles_changed_at=backend.clock()
    )
    found = await backend.guilds.get([10, 20, 30])
    assert [found[key].access for key in (10, 20, 30)] == ["INSTALLED", "NOT_INSTALLED", "INSTALLED"]


async def test_a_task_is_skipped_with_a_reason_when_it_needs_no_call(backend: fake_backend.FakeBackend) -> None:
    """Without our bot, or muted by the user; the missing bot takes precedence."""
    await backend.users.put_preferences(USER, model.Preferences(muted=(10, 20)))

    units = (await lists(backend).fetch_guild_list(values.job(), values.credential(), PURPOSE)).tasks

    reasons = {unit.guild_id: (unit.state.value, unit.reason) for unit in units}
    assert reasons == {10: ("SKIPPED", "MUTED"), 20: ("SKIPPED", "BOT_NOT_INSTALLED"), 30: ("QUEUED", "")}


async def test_the_user_is_charged_for_their_own_list_when_both_are_fetched(
    backend: fake_backend.FakeBackend,
) -> None:
    """The bot's list serves all users."""
    await lists(backend).fetch_guild_list(values.job(), values.credential(), PURPOSE)

    charged = {call.what: (call.purpose.user_id, call.purpose.lane) for call in backend.discord.calls}
    assert charged == {
        "installs": (None, model.Lane.INTERACTIVE),
        "list": (USER, model.Lane.INTERACTIVE),
        ("bot", 20): (None, model.Lane.INTERACTIVE),
    }


async def test_the_bots_list_waits_longer_for_permits_than_the_turn_that_needs_it(
    backend: fake_backend.FakeBackend,
) -> None:
    """It has a page for each 200 guilds, and would begin with the first again."""
    await lists(backend).fetch_guild_list(values.job(), values.credential(), PURPOSE)

    waits = {call.what: call.purpose.max_wait for call in backend.discord.calls}
    assert waits["list"] == PURPOSE.max_wait < waits["installs"] == bot_list.PAGE_WAIT


async def test_the_bots_list_is_fetched_once_when_many_need_it(backend: fake_backend.FakeBackend) -> None:
    """Later callers use the cache; callers at the same moment wait for the one fetch."""
    backend.discord.latency = 0.9
    case = lists(backend)

    found = await asyncio.gather(*(case.bot_guilds.get(PURPOSE) for _ in range(5)))
    backend.clock.advance(backend.config.bot_guilds_age - 1)
    later = await case.bot_guilds.get(PURPOSE)

    assert [*found, later] == [frozenset({10, 30})] * 6
    assert backend.discord.asked("installs") == 1


async def test_the_bots_list_is_fetched_again_when_it_is_too_old(backend: fake_backend.FakeBackend) -> None:
    """A guild that has just installed our bot is indexed."""
    case = lists(backend)
    await case.bot_guilds.get(PURPOSE)
    backend.discord.installed.add(20)

    backend.clock.advance(backend.config.bot_guilds_age + 1)

    assert await case.bot_guilds.get(PURPOSE) == frozenset({10, 20, 30})


FAILURES = [
    errors.RateLimited("global", retry_after=1.0, why="used up"),
    errors.DiscordTransient("502"),
    errors.EgressBlocked(429, 60.0),
]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
async def test_the_cached_set_is_used_when_the_bots_list_cannot_be_fetched(
    backend: fake_backend.FakeBackend, failure: errors.IndexerError
) -> None:
    """The set changes slowly; a start must not fail for it."""
    case = lists(backend)
    await case.bot_guilds.get(PURPOSE)
    backend.clock.advance(backend.config.bot_guilds_age + 1)
    backend.discord.fail("installs", failure)

    assert await case.bot_guilds.get(PURPOSE) == frozenset({10, 30})


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
async def test_the_failure_is_raised_when_there_is_no_cached_set(
    backend: fake_backend.FakeBackend, failure: errors.IndexerError
) -> None:
    """Without the set, every guild would look as if our bot were missing."""
    backend.discord.fail("installs", failure)

    with pytest.raises(type(failure)):
        await lists(backend).fetch_guild_list(values.job(), values.credential(), PURPOSE)

    assert backend.discord.asked("list") == 0


async def test_bot_token_refused_is_raised_when_the_bots_list_is_refused(backend: fake_backend.FakeBackend) -> None:
    """The user's token is not the cause."""
    backend.discord.fail("installs", errors.BotTokenRefused(401, 0))

    with pytest.raises(errors.BotTokenRefused):
        await lists(backend).fetch_guild_list(values.job(), values.credential(), PURPOSE)


@pytest.mark.parametrize(
    "problem",
    [
        errors.BotTokenRefused(401, 0),
        errors.DiscordRefused(403, 50001),
        errors.DiscordTransient("503"),
        errors.RateLimited("route", retry_after=1.0, why="429 user"),
    ],
    ids=lambda problem: type(problem).__name__,
)
async def test_a_start_goes_on_when_a_guild_outside_the_set_cannot_be_verified(
    backend: fake_backend.FakeBackend, problem: errors.IndexerError
) -> None:
    """Whatever the answer is: the next listing finds out, and the user's token is not the cause."""
    backend.discord.fail(("bot", 20), problem)

    fetched = await lists(backend).fetch_guild_list(values.job(), values.credential(), PURPOSE)

    assert backend.discord.asked(("bot", 20)) == 1
    assert {task.guild_id: task.reason for task in fetched.tasks} == {10: "", 20: "BOT_NOT_INSTALLED", 30: ""}


async def test_the_cached_set_is_used_when_the_bots_list_is_refused(backend: fake_backend.FakeBackend) -> None:
    """A 400, 403 or 404 of that route says nothing about any guild."""
    case = lists(backend)
    await case.fetch_guild_list(values.job(), values.credential(), PURPOSE)
    backend.clock.advance(backend.config.bot_guilds_age)
    backend.discord.fail("installs", errors.DiscordRefused(403, 50001))

    fetched = await case.fetch_guild_list(values.job(), values.credential(), PURPOSE)

    assert backend.discord.asked("installs") == 2
    assert {task.guild_id: task.reason for task in fetched.tasks} == {10: "", 20: "BOT_NOT_INSTALLED", 30: ""}


async def test_nothing_is_stored_when_the_users_list_cannot_be_fetched(backend: fake_backend.FakeBackend) -> None:
    """A failure is not an empty list: no membership ends."""
    case = lists(backend)
    await case.fetch_guild_list(values.job(), values.credential(), PURPOSE)
    backend.discord.fail("list", errors.DiscordTransient("a truncated answer"))

    with pytest.raises(errors.DiscordTransient):
        await case.fetch_guild_list(values.job(), values.credential(), PURPOSE)

    assert len((await stored.user(backend.users, USER)).memberships) == 3


async def test_the_cache_stays_fresh_when_it_is_kept_fresh(backend: fake_backend.FakeBackend) -> None:
    """In the background lane."""
    case = lists(backend)

    await case.bot_guilds.keep_fresh()

    assert await backend.bot_guilds.load() == (frozenset({10, 30}), backend.clock())
    assert [call.purpose.lane for call in backend.discord.calls] == [model.Lane.REFRESH]


async def test_a_list_is_fetched_twice_when_it_lacks_many_guilds(backend: fake_backend.FakeBackend) -> None:
    """Discord has returned partial lists before; one that is read five seconds later counts, whatever it contains."""
    case = lists(backend)
    await case.fetch_guild_list(values.job(), values.credential(), PURPOSE)
    whole = backend.discord.lists[USER]
    asked = backend.discord.asked("list")
    backend.discord.lists[USER] = whole[:1]

    async def the_rest_comes() -> None:
        if backend.discord.asked("list") == asked + 2:
            backend.discord.lists[USER] = whole

    backend.discord.before_answer = the_rest_comes
    began = backend.clock()
    units = (await case.fetch_guild_list(values.job(), values.credential(), PURPOSE)).tasks

    assert (len(units), backend.discord.asked("list")) == (3, asked + 2)
    assert backend.clock() - began >= 5.0


async def test_memberships_end_when_a_list_lacks_them_twice(backend: fake_backend.FakeBackend) -> None:
    """A user may leave most of their guilds at once."""
    case = lists(backend)
    await case.fetch_guild_list(values.job(), values.credential(), PURPOSE)
    backend.discord.lists[USER] = backend.discord.lists[USER][:1]

    units = (await case.fetch_guild_list(values.job(), values.credential(), PURPOSE)).tasks

    assert [unit.guild_id for unit in units] == [10]
    assert list((await stored.user(backend.users, USER)).memberships) == [10]
    assert backend.discord.asked("list") == 3


async def test_one_call_is_enough_when_a_list_lacks_few_guilds(backend: fake_backend.FakeBackend) -> None:
    """Leaving one of four guilds needs no confirmation."""
    await backend.add_user([values.user_guild(guild_id) for guild_id in (10, 20, 30, 40)])
    case = lists(backend)
    await case.fetch_guild_list(values.job(), values.credential(), PURPOSE)
    backend.discord.lists[USER] = backend.discord.lists[USER][1:]

    await case.fetch_guild_list(values.job(), values.credential(), PURPOSE)

    assert backend.discord.asked("list") == 2


@pytest.mark.parametrize("force", [False, True], ids=["start", "forced-start"])
async def test_a_guild_is_indexed_when_the_bot_was_installed_a_moment_ago(
    backend: fake_backend.FakeBackend,
    force: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """A start checks the one guild, once in a few seconds; the whole list is not fetched again."""
    case = lists(backend)
    await case.fetch_guild_list(values.job(), values.credential(), PURPOSE)
    backend.discord.installed.add(20)
    states = []
    for pause in (bot_list.ASKED_EVERY - 1, 1.0):
        backend.clock.advance(pause)
        tasks = (await case.fetch_guild_list(values.job(force=force), values.credential(), PURPOSE)).tasks
        states.append({task.guild_id: task.state.value for task in tasks}[20])

    assert states == ["SKIPPED", "QUEUED"]
    assert backend.discord.asked("installs") == 1
    assert backend.discord.asked(("bot", 20)) == 2


async def test_a_set_has_a_time_of_its_own_when_it_was_changed(backend: fake_backend.FakeBackend) -> None:
    """Processes keep the set that they decoded until another time is stored; its age stays."""
    case = lists(backend)
    await case.fetch_guild_list(values.job(), values.credential(), PURPOSE)
    before = await backend.bot_guilds.load()
    backend.discord.installed.add(20)
    backend.clock.advance(bot_list.ASKED_EVERY)

    await case.fetch_guild_list(values.job(), values.credential(), PURPOSE)

    after = await backend.bot_guilds.load()
    assert before is not None
    assert after is not None
    assert (before[0], after[0]) == (frozenset({10, 30}), frozenset({10, 20, 30}))
    assert before[1] < after[1] < before[1] + 0.001


async def test_few_guilds_are_checked_when_many_lack_the_bot(backend: fake_backend.FakeBackend) -> None:
    """Three that the user manages, or one other; the rest cost no call. Repeated starts check all that are managed."""
    theirs = [values.user_guild(100 + number, owner=True) for number in range(6)]
    await backend.add_user([*theirs, *(values.user_guild(200 + number) for number in range(6))])
    backend.discord.installed.clear()

    case, asked = lists(backend), []
    for _ in range(3):
        before = len(backend.discord.calls)
        await case.fetch_guild_list(values.job(), values.credential(), PURPOSE)
        asked.append([call.what[1] for call in backend.discord.calls[before:] if isinstance(call.what, tuple)])

    assert [len(each) for each in asked] == [3, 3, 1]
    assert {*asked[0], *asked[1]} == {100, 101, 102, 103, 104, 105}
    assert asked[2] == [200]


async def test_channels_are_hidden_when_two_lists_lack_the_guild(backend: fake_backend.FakeBackend) -> None:
    """One list may be wrong; a second one ten minutes later confirms it."""
    await backend.add_user([values.user_guild(guild_id) for guild_id in (10, 20, 30, 40, 50)])
    await backend.start_job()
    await backend.run_all_turns()
    case = lists(backend)
    backend.discord.installed.discard(30)
    backend.clock.advance(backend.config.bot_guilds_age)
    await case.bot_guilds.keep_fresh()
    first = await stored.list_channels(backend.guilds, [30])
    backend.clock.advance(backend.config.bot_guilds_age)

    await case.bot_guilds.keep_fresh()

    assert first == [values.channel(31, 30)]
    assert await stored.list_channels(backend.guilds, [30]) == []
    assert (await backend.guilds.get([30]))[30].reason == "BOT_REMOVED"


@pytest.mark.parametrize(("installed", "calls"), [({10, 30}, 1), (set(), 2)], ids=["two guilds", "none"])
async def test_the_first_list_of_the_bots_guilds_is_fetched_twice_when_it_is_empty(
    backend: fake_backend.FakeBackend, installed: set[int], calls: int
) -> None:
    """One odd answer to a fleet that has lost its cache hides nothing."""
    backend.discord.installed = installed

    found = await lists(backend).bot_guilds.get(PURPOSE)

    assert set(found or ()) == installed
    assert backend.discord.asked("installs") == calls


async def test_nothing_is_hidden_when_the_bots_list_lacks_many_guilds(backend: fake_backend.FakeBackend) -> None:
    """However often: the call for a guild without our bot is refused anyway."""
    case = lists(backend)
    await case.bot_guilds.get(PURPOSE)
    backend.discord.installed.clear()
    for _ in range(3):
        backend.clock.advance(backend.config.bot_guilds_age)

        assert await case.bot_guilds.get(PURPOSE) == frozenset({10, 30})


async def test_demand_is_counted_when_a_list_is_fetched(backend: fake_backend.FakeBackend) -> None:
    """For guilds that are to be fetched, some seconds later; a fetch resets it."""
    case = lists(backend)
    for _ in range(3):
        await case.fetch_guild_list(values.job(), values.credential(), PURPOSE)
    await asyncio.sleep(demand.EVERY + 1.0)
    waiting = {key: guild.demand for key, guild in (await backend.guilds.get([10, 20, 30])).items()}
    await backend.start_job()
    await backend.run_all_turns()

    assert waiting == {10: 3, 20: 0, 30: 3}
    assert (await backend.guilds.get([10]))[10].demand == 0


async def test_demand_is_stored_when_the_process_ends_before_the_next_write(backend: fake_backend.FakeBackend) -> None:
    """A deployment loses no request, and the counts are written once."""
    case = lists(backend)
    await case.fetch_guild_list(values.job(), values.credential(), PURPOSE)
    await case.fetch_guild_list(values.job(), values.credential(), PURPOSE)

    await case.close()
    await asyncio.sleep(demand.EVERY + 1.0)

    assert {key: guild.demand for key, guild in (await backend.guilds.get([10, 30])).items()} == {10: 2, 30: 2}


async def test_the_end_of_a_process_waits_a_second_at_most_for_a_silent_store(
    backend: fake_backend.FakeBackend,
) -> None:
    """Counts are hints of the ranking, and no reason to exceed the grace period."""
    guilds = SilentGuilds()
    counter = demand.DemandCounter(dataclasses.replace(backend.deps, guilds=guilds))
    counter.count([10])
    began = backend.clock()

    await counter.close()

    assert (guilds.asked, backend.clock() - began) == (1, demand.CLOSE_TIMEOUT)
