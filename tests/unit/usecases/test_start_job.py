"""Starting a job, joining one, and the result at the end of the caller's wait."""

import asyncio
import dataclasses
from typing import cast

import pytest

from indexing import concurrency, errors
from indexing.domain import model, ports, turns
from indexing.usecases import maintenance, start_job
from tests import fake_backend, values

pytestmark = pytest.mark.clockwork
USER = values.USER
GUILDS = [10, 20, 30, 40]


@pytest.fixture
async def backend() -> fake_backend.FakeBackend:
    """One user in four guilds; Discord takes a second for each answer."""
    made = fake_backend.make()
    await made.add_user([values.user_guild(guild_id) for guild_id in GUILDS])
    made.discord.latency = 1.0
    return made


def starter(backend: fake_backend.FakeBackend) -> start_job.StartJob:
    """Return the use case."""
    return start_job.StartJob(backend.deps, backend.config, backend.turn_runner)


async def starter_without_place(
    backend: fake_backend.FakeBackend,
) -> tuple[start_job.StartJob, concurrency.AdaptiveLimit]:
    """Return the use case with one place for first turns, which another caller has, and the limit."""
    limit = concurrency.AdaptiveLimit(backend.clock, concurrency.LimitRule(1, 1, 1))
    assert await limit.acquire(0.0, "other")
    return start_job.StartJob(backend.deps, backend.config, backend.turn_runner, limit), limit


def states(started: start_job.StartResult) -> list[str]:
    """Return the states of the rows, best guild first."""
    return [row.state.value for row in started.tasks]


async def test_a_new_job_brings_first_results_when_the_wait_is_long_enough(backend: fake_backend.FakeBackend) -> None:
    """The list and the best few guilds, side by side; no longer than that takes."""
    began = backend.clock()

    started = await starter(backend).start(USER, wait=10.0, immediate=2, force=False)

    assert started.disposition is start_job.Disposition.CREATED
    assert states(started) == ["SUCCEEDED", "SUCCEEDED", "QUEUED", "QUEUED"]
    assert started.job.listed
    assert backend.clock() - began == pytest.approx(3.0)
    assert {call.purpose.lane for call in backend.discord.calls} == {model.Lane.INTERACTIVE}


async def test_the_rest_is_handed_over_at_once_when_the_first_turn_ends_early(
    backend: fake_backend.FakeBackend,
) -> None:
    """Workers need not wait until the caller's time is over."""
    started = await starter(backend).start(USER, wait=10.0, immediate=2, force=False)

    assert backend.queue.enqueued == [turns.Turn(started.job.job_id, 1)]
    assert await backend.run_all_turns() > 0
    assert (await backend.get_job(started.job.job_id)).state is model.JobState.SUCCEEDED


async def test_start_returns_at_once_when_the_process_is_about_to_end(backend: fake_backend.FakeBackend) -> None:
    """With the results so far, so no caller's wait delays the shutdown; the first turn continues and is drained."""
    use_case = starter(backend)
    began = backend.clock()
    waiting = asyncio.create_task(use_case.start(USER, wait=10.0, immediate=2, force=False))
    while not backend.discord.calls:  # noqa: ASYNC110 -- the fake has no event for it
        await asyncio.sleep(0)

    use_case.release_waiters()
    started = await waiting
    answered = backend.clock()
    await use_case.drain(20.0)

    assert answered - began < 1.0
    assert (await backend.get_job(started.job.job_id)).listed


async def test_start_returns_in_time_when_discord_is_slow(backend: fake_backend.FakeBackend) -> None:
    """With the results so far; the first turn continues, and is not run twice."""
    began = backend.clock()

    case = starter(backend)
    started = await case.start(USER, wait=2.5, immediate=4, force=False)

    assert backend.clock() - began == pytest.approx(2.5)
    assert states(started) == ["QUEUED"] * 4
    assert await backend.task_states(started.job.job_id) == dict.fromkeys(GUILDS, "QUEUED")
    await case.drain(10.0)
    assert await backend.task_states(started.job.job_id) == dict.fromkeys(GUILDS, "SUCCEEDED")
    assert backend.discord_calls == GUILDS


