"""One turn of a job after the other, until it has ended."""

import asyncio
import dataclasses

import pytest
from prometheus_client import registry

from indexing import errors
from indexing.domain import job_updates, model, ports, turns
from indexing.telemetry import metrics
from indexing.usecases import guild_lists, run_turn, turn_capacity, turn_state
from tests import fake_backend, values
from tests.unit.usecases import seven_guilds

pytestmark = pytest.mark.clockwork
USER, JOB, GUILDS, ROLE = seven_guilds.USER, seven_guilds.JOB, seven_guilds.GUILDS, seven_guilds.ROLE


@pytest.fixture
async def backend() -> fake_backend.FakeBackend:
    """One user in seven guilds."""
    return await seven_guilds.make()


async def test_a_job_succeeds_when_every_guild_answers(backend: fake_backend.FakeBackend) -> None:
    """Each guild is fetched once and each task succeeds."""
    await backend.start_job()

    await backend.run_all_turns()

    job = await backend.get_job()
    assert (job.state, job.reason, job.finished_at) == (model.JobState.SUCCEEDED, "", backend.clock())
    assert await backend.task_states() == dict.fromkeys(GUILDS, "SUCCEEDED")
    assert sorted(map(str, backend.discord_calls)) == sorted(map(str, GUILDS))
    assert [backend.discord.asked(what) for what in ("list", "installs")] == [1, 1]


async def test_a_job_succeeds_at_once_when_the_user_is_in_no_guild() -> None:
    """A job without tasks is complete."""
    backend = fake_backend.make()
    await backend.add_user([])
    await backend.start_job()

    assert await backend.run_all_turns() == 1
    assert (await backend.get_job()).state is model.JobState.SUCCEEDED


async def test_tasks_run_by_rank_when_a_turn_runs(backend: fake_backend.FakeBackend) -> None:
    """Pinned guilds in the user's order, then the rest; muted guilds and those without our bot cost no call."""
    await backend.users.put_preferences(USER, model.Preferences(pinned=(50, 30), muted=(20,)))
    backend.discord.installed.discard(60)
    await backend.start_job()

    await backend.turn_runner.run_turn(turns.Turn(JOB, 0), backend.turn_limits())

    assert [what for what in backend.discord_calls if what != ("bot", 60)] == [50, 30, 10, 40, 70]
    states = await backend.task_states()
    assert (states[20], states[60]) == ("SKIPPED MUTED", "SKIPPED BOT_NOT_INSTALLED")
    # The listing counts as a request for a new guild, but not for one without our bot.
    assert [row.guild_id for row in await backend.jobs.list_tasks(JOB)] == [50, 30, 10, 20, 40, 70, 60]


async def test_new_preferences_apply_when_the_next_turn_begins(backend: fake_backend.FakeBackend) -> None:
    """Queued tasks are ranked again at every turn."""
    await backend.start_job()
    await backend.turn_runner.run_turn(turns.Turn(JOB, 0), backend.turn_limits(first=2))

    await backend.users.put_preferences(USER, model.Preferences(pinned=(70,)))
    await backend.turn_runner.run_turn(turns.Turn(JOB, 1), backend.turn_limits())

    assert backend.discord_calls == [10, 20, 70, 30, 40, 50, 60]


async def test_only_the_best_tasks_run_when_a_turn_is_limited_to_the_first_few(
    backend: fake_backend.FakeBackend,
) -> None:
    """The rest is handed to the next turn at once."""
    await backend.start_job()

    await backend.turn_runner.run_turn(turns.Turn(JOB, 0), backend.turn_limits(width=3, first=3))

    assert backend.discord_calls == [10, 20, 30]
    assert backend.queue.enqueued[-1] == turns.Turn(JOB, 1)
    assert (await backend.get_job()).next_turn_at == backend.clock()


async def test_only_the_list_is_fetched_when_a_turn_is_limited_to_no_guild(backend: fake_backend.FakeBackend) -> None:
    """A caller may ask for the guild list alone."""
    await backend.start_job()

    await backend.turn_runner.run_turn(turns.Turn(JOB, 0), backend.turn_limits(first=0))

    assert backend.discord_calls == []
    assert (await backend.get_job()).listed


async def test_as_many_tasks_run_at_once_as_the_turns_width_when_there_are_more(
    backend: fake_backend.FakeBackend,
) -> None:
    """Never more, and no task waits while another could run."""
    backend.discord.latency = 1.0
    await backend.start_job()
    began = backend.clock()

    await backend.turn_runner.run_turn(turns.Turn(JOB, 0), backend.turn_limits(width=3))

    lists = 2
    assert backend.discord.busiest == 3
    assert backend.clock() - began == pytest.approx(lists + 3)


