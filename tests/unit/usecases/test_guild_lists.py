"""A user's guild list, and the set of guilds that have our bot."""

import asyncio

import pytest

from indexing import errors
from indexing.domain import model, ports
from indexing.usecases import guild_lists
from tests import stored, values, worlds

pytestmark = pytest.mark.clockwork
USER = values.USER
PURPOSE = ports.Purpose(model.Lane.INTERACTIVE, USER, "job:list", 0.5)


@pytest.fixture
async def world() -> worlds.World:
    """One user in three guilds, one of them without our bot."""
    made = worlds.world()
    await made.add_user([values.user_guild(guild_id) for guild_id in (10, 20, 30)])
    made.discord.installed.discard(20)
    return made


def lists(world: worlds.World) -> guild_lists.GuildLists:
    """Return the use case."""
    return guild_lists.GuildLists(world.ports, world.rules)


async def test_the_list_is_stored_whole_when_it_is_read(world: worlds.World) -> None:
    """Memberships, names, and where our bot is; the units come by rank."""
    world.discord.lists[USER][2] = values.user_guild(30, owner=True, name="mine")

    units = await lists(world).fetch_guild_list(values.job(), values.credential(), PURPOSE)

    assert [(unit.guild_id, unit.position, unit.name) for unit in units] == [
        (30, 0, "mine"),
        (10, 1, "guild 10"),
        (20, 2, "guild 20"),
    ]
    assert await values.stored_membership(world.users, USER, 30) == values.membership(
        guild_id=30, owner=True, roles_changed_at=world.clock()
    )
    found = await world.guilds.get([10, 20, 30])
    assert [found[key].access for key in (10, 20, 30)] == ["INSTALLED", "NOT_INSTALLED", "INSTALLED"]


async def test_a_unit_is_skipped_for_its_reason_when_it_needs_no_call(world: worlds.World) -> None:
    """Without our bot, or by the user's wish; the lack of our bot is the better reason."""
    await world.users.put_preferences(USER, model.Preferences(muted=(10, 20)))

    units = await lists(world).fetch_guild_list(values.job(), values.credential(), PURPOSE)

    reasons = {unit.guild_id: (unit.state.value, unit.reason) for unit in units}
    assert reasons == {10: ("SKIPPED", "MUTED"), 20: ("SKIPPED", "BOT_NOT_INSTALLED"), 30: ("QUEUED", "")}


async def test_the_user_is_charged_when_his_list_is_read_but_not_for_the_bots(world: worlds.World) -> None:
    """The bot's list serves everybody."""
    await lists(world).fetch_guild_list(values.job(), values.credential(), PURPOSE)

    charged = {call.what: (call.purpose.user_id, call.purpose.lane) for call in world.discord.calls}
    assert charged == {"installs": (None, model.Lane.INTERACTIVE), "list": (USER, model.Lane.INTERACTIVE)}


async def test_the_bots_list_is_read_once_when_many_need_it(world: worlds.World) -> None:
    """Later ones within its age use what is cached, those at the same moment wait for the one that reads."""
    world.discord.latency = 1.0
    case = lists(world)

    found = await asyncio.gather(*(case.bot_guilds.get(PURPOSE) for _ in range(5)))
    world.clock.advance(world.rules.bot_guilds_age - 1)
    later = await case.bot_guilds.get(PURPOSE)

    assert [*found, later] == [frozenset({10, 30})] * 6
    assert world.discord.asked("installs") == 1


async def test_the_bots_list_is_read_again_when_it_is_too_old(world: worlds.World) -> None:
    """So that a guild that has just got our bot is indexed."""
    case = lists(world)
    await case.bot_guilds.get(PURPOSE)
    world.discord.installed.add(20)

    world.clock.advance(world.rules.bot_guilds_age + 1)

    assert await case.bot_guilds.get(PURPOSE) == frozenset({10, 20, 30})


FAILURES = [
    errors.RateLimited("global", retry_after=1.0, why="used up"),
    errors.DiscordTransient("502"),
    errors.EgressBlocked(429, 60.0),
]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
async def test_the_old_set_is_used_when_the_bots_list_cannot_be_read_now(
    world: worlds.World, failure: errors.IndexerError
) -> None:
    """It changes slowly; a start must not fail for it."""
    case = lists(world)
    await case.bot_guilds.get(PURPOSE)
    world.clock.advance(world.rules.bot_guilds_age + 1)
    world.discord.fail("installs", failure)

    assert await case.bot_guilds.get(PURPOSE) == frozenset({10, 30})


@pytest.mark.parametrize("failure", FAILURES, ids=lambda failure: type(failure).__name__)
async def test_the_failure_is_told_when_there_is_no_old_set(world: worlds.World, failure: errors.IndexerError) -> None:
    """Without it every guild would look as if our bot were missing."""
    world.discord.fail("installs", failure)

    with pytest.raises(type(failure)):
        await lists(world).fetch_guild_list(values.job(), values.credential(), PURPOSE)

    assert world.discord.asked("list") == 0


async def test_a_dead_bot_token_is_told_apart_when_the_bots_list_is_refused(world: worlds.World) -> None:
    """It is not the user's."""
    world.discord.fail("installs", errors.TokenRefused(401, 0))

    with pytest.raises(errors.BotTokenRefused):
        await lists(world).fetch_guild_list(values.job(), values.credential(), PURPOSE)