async def test_start_returns_at_once_when_the_caller_does_not_wait(backend: fake_backend.FakeBackend) -> None:
    """The job exists and will run."""
    began = backend.clock()

    case = starter(backend)
    started = await case.start(USER, wait=0.0, immediate=5, force=False)

    assert (started.disposition, started.tasks) == (start_job.Disposition.CREATED, [])
    assert backend.clock() == began
    assert not started.job.state.terminal
    await case.drain(60.0)


async def test_only_the_list_is_fetched_when_no_guild_is_asked_for_at_once(backend: fake_backend.FakeBackend) -> None:
    """Workers do the rest."""
    started = await starter(backend).start(USER, wait=10.0, immediate=0, force=False)

    assert states(started) == ["QUEUED"] * 4
    assert backend.discord_calls == []


async def test_a_workers_turn_is_scheduled_when_a_job_is_started(
    backend: fake_backend.FakeBackend,
) -> None:
    """For eight seconds after the caller's wait: whatever happens to this process, the job goes on."""
    case = starter(backend)
    now = backend.clock()

    started = await case.start(USER, wait=2.0, immediate=4, force=False)

    assert backend.queue.waiting[turns.Turn(started.job.job_id, 1)] == now + 10.0
    await case.drain(60.0)


async def test_a_worker_takes_over_when_the_first_turn_broke(backend: fake_backend.FakeBackend) -> None:
    """A bug in the list costs the caller the first results, not the job."""
    backend.discord.fail("list", KeyError("a bug"))

    started = await starter(backend).start(USER, wait=2.0, immediate=4, force=False)
    await backend.run_all_turns()

    assert started.disposition is start_job.Disposition.CREATED
    assert (await backend.get_job(started.job.job_id)).state is model.JobState.SUCCEEDED


async def test_one_job_runs_when_two_starts_arrive_at_once(backend: fake_backend.FakeBackend) -> None:
    """The second caller joins it, and gets the list as soon as it is fetched; Discord is called once."""
    case = starter(backend)
    calls = [case.start(USER, wait=10.0, immediate=2, force=False) for _ in range(2)]

    first, second = await asyncio.gather(*calls)

    assert first.job.job_id == second.job.job_id
    assert {first.disposition, second.disposition} == {start_job.Disposition.CREATED, start_job.Disposition.JOINED}
    assert [len(started.tasks) for started in (first, second)] == [4, 4]
    assert backend.discord.asked("list") == 1
    assert {turn.job_id for turn in backend.queue.waiting} == {first.job.job_id}


async def test_joining_ends_with_the_wait_when_the_list_takes_longer(backend: fake_backend.FakeBackend) -> None:
    """Joining does not wait longer than asked for."""
    backend.discord.latency = 30.0
    case = starter(backend)
    first = asyncio.create_task(case.start(USER, wait=100.0, immediate=1, force=False))
    await asyncio.sleep(1.0)
    began = backend.clock()

    joined = await case.start(USER, wait=3.0, immediate=1, force=False)

    assert backend.clock() - began == pytest.approx(3.0)
    assert (joined.disposition, joined.tasks) == (start_job.Disposition.JOINED, [])
    await first


async def test_joining_returns_at_once_when_the_list_is_stored(backend: fake_backend.FakeBackend) -> None:
    """With the stored tasks."""
    case = starter(backend)
    await case.start(USER, wait=10.0, immediate=1, force=False)
    began = backend.clock()

    joined = await case.start(USER, wait=10.0, immediate=1, force=False)

    assert backend.clock() == began
    assert (joined.disposition, len(joined.tasks)) == (start_job.Disposition.JOINED, 4)
    assert backend.events.open == 0