async def test_the_first_guild_runs_alone_when_a_worker_begins_a_job(backend: fake_backend.FakeBackend) -> None:
    """Then as many as allowed: no user queues five guilds ahead of another user's first."""
    await backend.start_job()
    backend.discord.latency = 1.0

    await backend.turn_runner.run_turn(
        backend.queue.enqueued.pop(), backend.turn_limits(lane=model.Lane.BACKGROUND, width=5)
    )

    began = [call.at for call in backend.discord.calls if call.what in GUILDS]
    assert [round(at - began[0]) for at in began] == [0, 1, 1, 1, 1, 1, 2]


async def test_no_task_is_begun_when_the_turns_time_is_over(backend: fake_backend.FakeBackend) -> None:
    """Running tasks finish, and the next turn takes the rest at once."""
    backend.discord.latency = 1.0
    await backend.start_job()

    await backend.turn_runner.run_turn(turns.Turn(JOB, 0), backend.turn_limits(until=backend.clock() + 4.5))

    assert backend.discord_calls == [10, 20, 30]
    assert backend.queue.enqueued[-1] == turns.Turn(JOB, 1)


async def test_the_lane_is_the_background_when_a_worker_runs_a_turn(backend: fake_backend.FakeBackend) -> None:
    """
    Calls are charged to the user, with one queue position for each task, and wait at most until the turn's end.

    The list and the first guild do not wait behind other users' background work: before them the user sees nothing.
    """
    await backend.start_job()

    await backend.run_all_turns()

    purposes = [call.purpose for call in backend.discord.calls if call.what in GUILDS]
    lanes = [call.purpose.lane for call in backend.discord.calls if call.what in {"list", *GUILDS}]
    assert lanes == [model.Lane.INTERACTIVE] * 2 + [model.Lane.BACKGROUND] * (len(GUILDS) - 1)
    assert {purpose.user_id for purpose in purposes} == {USER}
    assert len({purpose.waiter for purpose in purposes}) == len(GUILDS)
    assert max(purpose.max_wait for purpose in purposes) <= backend.config.turn_time


async def test_the_next_turn_runs_at_the_retry_time_when_quota_is_used_up(backend: fake_backend.FakeBackend) -> None:
    """The turn stops at once; watchers see what the job waits for; the tasks stay unchanged."""
    refusal = errors.RateLimited("user", retry_after=3.25, why="used up")
    backend.discord.fail(30, refusal)
    await backend.start_job()

    await backend.turn_runner.run_turn(turns.Turn(JOB, 0), backend.turn_limits())

    job = await backend.get_job()
    due = backend.clock() + 3.25
    assert backend.discord_calls == [10, 20]
    assert (await backend.task_states())[30] == "QUEUED"
    assert (job.waiting_for, job.waiting_until, job.next_turn_at) == ("user", due, due)
    assert backend.queue.waiting == {turns.Turn(JOB, 1): due}
    assert backend.events.streams[JOB][-1].job == job


async def test_the_next_turn_runs_at_the_soonest_retry_time_when_several_tasks_are_refused(
    backend: fake_backend.FakeBackend,
) -> None:
    """Each task has a queue position; one that is not claimed in time is lost with its permit."""
    run = turn_state.TurnState(values.job(), backend.turn_limits(), values.credential())
    for later, wait in ((0.0, 4.0), (0.1, 1.5), (0.2, 6.0)):
        run.note_refusal(errors.RateLimited("global", retry_after=wait, why="used up"), backend.clock() + later)

    assert run.refusal is not None
    assert (run.refusal.retry_after, run.resume_at) == (1.5, backend.clock() + 1.6)


async def test_no_queue_position_is_kept_when_the_next_turn_uses_another_lane(
    backend: fake_backend.FakeBackend,
) -> None:
    """Workers return in the same lane and keep theirs; a start that waits for first results runs one turn."""
    await backend.start_job()
    await backend.turn_runner.run_turn(backend.queue.enqueued.pop(), backend.turn_limits(first=2))
    first = {call.purpose.waiter for call in backend.discord.calls if call.what in GUILDS}
    backend.discord.calls.clear()

    await backend.run_all_turns()

    assert first == {""}
    assert sorted(call.purpose.waiter for call in backend.discord.calls) == [f"guild:{key}" for key in GUILDS[2:]]


