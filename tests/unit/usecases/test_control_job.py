"""Cancelling a job, and retrying its failed guilds."""

import asyncio
from collections.abc import Iterable

import pytest

from indexing import errors
from indexing.domain import job_updates, model, turns
from indexing.usecases import control_job
from tests import fake_backend, values

pytestmark = pytest.mark.clockwork
JOB = "a" * 32
GUILDS = [10, 20, 30]


@pytest.fixture
async def backend() -> fake_backend.FakeBackend:
    """One user in three guilds, with a job that has done one of them."""
    made = fake_backend.make()
    await made.add_user([values.user_guild(guild_id) for guild_id in GUILDS])
    await made.start_job()
    await made.turn_runner.run_turn(turns.Turn(JOB, 0), made.turn_limits(first=1))
    made.queue.enqueued.clear()
    return made


def controls(backend: fake_backend.FakeBackend) -> control_job.JobControl:
    """Return the use case."""
    return control_job.JobControl(backend.deps, backend.config)


async def test_open_tasks_are_cancelled_when_a_job_is_cancelled(backend: fake_backend.FakeBackend) -> None:
    """Completed tasks stay; the job has ended, and watchers see it."""
    ended = await controls(backend).cancel(JOB)

    assert (ended.state, ended.finished_at) == (model.JobState.CANCELLED, backend.clock())
    assert await backend.get_job() == ended
    assert await backend.task_states() == {10: "SUCCEEDED", 20: "CANCELLED", 30: "CANCELLED"}
    last = backend.events.streams[JOB][-1]
    assert (last.job, last.tally) == (ended, job_updates.Tally(total=3, succeeded=1, cancelled=2))
    assert list(last.tasks) == await backend.jobs.list_tasks(JOB)


async def test_a_job_names_its_caller_when_it_was_cancelled(backend: fake_backend.FakeBackend) -> None:
    """The first one: who cancels an ended job changes nothing."""
    await controls(backend).cancel(JOB, caller="shop")
    await controls(backend).cancel(JOB, caller="tools")

    assert (await backend.get_job()).cancelled_by == "shop"


async def test_a_job_names_no_caller_when_its_credential_was_revoked(backend: fake_backend.FakeBackend) -> None:
    """It has failed; its reason says why."""
    await controls(backend).stop_user_job(values.USER, "CREDENTIAL_REVOKED")

    ended = await backend.get_job()
    assert (ended.state, ended.reason, ended.cancelled_by) == (model.JobState.FAILED, "CREDENTIAL_REVOKED", "")


@pytest.mark.parametrize("reason", ["", "CREDENTIAL_REVOKED"], ids=["cancel", "revoke"])
async def test_a_job_is_ended_when_another_turn_took_it_from_the_one_that_ends_it(
    backend: fake_backend.FakeBackend, reason: str
) -> None:
    """The caller's process stood still for longer than its lease between two writes. It never says what is not so."""
    usual = type(backend.jobs)

    class Overtaken(usual):  # type: ignore[misc,valid-type]  # a class made for this test
        """Another turn begins before the first end of a job is written."""

        async def save(self, known: model.Job, changed: model.Job, tasks: Iterable[model.GuildTask] = ()) -> bool:
            self.__class__ = usual  # type: ignore[assignment]  # once
            now = backend.clock()
            assert await self.begin_turn(JOB, known.turn, now=now, until=now + 60.0)
            return await self.save(known, changed, tasks)

    backend.jobs.__class__ = Overtaken

    if reason:
        await controls(backend).stop_user_job(values.USER, reason)
    else:
        assert await controls(backend).cancel(JOB) == await backend.get_job()

    assert (await backend.get_job()).state is (model.JobState.FAILED if reason else model.JobState.CANCELLED)
    assert not any(not row.state.terminal for row in await backend.jobs.list_tasks(JOB))


async def test_no_call_is_made_when_a_job_was_cancelled(backend: fake_backend.FakeBackend) -> None:
    """Turns that are still on their way find nothing to own."""
    await controls(backend).cancel(JOB)
    asked = list(backend.discord_calls)

    ran = [await backend.turn_runner.run_background_turn(turns.Turn(JOB, number)) for number in range(4)]

    assert ran == [False] * 4
    assert backend.discord_calls == asked


async def test_a_running_fetch_is_kept_when_its_job_is_cancelled(backend: fake_backend.FakeBackend) -> None:
    """Its channels are stored for everybody; its row stays cancelled."""
    backend.discord.latency = 5.0
    running = asyncio.create_task(backend.turn_runner.run_turn(turns.Turn(JOB, 1), backend.turn_limits(first=1)))
    await asyncio.sleep(1.0)

    await controls(backend).cancel(JOB)
    await running

    assert (await backend.get_job()).state is model.JobState.CANCELLED
    assert (await backend.task_states())[20] == "CANCELLED"
    assert (await backend.guilds.get([20]))[20].fetched_at == backend.clock() - 5.0