async def test_a_running_job_can_be_joined_when_its_guilds_are_listed(backend: fake_backend.FakeBackend) -> None:
    """Not before, and not after its end; the stored tasks are returned with the position at which they were read."""
    case = starter(backend)
    nothing = await case.join(USER)
    running = asyncio.create_task(case.start(USER, wait=10.0, immediate=1, force=False))
    await asyncio.sleep(0.5)
    unlisted = await case.join(USER)
    started = await running
    joined = await case.join(USER)
    await backend.run_all_turns()

    assert joined == dataclasses.replace(
        started, disposition=start_job.Disposition.JOINED, reason=start_job.StartReason.JOB_RUNNING
    )
    assert started.reason is start_job.StartReason.FIRST_JOB
    assert [nothing, unlisted, await case.join(USER)] == [None] * 3


async def test_discord_is_not_called_when_everything_is_fresh(backend: fake_backend.FakeBackend) -> None:
    """The last job is returned."""
    case = starter(backend)
    first = await case.start(USER, wait=10.0, immediate=4, force=False)
    asked = len(backend.discord.calls)

    second = await case.start(USER, wait=10.0, immediate=4, force=False)

    assert (second.disposition, second.job.job_id) == (start_job.Disposition.FRESH, first.job.job_id)
    assert second.reason is start_job.StartReason.LISTED_LATELY
    assert states(second) == ["SUCCEEDED"] * 4
    assert len(backend.discord.calls) == asked