async def test_jobs_share_a_position_when_they_wait_for_the_same_guild(backend: fake_backend.FakeBackend) -> None:
    """A position for roles belongs to the job, one for each of the tasks that it runs side by side."""
    shown = {4: values.task(4, channel_count=1)}
    limits = backend.turn_limits(lane=model.Lane.BACKGROUND)
    run = turn_state.TurnState(values.job(), limits, values.credential(), shown)
    other = dataclasses.replace(run, job=values.job("b" * 32, user_id=USER + 1))
    channels, roles = values.task(5), values.task(6, step=model.Step.ROLES)

    shared = [one.step_purpose(backend.clock(), channels, number) for one, number in ((run, 0), (other, 3))]
    own = [one.step_purpose(backend.clock(), roles, number) for one, number in ((run, 0), (run, 3), (other, 3))]

    assert {(purpose.waiter, purpose.shared) for purpose in shared} == {("guild:5", True)}
    assert [purpose.waiter for purpose in own] == [f"{JOB}:roles:0", f"{JOB}:roles:3", f"{'b' * 32}:roles:3"]
    assert not any(purpose.shared for purpose in own)


async def test_until_a_user_sees_a_guild_each_call_is_interactive(backend: fake_backend.FakeBackend) -> None:
    """Afterwards those about the guild that was shown first, so that its roles are known soon."""
    run = turn_state.TurnState(
        values.job(), backend.turn_limits(lane=model.Lane.BACKGROUND), values.credential(), {5: values.task(5)}
    )
    before = [run.lane_of(guild) for guild in (5, 6)]
    run.urgent = frozenset({5})
    run.tasks[5] = values.task(5, channel_count=1, step=model.Step.ROLES)
    run.tasks[6] = values.task(6)

    assert before == [model.Lane.INTERACTIVE, model.Lane.INTERACTIVE]
    assert [run.lane_of(guild) for guild in (5, 6)] == [model.Lane.INTERACTIVE, model.Lane.BACKGROUND]
    assert [task.guild_id for task in run.open_tasks()] == [5, 6]


@pytest.mark.parametrize(
    ("spare", "asked_at", "waits"),
    [(False, 0.0, 2.0), (True, 0.0, 10.0), (True, 9.0, 6.0), (True, 14.0, 2.0)],
    ids=["no-spare-thread", "spare-thread", "late", "last"],
)
async def test_a_turn_waits_longer_for_a_permit_while_there_are_spare_threads(
    backend: fake_backend.FakeBackend,
    spare: bool,  # noqa: FBT001 -- a parameter
    asked_at: float,
    waits: float,
) -> None:
    """Its time is 5 s; so the last permit is due 15 s after its beginning, well before its lease ends."""
    now = backend.clock()
    limits = turn_state.TurnLimits(
        model.Lane.BACKGROUND, now + 5.0, 5, max_wait=2.0, spare_wait=10.0, can_wait=lambda: spare
    )

    run = turn_state.TurnState(values.job(), limits, values.credential())

    assert run.max_wait(now + asked_at) == pytest.approx(waits)
    assert run.last_start - now == pytest.approx(15.0 if spare else 5.0)


@pytest.mark.parametrize(("threads", "turns_run"), [(1, 3), (2, 1)], ids=["no-spare-thread", "spare-thread"])
async def test_a_turn_goes_on_past_its_time_when_no_other_waits_for_its_thread(
    backend: fake_backend.FakeBackend, threads: int, turns_run: int
) -> None:
    """Each result extends its lease; without a spare thread, the next turn waits in line like those of other jobs."""
    backend.discord.latency = 2.0
    runner = run_turn.TurnRunner(
        backend.deps,
        backend.config.model_copy(update={"turn_width": 1}),
        backend.metrics,
        guild_lists.GuildLists(backend.deps, backend.config),
        capacity=turn_capacity.Capacity(threads=threads),
    )
    began = backend.clock()
    await backend.start_job()

    ran = 0
    while backend.queue.enqueued:
        await runner.run_background_turn(backend.queue.enqueued.pop())
        ran += 1

    assert ran == turns_run
    assert backend.clock() - began == pytest.approx(17.0, abs=0.1)
    assert await backend.task_states() == dict.fromkeys(GUILDS, "SUCCEEDED")


async def test_a_guild_is_skipped_when_it_was_muted_meanwhile(backend: fake_backend.FakeBackend) -> None:
    """A preference applies from the next turn on."""
    await backend.start_job()
    await backend.turn_runner.run_turn(backend.queue.enqueued.pop(), backend.turn_limits(first=1))
    await backend.users.put_preferences(USER, model.Preferences(muted=(40,)))

    await backend.run_all_turns()

    assert (await backend.task_states())[40] == "SKIPPED MUTED"
    assert backend.discord.asked(40) == 0


