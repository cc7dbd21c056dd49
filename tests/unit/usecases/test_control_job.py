"""Cancelling a job, and trying again what failed in one."""

import asyncio

import pytest

from indexing import errors
from indexing.domain import model, turns
from indexing.usecases import control_job
from tests import values, worlds

pytestmark = pytest.mark.clockwork
JOB = "a" * 32
GUILDS = [10, 20, 30]


@pytest.fixture
async def world() -> worlds.World:
    """One user in three guilds, with a job that has done one of them."""
    made = worlds.world()
    await made.add_user([values.user_guild(guild_id) for guild_id in GUILDS])
    await made.start()
    await made.turner.run_turn(turns.Turn(JOB, 0), made.limits(first=1))
    made.queue.enqueued.clear()
    return made


def controls(world: worlds.World) -> control_job.JobControl:
    """Return the use case."""
    return control_job.JobControl(world.ports, world.rules)


async def test_what_is_open_is_dropped_when_a_job_is_cancelled(world: worlds.World) -> None:
    """What is done stays done; the job has ended, and watchers are told."""
    ended = await controls(world).cancel(JOB)

    assert (ended.state, ended.finished_at) == (model.JobState.CANCELLED, world.clock())
    assert await world.job() == ended
    assert await world.states() == {10: "SUCCEEDED", 20: "CANCELLED", 30: "CANCELLED"}
    last = world.events.streams[JOB][-1]
    assert (last.job, last.tally) == (ended, model.Tally(total=3, succeeded=1, cancelled=2))
    assert list(last.tasks) == await world.jobs.list_tasks(JOB)


async def test_no_call_follows_when_a_job_was_cancelled(world: worlds.World) -> None:
    """Turns that are still on their way find nothing to own."""
    await controls(world).cancel(JOB)
    asked = list(world.asked)

    ran = [await world.turner.run_background_turn(turns.Turn(JOB, number)) for number in range(4)]

    assert ran == [False] * 4
    assert world.asked == asked


async def test_a_running_fetch_is_kept_when_its_job_is_cancelled(world: worlds.World) -> None:
    """Its channels are stored for everybody; its row stays cancelled."""
    world.discord.latency = 5.0
    running = asyncio.create_task(world.turner.run_turn(turns.Turn(JOB, 1), world.limits(first=1)))
    await asyncio.sleep(1.0)

    await controls(world).cancel(JOB)
    await running

    assert (await world.job()).state is model.JobState.CANCELLED
    assert (await world.states())[20] == "CANCELLED"
    assert (await world.guilds.get([20]))[20].fetched_at == world.clock() - 5.0


async def test_no_further_guild_is_begun_when_a_job_is_cancelled_in_the_middle_of_a_turn() -> None:
    """The turn that runs, in whichever process, finishes what it has begun and asks for nothing more."""
    world = worlds.world()
    await world.add_user([values.user_guild(guild_id) for guild_id in range(10, 70)])
    world.discord.latency = 0.2
    job = await world.start()
    running = asyncio.create_task(world.turner.run_turn(turns.Turn(JOB, 0), world.limits(width=5)))
    await asyncio.sleep(1.1)
    begun = len(world.asked)

    await controls(world).cancel(job.job_id)
    await running

    assert begun > 5
    assert len(world.asked) == begun
    assert (await world.job()).state is model.JobState.CANCELLED
    last = world.events.streams[JOB][-1]
    assert last.job.state is model.JobState.CANCELLED


async def test_nothing_changes_when_an_ended_job_is_cancelled(world: worlds.World) -> None:
    """Twice is the same as once, and what succeeded stays so."""
    first = await controls(world).cancel(JOB)
    world.clock.advance(5)

    assert await controls(world).cancel(JOB) == first


async def test_an_unknown_job_is_told_when_it_is_cancelled_or_retried(world: worlds.World) -> None:
    """By its id."""
    for call in (controls(world).cancel, controls(world).retry):
        with pytest.raises(errors.JobNotFound) as unknown:
            await call("f" * 32)
        assert unknown.value.job_id == "f" * 32


async def test_only_what_failed_runs_again_when_a_job_is_retried(world: worlds.World) -> None:
    """In a job of its own, with fresh attempts, without reading the list again; what is fresh is asked again."""
    world.discord.fail(20, errors.DiscordRefused(400, 0))
    world.discord.fail(30, *[errors.DiscordTransient("502")] * world.rules.max_attempts)
    await world.queue.enqueue(turns.Turn(JOB, 1))
    await world.work()
    asked = world.discord.asked("list")

    retried, created = await controls(world).retry(JOB)

    assert created
    assert await world.states(retried.job_id) == {20: "QUEUED", 30: "QUEUED"}
    assert {row.attempts for row in await world.jobs.list_tasks(retried.job_id)} == {0}
    await world.work()
    assert (await world.job(retried.job_id)).state is model.JobState.SUCCEEDED
    assert world.discord.asked("list") == asked
    assert world.discord.asked(10) == 1


async def test_nothing_is_retried_when_the_job_still_runs(world: worlds.World) -> None:
    """What has not failed yet may still succeed."""
    with pytest.raises(errors.JobRunning):
        await controls(world).retry(JOB)


async def test_nothing_is_retried_when_nothing_failed(world: worlds.World) -> None:
    """Skipped and cancelled guilds did not fail."""
    await controls(world).cancel(JOB)

    with pytest.raises(errors.NothingFailed):
        await controls(world).retry(JOB)


async def test_the_active_job_is_joined_when_a_job_is_retried_beside_it(world: worlds.World) -> None:
    """A user has one active job; the failed guilds are its business as well."""
    world.discord.fail(20, errors.DiscordRefused(400, 0))
    await world.queue.enqueue(turns.Turn(JOB, 1))
    await world.work()
    active = await world.start("b" * 32)

    joined = await controls(world).retry(JOB)

    assert joined == (active, False)
    assert await world.jobs.list_tasks(active.job_id) == []