async def test_nothing_is_stored_when_the_users_list_cannot_be_read(world: worlds.World) -> None:
    """A failure is not an empty list: nobody loses his guilds by it."""
    case = lists(world)
    await case.fetch_guild_list(values.job(), values.credential(), PURPOSE)
    world.discord.fail("list", errors.DiscordTransient("a truncated answer"))

    with pytest.raises(errors.DiscordTransient):
        await case.fetch_guild_list(values.job(), values.credential(), PURPOSE)

    assert len((await stored.user(world.users, USER)).memberships) == 3


async def test_the_set_stays_young_when_it_is_renewed_beside(world: worlds.World) -> None:
    """In the lane where nobody waits."""
    case = lists(world)

    await case.bot_guilds.keep_fresh()

    assert await world.installs.load() == (frozenset({10, 30}), world.clock())
    assert [call.purpose.lane for call in world.discord.calls] == [model.Lane.REFRESH]


async def test_a_list_is_read_again_when_it_lacks_many_of_his_guilds(world: worlds.World) -> None:
    """Discord has answered with parts before; the second answer is believed, whatever it says."""
    case = lists(world)
    await case.fetch_guild_list(values.job(), values.credential(), PURPOSE)
    whole = world.discord.lists[USER]
    asked = world.discord.asked("list")
    world.discord.lists[USER] = whole[:1]

    async def the_rest_comes() -> None:
        if world.discord.asked("list") == asked + 2:
            world.discord.lists[USER] = whole

    world.discord.before_answer = the_rest_comes
    units = await case.fetch_guild_list(values.job(), values.credential(), PURPOSE)

    assert (len(units), world.discord.asked("list")) == (3, asked + 2)


async def test_guilds_are_left_when_a_list_lacks_them_twice(world: worlds.World) -> None:
    """A user may well leave most of his guilds at once."""
    case = lists(world)
    await case.fetch_guild_list(values.job(), values.credential(), PURPOSE)
    world.discord.lists[USER] = world.discord.lists[USER][:1]

    units = await case.fetch_guild_list(values.job(), values.credential(), PURPOSE)

    assert [unit.guild_id for unit in units] == [10]
    assert list((await stored.user(world.users, USER)).memberships) == [10]
    assert world.discord.asked("list") == 3


async def test_one_call_is_enough_when_a_list_lacks_few_guilds(world: worlds.World) -> None:
    """Leaving one of four is nothing to doubt."""
    await world.add_user([values.user_guild(guild_id) for guild_id in (10, 20, 30, 40)])
    case = lists(world)
    await case.fetch_guild_list(values.job(), values.credential(), PURPOSE)
    world.discord.lists[USER] = world.discord.lists[USER][1:]

    await case.fetch_guild_list(values.job(), values.credential(), PURPOSE)

    assert world.discord.asked("list") == 2


async def test_the_bots_list_is_read_again_when_a_forced_job_has_guilds_outside_it(world: worlds.World) -> None:
    """Who has just installed our bot sees its guild at once; once a minute is enough for everybody."""
    case = lists(world)
    await case.fetch_guild_list(values.job(), values.credential(), PURPOSE)
    world.discord.installed.add(20)
    states = []
    for pause in (guild_lists.FORCED_INTERVAL - 1, 1.0, 1.0):
        world.clock.advance(pause)
        units = await case.fetch_guild_list(values.job(force=True), values.credential(), PURPOSE)
        states.append({unit.guild_id: unit.state.value for unit in units}[20])

    assert states == ["SKIPPED", "QUEUED", "QUEUED"]
    assert world.discord.asked("installs") == 2


async def test_channels_are_hidden_when_our_bot_is_no_longer_in_the_set(world: worlds.World) -> None:
    """The daily reading tells of removals that no guild's refusal told of."""
    await world.start()
    await world.work()
    case = lists(world)
    world.discord.installed.discard(30)
    world.clock.advance(world.rules.bot_guilds_age)

    await case.bot_guilds.keep_fresh()

    assert await world.guilds.list_channels([10, 30]) == [values.channel(11, 10)]
    assert (await world.guilds.get([30]))[30].reason == "BOT_REMOVED"


async def test_the_bots_list_is_read_twice_when_it_lacks_much(world: worlds.World) -> None:
    """Half an answer must not hide what is there."""
    case = lists(world)
    await case.bot_guilds.get(PURPOSE)
    world.clock.advance(world.rules.bot_guilds_age)
    world.discord.installed.clear()

    async def it_comes_back() -> None:
        if world.discord.asked("installs") == 3:
            world.discord.installed.update({10, 30})

    world.discord.before_answer = it_comes_back

    assert await case.bot_guilds.get(PURPOSE) == frozenset({10, 30})
    assert world.discord.asked("installs") == 3


async def test_it_is_noted_who_waits_when_a_list_is_read(world: worlds.World) -> None:
    """For guilds that are to be read; a reading starts the count anew."""
    case = lists(world)
    await case.fetch_guild_list(values.job(), values.credential(), PURPOSE)
    await case.fetch_guild_list(values.job(), values.credential(), PURPOSE)
    waiting = {key: guild.demand for key, guild in (await world.guilds.get([10, 20, 30])).items()}
    await world.start()
    await world.work()

    assert waiting == {10: 2, 20: 0, 30: 2}
    assert (await world.guilds.get([10]))[10].demand == 0