async def test_a_job_continues_when_quota_is_available_again(backend: fake_backend.FakeBackend) -> None:
    """With the refused task; the job no longer waits for anything."""
    backend.discord.fail(30, errors.RateLimited("global", retry_after=3.0, why="pause"))
    await backend.start_job()
    await backend.turn_runner.run_turn(turns.Turn(JOB, 0), backend.turn_limits())

    await backend.run_all_turns()

    job = await backend.get_job()
    assert (job.state, job.waiting_for, job.waiting_until) == (model.JobState.SUCCEEDED, "", 0.0)
    assert backend.discord_calls == GUILDS


@pytest.mark.parametrize(("wait", "turns_run"), [(1.9, 1), (2.1, 2)], ids=["soon", "later"])
async def test_a_worker_waits_within_the_turn_when_a_permit_is_due_soon(
    backend: fake_backend.FakeBackend, wait: float, turns_run: int
) -> None:
    """Ending the turn takes as long as its slowest call, and may lose the queue position."""
    backend.discord.fail(30, errors.RateLimited("global", retry_after=wait, why="used up"))
    await backend.start_job()

    ran = await backend.run_all_turns()

    times = {call.what: call.at for call in backend.discord.calls}
    assert ran == turns_run
    assert times[30] - times[20] == pytest.approx(wait, abs=0.05)
    assert set((await backend.task_states()).values()) == {"SUCCEEDED"}


@pytest.mark.parametrize(("budget", "hurried"), [("user", 3), ("global", 0)])
async def test_only_a_first_screen_that_waited_for_its_user_alone_is_finished_in_the_interactive_lane(
    backend: fake_backend.FakeBackend, budget: str, hurried: int
) -> None:
    """It continues with the user's own permits; one that waited for the fleet's queues with other users."""
    backend.discord.fail(30, errors.RateLimited(budget, retry_after=3.25, why="used up"))
    await backend.start_job()

    await backend.run_all_turns()

    after = [call.purpose.lane for call in backend.discord.calls if call.what in GUILDS[2:]]
    assert after == [model.Lane.INTERACTIVE] * hurried + [model.Lane.BACKGROUND] * (5 - hurried)


async def test_no_call_follows_when_several_tasks_run_at_the_refusal(backend: fake_backend.FakeBackend) -> None:
    """Tasks that have permits finish; none takes another."""
    backend.discord.latency = 1.0
    backend.discord.fail(30, errors.RateLimited("user", retry_after=9.0, why="used up"))
    await backend.start_job()

    await backend.turn_runner.run_turn(turns.Turn(JOB, 0), backend.turn_limits(width=3))

    assert backend.discord_calls == [10, 20]
    assert (await backend.task_states())[10] == "SUCCEEDED"


async def test_other_guilds_continue_when_one_route_is_used_up(backend: fake_backend.FakeBackend) -> None:
    """Only that task waits, for the next turn."""
    backend.discord.fail(20, errors.RateLimited("route", retry_after=7.0, why="429 shared"))
    await backend.start_job()

    await backend.turn_runner.run_turn(turns.Turn(JOB, 0), backend.turn_limits())

    assert backend.discord_calls == GUILDS
    assert backend.queue.waiting == {turns.Turn(JOB, 1): backend.clock() + 7.0}
    assert (await backend.get_job()).waiting_for == ""


async def test_roles_are_fetched_when_all_channels_are_stored(backend: fake_backend.FakeBackend) -> None:
    """Every guild shows its certain channels before any is refined."""
    backend.discord.channels[10] = seven_guilds.for_role(10)
    backend.discord.roles[USER, 10] = (ROLE,)
    await backend.start_job()

    await backend.turn_runner.run_turn(turns.Turn(JOB, 0), backend.turn_limits())

    assert backend.discord_calls == [*GUILDS, (USER, 10)]
    row = next(row for row in await backend.jobs.list_tasks(JOB) if row.guild_id == 10)
    assert (row.state, row.channel_count) == (model.TaskState.SUCCEEDED, 2)


