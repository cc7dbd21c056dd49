"""A guild is read once for all who want it, whoever dies in the act."""

import asyncio

import pytest

from indexing.domain import model
from indexing.usecases import maintenance
from tests import fleet, values, worlds

pytestmark = pytest.mark.clockwork
GUILDS = range(1_000, 1_060)
USERS = range(1, 11)


async def test_each_guild_is_read_once_when_ten_users_share_sixty() -> None:
    """60 channel listings and not 600, and every job ends with all its guilds."""
    async with fleet.running(latency=0.15) as running:
        for user in USERS:
            await running.world.add_user([values.user_guild(guild) for guild in GUILDS], user)

        started = await asyncio.gather(*(running.start(user) for user in USERS))
        jobs = [await fleet.ended(running, one.job.job_id) for one in started]

        read = [what for what, _ in running.discord.answered if isinstance(what, int)]
        assert sorted(read) == list(GUILDS)
        assert running.discord.asked("list") == len(USERS)
        assert {job.state for job in jobs} == {model.JobState.SUCCEEDED}
        for job in jobs:
            units = await running.ports.jobs.list_tasks(job.job_id)
            assert [unit.channel_count for unit in units] == [1] * len(GUILDS)
        (saved,) = running.world.seen.saved.collect()
        assert [sample.value for sample in saved.samples if sample.name.endswith("_total")] == [540]


async def test_a_user_who_waits_overtakes_when_the_same_guild_stands_in_a_worse_line() -> None:
    """Many background readings are ahead of it; his call goes first, and both jobs use its result."""
    async with fleet.running(latency=0.1) as running:
        crowd = range(1, 13)
        own = {user: [values.user_guild(user * 1000 + number) for number in range(25)] for user in crowd}
        shared = values.user_guild(999_999)
        for user in crowd:
            await running.world.add_user([*own[user], shared] if user == 1 else own[user], user)
        await running.world.add_user([shared], 77)
        busy = await asyncio.gather(*(running.start(user, wait=0.0, immediate=0) for user in crowd))
        await asyncio.sleep(1.5)
        assert (await running.ports.guilds.get([999_999]))[999_999].fetched_at is None
        began = running.world.clock()

        started = await running.start(77)
        took = running.world.clock() - began
        await fleet.ended(running, busy[0].job.job_id)

        assert started.job.state is model.JobState.SUCCEEDED
        assert took < 1.0
        assert running.discord.asked(999_999) == 1
        [call] = [call for call in running.discord.calls if call.what == 999_999]
        assert call.purpose.lane is model.Lane.INTERACTIVE


@pytest.mark.parametrize("comes_back", [False, True], ids=["killed", "stopped-and-late"])
async def test_a_guild_is_read_again_when_its_reader_does_not_come_back(
    comes_back: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """The lease runs out and the sweeper finds the job; a late answer of the first reader changes nothing."""
    world = worlds.world()
    await world.add_user([values.user_guild()])
    await world.start()

    async def the_first_takes_minutes() -> None:
        if world.discord.asked(values.GUILD) == 1:
            await asyncio.sleep(300.0)

    world.discord.before_answer = the_first_takes_minutes
    first = asyncio.create_task(world.turner.run_background_turn(world.queue.enqueued.pop(0)))
    await asyncio.sleep(1.0)
    if not comes_back:
        first.cancel()

    await asyncio.sleep(world.rules.turn_lease + maintenance.OVERDUE_AFTER)
    swept = await maintenance.Sweeper(world.ports, world.rules).sweep()
    world.discord.channels[values.GUILD] = [values.channel(1), values.channel(2)]
    await world.work()
    read = await everything(world)
    world.discord.channels[values.GUILD] = [values.channel(9)]
    await asyncio.gather(first, return_exceptions=True)

    assert (swept, world.discord.asked(values.GUILD)) == (1, 2)
    assert await world.states() == {values.GUILD: "SUCCEEDED"}
    assert await world.guilds.list_channels([values.GUILD]) == [values.channel(1), values.channel(2)]
    assert await everything(world) == read


async def everything(world: worlds.World) -> tuple[object, ...]:
    """Return all that is stored of the guild and the job."""
    guilds, channels = await world.guilds.get([values.GUILD]), await world.guilds.list_channels([values.GUILD])
    return guilds, channels, await world.job(), await world.jobs.list_tasks("a" * 32)


async def test_hardly_a_permit_is_wasted_when_many_users_start_at_once() -> None:
    """Whoever waits comes back in time for his place: the calls go at nearly the rate that the limits allow."""
    async with fleet.running(latency=0.1) as running:
        users = range(1, 81)
        for user in users:
            await running.world.add_user([values.user_guild(user * 1_000 + number) for number in range(12)], user)
        began = running.world.clock()

        started = await asyncio.gather(*(running.start(user) for user in users))
        for one in started:
            await fleet.ended(running, one.job.job_id)

        least = len(running.discord.answered) / 50
        drain = running.discord.answered[-1][1] - began
        assert running.discord.calls[0].what == "installs"
        assert drain < 1.25 * least