@pytest.mark.parametrize("comes", [True, False], ids=["installed", "not installed"])
async def test_a_new_job_starts_when_the_user_has_installed_the_bot_since_the_last(
    backend: fake_backend.FakeBackend,
    comes: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """One call about that guild says so, in the caller's turn; guilds where they cannot install bots cost none."""
    await backend.add_user([values.user_guild(10), values.user_guild(20, owner=True), values.user_guild(30)])
    backend.discord.installed = {10}
    backend.discord.latency = 0.0
    case = starter(backend)
    first = await case.start(USER, wait=10.0, immediate=4, force=False)
    backend.clock.advance(10.0)
    if comes:
        backend.discord.installed.add(20)
    asked = len(backend.discord.calls)

    second = await case.start(USER, wait=10.0, immediate=4, force=False, caller="shop")

    calls = [call.what for call in backend.discord.calls[asked:]]
    assert sorted(states(first)) == ["SKIPPED", "SKIPPED", "SUCCEEDED"]
    assert calls[0] == ("bot", 20)
    assert backend.discord.calls[asked].purpose.callers == ("shop",)
    if comes:
        assert second.disposition is start_job.Disposition.CREATED
        assert sorted(states(second)) == ["SKIPPED", "SUCCEEDED", "SUCCEEDED"]
    else:
        assert (second.disposition, second.job.job_id) == (start_job.Disposition.FRESH, first.job.job_id)
        assert len(calls) == 1


async def test_the_last_job_is_returned_when_the_bots_installation_cannot_be_checked_in_time(
    backend: fake_backend.FakeBackend,
) -> None:
    """A start waits a second for that at most."""
    await backend.add_user([values.user_guild(10), values.user_guild(20, owner=True)])
    backend.discord.installed = {10}
    backend.discord.latency = 0.0
    case = starter(backend)
    first = await case.start(USER, wait=10.0, immediate=4, force=False)
    backend.clock.advance(10.0)
    backend.discord.latency = 30.0
    began = backend.clock()

    second = await case.start(USER, wait=10.0, immediate=4, force=False)

    assert (second.disposition, second.job.job_id) == (start_job.Disposition.FRESH, first.job.job_id)
    assert backend.clock() - began <= start_job.NEW_BOT_WAIT + 0.1


@pytest.mark.parametrize(
    ("force", "seconds", "failing", "why"),
    [
        pytest.param(True, 0.0, False, "FORCED", id="forced"),
        pytest.param(False, 60.0, False, "LAST_JOB_OLD", id="too-old"),
        pytest.param(False, 0.0, True, "LAST_JOB_NOT_CLEAN", id="with-errors"),
    ],
)
async def test_a_new_job_is_created_when_the_last_one_cannot_be_reused(
    backend: fake_backend.FakeBackend,
    force: bool,  # noqa: FBT001 -- a parameter
    seconds: float,
    failing: bool,  # noqa: FBT001 -- a parameter
    why: str,
) -> None:
    """Because the start is forced, or the last job is old, or a task of it failed."""
    if failing:
        backend.discord.fail(10, errors.DiscordRefused(400, 0))
    case = starter(backend)
    first = await case.start(USER, wait=10.0, immediate=4, force=False)
    backend.clock.advance(seconds)

    second = await case.start(USER, wait=10.0, immediate=4, force=force)

    assert (second.disposition, second.reason) == (start_job.Disposition.CREATED, why)
    assert second.job.job_id != first.job.job_id
    assert backend.discord.asked("list") == 2


async def test_every_guild_is_fetched_again_when_the_start_is_forced(backend: fake_backend.FakeBackend) -> None:
    """Fresh or not."""
    case = starter(backend)
    await case.start(USER, wait=10.0, immediate=4, force=False)

    await case.start(USER, wait=10.0, immediate=4, force=True)

    assert [backend.discord.asked(guild_id) for guild_id in GUILDS] == [2, 2, 2, 2]


async def test_the_job_has_the_failure_when_the_users_token_is_revoked(backend: fake_backend.FakeBackend) -> None:
    """After two refusals some seconds apart; the next start fails at once."""
    backend.discord.fail("list", *[errors.TokenRefused(401, 0)] * 2)
    case = starter(backend)

    started = await case.start(USER, wait=10.0, immediate=1, force=False)
    await backend.run_all_turns()

    job = await backend.get_job(started.job.job_id)
    assert (job.state, job.reason) == (model.JobState.FAILED, "REAUTH_REQUIRED")
    with pytest.raises(errors.ReauthRequired):
        await case.start(USER, wait=10.0, immediate=1, force=False)


async def test_nothing_is_started_when_there_is_no_credential(backend: fake_backend.FakeBackend) -> None:
    """Neither a job nor a turn."""
    with pytest.raises(errors.CredentialMissing):
        await starter(backend).start(USER + 1, wait=10.0, immediate=1, force=False)

    assert await backend.jobs.latest(USER + 1) is None
    assert backend.queue.waiting == {}


async def test_a_job_runs_later_when_redis_is_away_at_its_start(backend: fake_backend.FakeBackend) -> None:
    """The caller gets the error at once; the stored job names its next turn, and the sweeper finds it."""
    backend.queue.away = backend.events.away = True

    with pytest.raises(errors.QueueUnavailable):
        await starter(backend).start(USER, wait=10.0, immediate=1, force=False)

    assert backend.discord.calls == []
    backend.queue.away = backend.events.away = False
    backend.clock.advance(18.0 + maintenance.OVERDUE_AFTER + 0.1)
    await maintenance.Sweeper(backend.deps, backend.config).sweep()
    await backend.run_all_turns()
    job = await backend.jobs.latest(USER)
    assert job is not None
    assert job.state is model.JobState.SUCCEEDED


async def test_the_job_succeeds_when_the_process_crashes_in_the_first_turn(
    backend: fake_backend.FakeBackend,
) -> None:
    """The sweeper finds the job in the store."""
    case = starter(backend)
    starting = asyncio.create_task(case.start(USER, wait=10.0, immediate=4, force=False))
    await asyncio.sleep(0.5)
    killed = asyncio.all_tasks() - {asyncio.current_task()}
    for task in killed:
        task.cancel()
    await asyncio.gather(*killed, return_exceptions=True)
    assert starting in killed
    backend.queue.waiting.clear()

    backend.clock.advance(backend.config.turn_lease + maintenance.OVERDUE_AFTER)
    await maintenance.Sweeper(backend.deps, backend.config).sweep()
    await backend.run_all_turns()

    job = await backend.jobs.latest(USER)
    assert job is not None
    assert job.state is model.JobState.SUCCEEDED


async def test_a_watcher_gets_only_newer_rows_when_it_resumes_from_the_result(
    backend: fake_backend.FakeBackend,
) -> None:
    """Only rows that are newer than the result."""
    started = await starter(backend).start(USER, wait=10.0, immediate=2, force=False)
    watcher = await backend.events.subscribe(started.job.job_id, started.position)

    await backend.run_all_turns()

    update = await watcher.next(1.0)
    assert update is not None
    known = {row.guild_id: row.revision for row in started.tasks}
    news = [row.guild_id for row in update.tasks if row.revision > known[row.guild_id]]
    assert sorted(news) == [30, 40]
    assert update.job.state is model.JobState.SUCCEEDED


async def test_a_job_is_started_when_nothing_may_be_shown_of_the_last_one(backend: fake_backend.FakeBackend) -> None:
    """A turn has to prove the new credential first, however fresh the list of the old one is."""
    case = starter(backend)
    await case.start(USER, wait=10.0, immediate=4, force=False)
    await backend.credentials.delete(USER, shown_until=backend.clock())
    await backend.users.put_unproven(USER, values.credential(access_token="newer"))

    again = await case.start(USER, wait=10.0, immediate=4, force=False)

    assert again.disposition is start_job.Disposition.CREATED
    assert len(again.tasks) == len(GUILDS)


async def test_the_calls_and_turns_of_a_job_are_its_callers_when_it_is_started(
    backend: fake_backend.FakeBackend,
) -> None:
    """In the first turn and in those of the workers."""
    started = await starter(backend).start(USER, wait=10.0, immediate=2, force=False, caller="shop")
    handed_over = list(backend.queue.enqueued)
    (scheduled,) = backend.queue.waiting
    await backend.run_all_turns()

    assert started.job.callers == ("shop",)
    assert [turn.callers for turn in (*handed_over, scheduled)] == [("shop",)] * 2
    assert {call.purpose.callers for call in backend.discord.calls} == {("shop",)}


async def test_a_job_belongs_to_both_callers_when_one_joins_the_others(backend: fake_backend.FakeBackend) -> None:
    """From its next turn on; a caller that joins again is not stored again."""
    case = starter(backend)
    await case.start(USER, wait=10.0, immediate=1, force=False, caller="a")
    for name in ("b", "a", "b", ""):
        joined = await case.start(USER, wait=0.0, immediate=1, force=False, caller=name)
    before = len(backend.discord.calls)
    await backend.run_next_turn()

    assert joined.job.callers == ("a", "b")
    assert {call.purpose.callers for call in backend.discord.calls[before:]} == {("a", "b")}


async def test_a_swept_turn_is_in_its_callers_line_when_the_queue_lost_it(backend: fake_backend.FakeBackend) -> None:
    """The store knows the callers."""
    case = starter(backend)
    await case.start(USER, wait=10.0, immediate=1, force=False, caller="a")
    backend.queue.enqueued.clear()
    backend.clock.advance(100.0)

    await maintenance.Sweeper(backend.deps, backend.config).sweep()

    assert [turn.callers for turn in backend.queue.enqueued] == [("a",)]


async def test_a_worker_runs_the_first_turn_when_the_service_has_no_place_for_it(
    backend: fake_backend.FakeBackend,
) -> None:
    """It does not wait for the sweeper, and stands in its caller's line."""
    case, _ = await starter_without_place(backend)

    started = await case.start(USER, wait=1.0, immediate=1, force=False, caller="shop")
    await case.drain(1.0)
    (handed_over,) = backend.queue.enqueued
    await backend.run_next_turn()

    assert (started.tasks, handed_over.callers) == ([], ("shop",))
    assert "SUCCEEDED" in (await backend.task_states(started.job.job_id)).values()


async def test_the_list_is_asked_once_when_a_worker_runs_the_first_turn_for_long(
    backend: fake_backend.FakeBackend,
) -> None:
    """The turn that follows a first turn of this process does not overtake that of a worker."""
    case, _ = await starter_without_place(backend)
    backend.discord.latency = 5.0

    started = await case.start(USER, wait=1.0, immediate=1, force=False)
    await case.drain(1.0)
    working = asyncio.create_task(backend.run_next_turn())
    await asyncio.sleep(4.0)
    overtaking = [backend.turn_runner.run_background_turn(turn) for turn in backend.queue.waiting]
    await asyncio.gather(working, *overtaking)
    await backend.run_all_turns()

    assert [call.what for call in backend.discord.calls].count("list") == 1
    assert (await backend.get_job(started.job.job_id)).state is model.JobState.SUCCEEDED


async def test_a_first_turn_that_begins_late_is_taken_over_later(backend: fake_backend.FakeBackend) -> None:
    """It waited 1.5 of the caller's 2 s for its place: the worker comes after 11.5 s instead of 10."""
    case, limit = await starter_without_place(backend)
    asyncio.get_running_loop().call_later(1.5, limit.release, "other")
    backend.discord.latency = 3.0
    now = backend.clock()

    started = await case.start(USER, wait=2.0, immediate=1, force=False)

    assert backend.queue.waiting[turns.Turn(started.job.job_id, 1)] - now == pytest.approx(11.5)
    await case.drain(60.0)


async def test_a_place_is_free_again_when_the_job_cannot_be_stored_or_another_start_stored_one(
    backend: fake_backend.FakeBackend,
) -> None:
    """The place is taken before, so that the job is stored as owned by its first turn."""
    limit = concurrency.AdaptiveLimit(backend.clock, concurrency.LimitRule(1, 1, 1))
    outcomes: list[errors.IndexerError | None] = [errors.StoreUnavailable("away"), None]

    class Jobs:
        """Jobs of which none can be stored at first, and then another process stores one."""

        def __getattr__(self, name: str) -> object:
            return getattr(backend.jobs, name)

        async def create_or_join(self, job: model.Job) -> tuple[model.Job, bool]:
            """Fail, or join the other process's job."""
            if problem := outcomes.pop(0):
                raise problem
            await backend.jobs.create_or_join(values.job("f" * 32, user_id=job.user_id))
            return await backend.jobs.create_or_join(job)

    deps = dataclasses.replace(backend.deps, jobs=cast("ports.Jobs", Jobs()))
    case = start_job.StartJob(deps, backend.config, backend.turn_runner, limit)

    with pytest.raises(errors.StoreUnavailable):
        await case.start(USER, wait=1.0, immediate=1, force=False)
    after_failure = limit.running
    joined = await case.start(USER, wait=1.0, immediate=1, force=False)

    assert (after_failure, joined.disposition, limit.running) == (0, start_job.Disposition.JOINED, 0)


async def test_a_light_caller_is_served_when_a_heavy_one_has_too_many_starts_waiting(
    backend: fake_backend.FakeBackend,
) -> None:
    """The heavy one is asked to come later; the light one's first turn is the next that runs."""
    limit = concurrency.AdaptiveLimit(backend.clock, concurrency.LimitRule(1, 1, 1))
    case = start_job.StartJob(backend.deps, backend.config, backend.turn_runner, limit)
    for user in range(USER, USER + 8):
        await backend.add_user([values.user_guild(10)], user)

    def start(user: int, name: str) -> asyncio.Task[start_job.StartResult]:
        return asyncio.create_task(case.start(user, wait=10.0, immediate=1, force=False, caller=name))

    heavy = [start(USER + number, "heavy") for number in range(6)]
    await asyncio.sleep(0.1)
    with pytest.raises(errors.Overloaded):
        await start(USER + 6, "heavy")
    light = start(USER + 7, "light")
    done, _ = await asyncio.wait({light, *heavy[1:]}, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.gather(light, *heavy)

    assert done == {light}
    assert states(light.result()) == ["SUCCEEDED"]