@pytest.mark.parametrize(("waits", "after"), [(5.0, 5.0), (0.0, 0.0)], ids=["for-a-permit", "for-the-answer"])
async def test_roles_take_no_permit_when_channels_still_wait_for_theirs(
    backend: fake_backend.FakeBackend, waits: float, after: float
) -> None:
    """Channels that wait for a permit go first; roles run beside those that wait for Discord's response."""
    backend.discord.channels[10] = seven_guilds.for_role(10)
    backend.discord.roles[USER, 10] = (ROLE,)
    await backend.start_job()
    await backend.turn_runner.run_turn(turns.Turn(JOB, 0), backend.turn_limits(first=0))
    ask = backend.discord.guild_channels

    async def delayed_channels(
        guild_id: int, purpose: ports.Purpose, precondition: ports.Precondition
    ) -> list[model.Channel] | None:
        if guild_id != 10:
            await asyncio.sleep(waits)
        found = await ask(guild_id, purpose, precondition)
        if guild_id != 10:
            await asyncio.sleep(5.0 - waits)
        return found

    backend.discord.guild_channels = delayed_channels  # type: ignore[method-assign]  # delays before the permit or the response
    began = backend.clock()

    await backend.turn_runner.run_turn(turns.Turn(JOB, 1), backend.turn_limits(width=3, first=3))

    asked_at = next(call.at for call in backend.discord.calls if call.what == (USER, 10))
    assert asked_at == began + after


async def test_watchers_get_every_change_when_they_watch_a_job(backend: fake_backend.FakeBackend) -> None:
    """The list, each guild's start and end with growing revisions, and all rows again at the end."""
    await backend.start_job()

    await backend.run_all_turns()

    told = backend.events.streams[JOB]
    states: dict[int, list[str]] = {guild_id: [] for guild_id in GUILDS}
    revisions: dict[int, list[int]] = {guild_id: [] for guild_id in GUILDS}
    for update in told[:-1]:
        for row in update.tasks:
            states[row.guild_id].append(row.state.value)
            revisions[row.guild_id].append(row.revision)
    assert {tuple(seen) for seen in states.values()} == {("QUEUED", "RUNNING", "SUCCEEDED")}
    assert all(seen == sorted(set(seen)) for seen in revisions.values())
    assert told[0].tally == job_updates.Tally(total=7, queued=7)
    assert told[-1] == dataclasses.replace(
        job_updates.JobUpdate(
            await backend.get_job(), job_updates.Tally(total=7, succeeded=7), tuple(await backend.jobs.list_tasks(JOB))
        ),
        position=told[-1].position,
    )


async def test_outcomes_are_counted_when_a_job_ends(backend: fake_backend.FakeBackend) -> None:
    """By state and reason, for the fleet's metrics."""
    backend.discord.fail(20, errors.Gone(404, 10004), errors.Gone(404, 10004))
    to = registry.CollectorRegistry()
    seen = metrics.Metrics(to).indexing
    turner = run_turn.TurnRunner(
        backend.deps, backend.config, seen, guild_lists.GuildLists(backend.deps, backend.config)
    )
    await backend.start_job()

    await turner.run_turn(turns.Turn(JOB, 0), backend.turn_limits())

    assert to.get_sample_value("indexer_jobs_finished_total", {"state": "SUCCEEDED_WITH_ERRORS"}) == 1
    assert to.get_sample_value("indexer_guild_tasks_finished_total", {"state": "SUCCEEDED", "reason": ""}) == 6
    assert (
        to.get_sample_value("indexer_guild_tasks_finished_total", {"state": "FAILED", "reason": "GUILD_UNAVAILABLE"})
        == 1
    )
    assert to.get_sample_value("indexer_turn_seconds_count") == 1
    for milestone in ("list", "first", "five", "done"):
        assert to.get_sample_value("indexer_job_milestone_seconds_count", {"milestone": milestone}) == 1


async def test_open_tasks_are_counted_when_a_job_fails(backend: fake_backend.FakeBackend) -> None:
    """With the job's reason, so that the metrics agree with what users see."""
    to = registry.CollectorRegistry()
    seen = metrics.Metrics(to).indexing
    turner = run_turn.TurnRunner(
        backend.deps, backend.config, seen, guild_lists.GuildLists(backend.deps, backend.config)
    )
    await backend.start_job()
    await turner.run_turn(turns.Turn(JOB, 0), backend.turn_limits(first=1))
    await backend.credentials.delete(values.USER, shown_until=0.0)

    await turner.run_turn(turns.Turn(JOB, 1), backend.turn_limits())

    rows = await backend.jobs.list_tasks(JOB)
    undone = {"state": "FAILED", "reason": "CREDENTIAL_MISSING"}
    assert to.get_sample_value("indexer_guild_tasks_finished_total", undone) == sum(
        row.state.value == "FAILED" for row in rows
    )
    assert any(row.reason == "CREDENTIAL_MISSING" for row in rows)