async def test_no_further_guild_is_begun_when_a_job_is_cancelled_in_the_middle_of_a_turn() -> None:
    """The turn that runs, in whichever process, finishes what it has begun and asks for nothing more."""
    backend = fake_backend.make()
    await backend.add_user([values.user_guild(guild_id) for guild_id in range(10, 70)])
    backend.discord.latency = 0.2
    job = await backend.start_job()
    running = asyncio.create_task(backend.turn_runner.run_turn(turns.Turn(JOB, 0), backend.turn_limits(width=5)))
    await asyncio.sleep(1.1)
    begun = len(backend.discord_calls)

    await controls(backend).cancel(job.job_id)
    await running

    assert begun > 5
    assert len(backend.discord_calls) == begun
    assert (await backend.get_job()).state is model.JobState.CANCELLED
    last = backend.events.streams[JOB][-1]
    assert last.job.state is model.JobState.CANCELLED


async def test_nothing_changes_when_an_ended_job_is_cancelled(backend: fake_backend.FakeBackend) -> None:
    """Twice is the same as once, and what succeeded stays so."""
    first = await controls(backend).cancel(JOB)
    backend.clock.advance(5)

    assert await controls(backend).cancel(JOB) == first


async def test_job_not_found_is_raised_when_an_unknown_job_is_cancelled_or_retried(
    backend: fake_backend.FakeBackend,
) -> None:
    """By its id."""
    for call in (controls(backend).cancel, controls(backend).retry):
        with pytest.raises(errors.JobNotFound) as unknown:
            await call("f" * 32)
        assert unknown.value.job_id == "f" * 32


async def test_only_what_failed_runs_again_when_a_job_is_retried(backend: fake_backend.FakeBackend) -> None:
    """In a job of its own, with fresh attempts, without reading the list again; what is fresh is asked again."""
    backend.discord.fail(20, errors.DiscordRefused(400, 0))
    backend.discord.fail(30, *[errors.DiscordTransient("502")] * backend.config.max_attempts)
    await backend.queue.enqueue(turns.Turn(JOB, 1))
    await backend.run_all_turns()
    asked = backend.discord.asked("list")

    retried, created = await controls(backend).retry(JOB)

    assert created
    assert await backend.task_states(retried.job_id) == {20: "QUEUED", 30: "QUEUED"}
    assert {row.attempts for row in await backend.jobs.list_tasks(retried.job_id)} == {0}
    await backend.run_all_turns()
    assert (await backend.get_job(retried.job_id)).state is model.JobState.SUCCEEDED
    assert backend.discord.asked("list") == asked
    assert backend.discord.asked(10) == 1


async def test_nothing_is_retried_when_the_job_still_runs(backend: fake_backend.FakeBackend) -> None:
    """What has not failed yet may still succeed."""
    with pytest.raises(errors.JobRunning):
        await controls(backend).retry(JOB)


async def test_nothing_is_retried_when_nothing_failed(backend: fake_backend.FakeBackend) -> None:
    """Skipped and cancelled guilds did not fail."""
    await controls(backend).cancel(JOB)

    with pytest.raises(errors.NothingFailed):
        await controls(backend).retry(JOB)


async def test_the_active_job_is_joined_when_a_job_is_retried_beside_it(backend: fake_backend.FakeBackend) -> None:
    """A user has one active job; the failed guilds are its business as well."""
    backend.discord.fail(20, errors.DiscordRefused(400, 0))
    await backend.queue.enqueue(turns.Turn(JOB, 1))
    await backend.run_all_turns()
    active = await backend.start_job("b" * 32)

    joined = await controls(backend).retry(JOB)

    assert joined == (active, False)
    assert await backend.jobs.list_tasks(active.job_id) == []


async def test_a_retried_job_is_its_callers_when_it_is_created_or_joined(backend: fake_backend.FakeBackend) -> None:
    """Not the caller's who started the job that failed."""
    backend.discord.fail(20, errors.DiscordRefused(400, 0))
    await backend.queue.enqueue(turns.Turn(JOB, 1))
    await backend.run_all_turns()

    created, _ = await controls(backend).retry(JOB, "a")
    await controls(backend).retry(JOB, "b")

    assert created.callers == ("a",)
    assert [turn.callers for turn in backend.queue.enqueued] == [("a",)]
    assert (await backend.get_job(created.job_id)).callers == ("a", "b")
