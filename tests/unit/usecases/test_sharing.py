"""A guild is fetched once for all its users, even when a process crashes."""

import asyncio
import random

import pytest

from indexing import settings
from indexing.domain import model
from indexing.usecases import maintenance
from tests import fake_backend, fleet, stored, values

pytestmark = pytest.mark.clockwork
GUILDS = range(1_000, 1_060)
USERS = range(1, 11)
ROLE = 5
OPEN = settings.Rate(capacity=1_000, window=1.0)


async def test_each_guild_is_read_once_when_ten_users_share_sixty() -> None:
    """60 channel listings and not 600, and every job ends with all its guilds."""
    async with fleet.running(latency=0.15) as running:
        for user in USERS:
            await running.backend.add_user([values.user_guild(guild) for guild in GUILDS], user)

        started = await asyncio.gather(*(running.start(user) for user in USERS))
        jobs = [await fleet.ended(running, one.job.job_id) for one in started]

        read = [what for what, _ in running.discord.answered if isinstance(what, int)]
        assert sorted(read) == list(GUILDS)
        assert running.discord.asked("list") == len(USERS)
        assert {job.state for job in jobs} == {model.JobState.SUCCEEDED}
        for job in jobs:
            units = await running.deps.jobs.list_tasks(job.job_id)
            assert [unit.channel_count for unit in units] == [1] * len(GUILDS)
        (saved,) = running.backend.metrics.saved.collect()
        assert [sample.value for sample in saved.samples if sample.name.endswith("_total")] == [540]


async def test_a_user_who_waits_overtakes_when_the_same_guild_stands_in_a_worse_line() -> None:
    """Many background fetches are ahead; the interactive call goes first, and both jobs use its result."""
    async with fleet.running(latency=0.1) as running:
        crowd = range(1, 13)
        own = {user: [values.user_guild(user * 1000 + number) for number in range(25)] for user in crowd}
        shared = values.user_guild(999_999)
        for user in crowd:
            await running.backend.add_user([*own[user], shared] if user == 1 else own[user], user)
        await running.backend.add_user([shared], 77)
        busy = await asyncio.gather(*(running.start(user, wait=0.0, immediate=0) for user in crowd))
        await asyncio.sleep(1.5)
        assert (await running.deps.guilds.get([999_999]))[999_999].fetched_at is None
        began = running.backend.clock()

        started = await running.start(77)
        took = running.backend.clock() - began
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
    backend = fake_backend.make()
    await backend.add_user([values.user_guild()])
    await backend.start_job()

    async def the_first_takes_minutes() -> None:
        if backend.discord.asked(values.GUILD) == 1:
            await asyncio.sleep(300.0)

    backend.discord.before_answer = the_first_takes_minutes
    first = asyncio.create_task(backend.turn_runner.run_background_turn(backend.queue.enqueued.pop(0)))
    await asyncio.sleep(1.0)
    if not comes_back:
        first.cancel()

    await asyncio.sleep(backend.config.turn_lease + maintenance.OVERDUE_AFTER)
    swept = await maintenance.Sweeper(backend.deps, backend.config).sweep()
    backend.discord.channels[values.GUILD] = [values.channel(1), values.channel(2)]
    await backend.run_all_turns()
    read = await everything(backend)
    backend.discord.channels[values.GUILD] = [values.channel(9)]
    await asyncio.gather(first, return_exceptions=True)

    assert (swept, backend.discord.asked(values.GUILD)) == (1, 2)
    assert await backend.task_states() == {values.GUILD: "SUCCEEDED"}
    assert await stored.list_channels(backend.guilds, [values.GUILD]) == [values.channel(1), values.channel(2)]
    assert await everything(backend) == read


async def everything(backend: fake_backend.FakeBackend) -> tuple[object, ...]:
    """Return all that is stored of the guild and the job."""
    guilds, channels = (
        await backend.guilds.get([values.GUILD]),
        await stored.list_channels(backend.guilds, [values.GUILD]),
    )
    return guilds, channels, await backend.get_job(), await backend.jobs.list_tasks("a" * 32)


async def test_hardly_a_permit_is_wasted_when_many_users_start_at_once() -> None:
    """Waiters return in time for their position: calls are made at nearly the rate that the limits allow."""
    async with fleet.running(latency=0.1) as running:
        users = range(1, 81)
        for user in users:
            await running.backend.add_user([values.user_guild(user * 1_000 + number) for number in range(12)], user)
        began = running.backend.clock()

        started = await asyncio.gather(*(running.start(user) for user in users))
        for one in started:
            await fleet.ended(running, one.job.job_id)

        least = len(running.discord.answered) / 50
        drain = running.discord.answered[-1][1] - began
        assert running.discord.calls[0].what == "installs"
        assert drain < 1.25 * least


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "unshared"])
async def test_the_whole_budget_is_used_when_jobs_queue_many_guilds(
    shared: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """No position in the queue holds a permit that nobody uses; channels come before roles."""
    async with fleet.running(latency=0.05, user_budget=OPEN) as running:
        chosen, users = random.Random(1), range(1, 21)
        for user in users:
            own = chosen.sample(range(1_000, 1_200), 30) if shared else range(user * 1_000, user * 1_000 + 30)
            await running.backend.add_user([values.user_guild(guild) for guild in own], user)
            running.backend.discord.roles |= {(user, guild): (ROLE,) for guild in own}
        for guild in running.backend.discord.channels:
            hidden = (values.denied(guild), values.allowed(ROLE))
            running.backend.discord.channels[guild].append(values.channel(guild + 10**6, guild, overwrites=hidden))
        began = running.backend.clock()

        for started in await asyncio.gather(*(running.start(user) for user in users)):
            await fleet.ended(running, started.job.job_id)

        answered = running.discord.answered
        fetched = [at - began for what, at in answered if isinstance(what, int)]
        assert len(fetched) == len(running.backend.discord.channels)
        assert max(fetched) < 1.25 * (len(fetched) + len(users)) / 50
        assert answered[-1][1] - began < 1.15 * len(answered) / 50


async def test_each_of_a_crowd_gets_a_guild_before_anything_else_is_fetched() -> None:
    """60 lists and at most 60 first guilds take 2.4 s of the global budget; no first guild waits behind other work."""
    async with fleet.running(threads=96, latency=0.1) as running:
        choice = random.Random(1)
        own = {user: choice.sample(range(1_000, 1_300), 20) for user in range(1, 61)}
        for user, guilds in own.items():
            await running.backend.add_user([values.user_guild(guild) for guild in guilds], user)
        began = running.backend.clock()

        started = await asyncio.gather(*(running.start(user) for user in own))
        for one in started:
            await fleet.ended(running, one.job.job_id)

        at = {what: moment - began for what, moment in running.discord.answered}
        assert max(min(at[guild] for guild in guilds) for guilds in own.values()) < 4.0


async def test_turns_wait_for_permits_when_there_is_a_thread_for_each_job() -> None:
    """60 jobs with 1,200 guilds and a budget of one call a second each take about 60 turns, not one for each call."""
    async with fleet.running(threads=96, latency=0.1) as running:
        for user in range(1, 61):
            own = range(user * 1_000, user * 1_000 + 20)
            await running.backend.add_user([values.user_guild(guild) for guild in own], user)

        started = await asyncio.gather(*(running.start(user) for user in range(1, 61)))
        for one in started:
            await fleet.ended(running, one.job.job_id)

        taken = sum(map(len, running.queue.waits.values()))
        assert 60 <= taken <= 180
