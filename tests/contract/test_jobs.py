"""Jobs and their guild tasks: one active job a user, one owner a turn."""

import asyncio
import dataclasses

import pytest

from indexing.domain import job_updates, model, ports, turns
from tests import clockwork, values
from tests.contract import conftest

NOW = clockwork.START
JOB = "a" * 32
OTHER = "b" * 32
ENDED = [state for state in model.JobState if state.terminal]


@pytest.fixture
def jobs(stores: conftest.Stores) -> ports.Jobs:
    """Jobs, none started."""
    return stores.jobs


async def begun(jobs: ports.Jobs, **changes: object) -> model.Job:
    """Start a job and own its first turn."""
    await jobs.create_or_join(values.job(JOB, **changes))
    return (await next_turn(jobs, 0))[0]


async def next_turn(jobs: ports.Jobs, turn: int) -> tuple[model.Job, list[model.GuildTask]]:
    """Begin the turn after *turn*, which must be current."""
    owned = await jobs.begin_turn(JOB, turn, now=NOW + 40 * turn, until=NOW + 40 * turn + 40)
    assert owned is not None
    return owned


async def begun_again(jobs: ports.Jobs, job: model.Job, changed: model.Job) -> model.Job:
    """Store a change in a job's first turn, and own its second."""
    assert await jobs.save(job, changed)
    return (await next_turn(jobs, 1))[0]


async def ended(jobs: ports.Jobs, job_id: str, **changes: object) -> model.Job:
    """Start a job and end it."""
    job = values.job(job_id, **changes)
    await jobs.create_or_join(job)
    over = dataclasses.replace(job, state=model.JobState.SUCCEEDED, finished_at=job.created_at + 1)
    assert await jobs.save(job, over)
    return over


async def test_a_job_is_stored_whole_when_it_is_started(jobs: ports.Jobs) -> None:
    """The loaded job equals the started one."""
    job = values.job(JOB, force=True)

    started = await jobs.create_or_join(job)

    assert started == (job, True)
    assert await jobs.get(JOB) == job


async def test_several_jobs_are_read_together_when_some_are_unknown(jobs: ports.Jobs) -> None:
    """Those that are stored, each as it is."""
    over = await ended(jobs, OTHER)
    job = await begun(jobs)

    assert await jobs.get_many({JOB, OTHER, "c" * 32}) == {JOB: job, OTHER: over}
    assert await jobs.get_many(set()) == {}


async def test_a_start_joins_when_the_user_has_an_active_job(jobs: ports.Jobs) -> None:
    """The second start gets the first job, as it is now, and stores nothing."""
    job = await begun(jobs)

    joined = await jobs.create_or_join(values.job(OTHER))

    assert joined == (job, False)
    assert await jobs.get(OTHER) is None


async def test_one_job_is_made_when_twenty_starts_come_at_once(jobs: ports.Jobs) -> None:
    """Exactly one of them made the job, and all are given the same one."""
    asked = [jobs.create_or_join(values.job(f"{number:032x}")) for number in range(20)]

    started = await asyncio.gather(*asked)

    assert sum(created for _, created in started) == 1
    assert len({job.job_id for job, _ in started}) == 1


async def test_users_do_not_share_a_job_when_they_start_at_once(jobs: ports.Jobs) -> None:
    """Each user has their own."""
    first = await jobs.create_or_join(values.job(JOB))
    second = await jobs.create_or_join(values.job(OTHER, user_id=values.USER + 1))

    assert [created for _, created in (first, second)] == [True, True]


@pytest.mark.parametrize("state", ENDED, ids=str)
async def test_a_new_job_is_made_when_the_last_one_has_ended(jobs: ports.Jobs, state: model.JobState) -> None:
    """However the last one ended, it stays what it was."""
    job = await begun(jobs)
    last = dataclasses.replace(job, state=state, reason="WHY", finished_at=NOW + 3)
    assert await jobs.save(job, last)

    _, created = await jobs.create_or_join(values.job(OTHER))

    assert created
    assert await jobs.get(JOB) == last


async def test_nothing_is_found_when_there_is_no_job(jobs: ports.Jobs) -> None:
    """Neither by id nor by user."""
    assert await jobs.get(JOB) is None
    assert await jobs.latest(values.USER) is None
    assert await jobs.list_tasks(JOB) == []


async def test_the_newest_job_is_the_latest_when_all_have_ended(jobs: ports.Jobs) -> None:
    """By the time at which it was created; other users' jobs do not count."""
    newest = await ended(jobs, JOB, created_at=NOW + 10)
    await ended(jobs, OTHER, created_at=NOW)
    await ended(jobs, "c" * 32, created_at=NOW + 20, user_id=values.USER + 1)

    assert await jobs.latest(values.USER) == newest


async def test_the_active_job_is_the_latest_when_an_ended_one_looks_newer(jobs: ports.Jobs) -> None:
    """Clocks of two machines differ: a job that runs is never hidden by one that has ended."""
    await ended(jobs, JOB, created_at=NOW + 0.5)
    active, _ = await jobs.create_or_join(values.job(OTHER, created_at=NOW))

    assert await jobs.latest(values.USER) == active


async def test_jobs_are_paged_when_a_user_has_many(jobs: ports.Jobs) -> None:
    """Newest first with their tasks, only those created before the given time, up to the limit."""
    made = [await ended(jobs, f"{number:032x}", created_at=NOW + number) for number in range(2)]
    job, _ = await jobs.create_or_join(values.job(f"{2:032x}", created_at=NOW + 2))
    await jobs.add_tasks(job, [values.task(5, state=model.TaskState.SUCCEEDED)])
    made.append(dataclasses.replace(job, listed=True, state=model.JobState.SUCCEEDED))
    assert await jobs.save(job, made[2])
    made.append(await ended(jobs, f"{3:032x}", created_at=NOW + 3))
    await ended(jobs, OTHER, user_id=values.USER + 1)

    first = await jobs.list_for_user(values.USER, before=float("inf"), limit=2)
    second = await jobs.list_for_user(values.USER, before=first[-1][0].created_at, limit=3)

    assert first == [(made[3], []), (made[2], [values.task(5, state=model.TaskState.SUCCEEDED)])]
    assert second == [(made[1], []), (made[0], [])]


async def test_a_turn_owns_the_job_when_its_number_is_current(jobs: ports.Jobs) -> None:
    """The owner gets the next number and time until *until*; the job no longer waits for quota."""
    waiting = values.job(JOB, waiting_for="user", waiting_until=NOW + 5)
    await jobs.create_or_join(waiting)

    owned = await jobs.begin_turn(JOB, 0, now=NOW + 5, until=NOW + 45)

    job = dataclasses.replace(waiting, turn=1, next_turn_at=NOW + 45, waiting_for="", waiting_until=0.0, unfinished=1)
    assert owned == (job, [])
    assert await jobs.get(JOB) == job
    assert await jobs.load(JOB) == (job, [])


async def test_a_job_is_owned_by_its_first_turn_when_it_is_stored_as_begun(jobs: ports.Jobs) -> None:
    """Which writes as one that began later does; no other first turn begins, and the second ends its rights."""
    planned = turns.begun(values.job(JOB))

    started = await jobs.create_or_join(planned)
    other = await jobs.begin_turn(JOB, 0, now=NOW, until=NOW + 40)
    listed = await jobs.add_tasks(planned, [values.task(5)])
    second, tasks = await next_turn(jobs, 1)
    late = await jobs.write_tasks(planned, [values.task(5, revision=9)])

    assert (started, other, listed, late) == ((planned, True), None, True, False)
    assert (second.turn, second.unfinished, second.listed, tasks) == (2, 2, True, [values.task(5)])


async def test_a_turn_gets_the_current_tasks_when_it_begins(jobs: ports.Jobs) -> None:
    """By position, with the changes of earlier turns."""
    job = await begun(jobs)
    await jobs.add_tasks(job, [values.task(5, position=1), values.task(6, position=0)])
    done = values.task(6, state=model.TaskState.SUCCEEDED, channel_count=3, revision=9)
    await jobs.save(job, dataclasses.replace(job, unfinished=0), [done])

    owned, tasks = await next_turn(jobs, 1)

    assert (owned.turn, owned.listed) == (2, True)
    assert tasks == [done, values.task(5, position=1)]


async def test_one_turn_wins_when_many_begin_at_once(jobs: ports.Jobs) -> None:
    """A message that was delivered twelve times runs once."""
    await jobs.create_or_join(values.job(JOB))
    asked = [jobs.begin_turn(JOB, 0, now=NOW, until=NOW + 40) for _ in range(12)]

    owned = await asyncio.gather(*asked)

    assert len([turn for turn in owned if turn is not None]) == 1
    found = await jobs.get(JOB)
    assert found is not None
    assert (found.turn, found.unfinished) == (1, 1)


@pytest.mark.parametrize("number", [0, 2, 99], ids=["earlier", "later", "far-later"])
async def test_a_turn_is_refused_when_its_number_is_not_current(jobs: ports.Jobs, number: int) -> None:
    """Neither an old message nor one from nowhere moves the job."""
    job = await begun(jobs)

    owned = await jobs.begin_turn(JOB, number, now=NOW + 1, until=NOW + 41)

    assert owned is None
    assert await jobs.get(JOB) == job


async def test_a_turn_is_refused_when_the_job_has_ended_or_is_unknown(jobs: ports.Jobs) -> None:
    """There is nothing to do any more."""
    job = await ended(jobs, JOB)

    owned = [await jobs.begin_turn(job_id, job.turn, now=NOW, until=NOW + 40) for job_id in (JOB, OTHER)]

    assert owned == [None, None]
    assert await jobs.get(JOB) == job


async def test_lost_turns_are_counted_when_they_never_say_how_they_ended(jobs: ports.Jobs) -> None:
    """Each turn that begins counts as unfinished until its job is saved as finished with it."""
    await begun(jobs)

    second, _ = await next_turn(jobs, 1)
    assert await jobs.save(second, dataclasses.replace(second, unfinished=0))
    third, _ = await next_turn(jobs, 2)

    assert (second.unfinished, third.unfinished) == (2, 1)


async def test_a_job_is_saved_whole_when_its_owner_saves_it(jobs: ports.Jobs) -> None:
    """Every field that may change is kept."""
    job = await begun(jobs)
    changed = dataclasses.replace(
        job,
        next_turn_at=NOW + 7.25,
        attempts=2,
        reason="DISCORD_TRANSIENT",
        waiting_for="global",
        waiting_until=NOW + 7.25,
        unfinished=0,
        cancelled_by="shop",
    )

    saved = await jobs.save(job, changed)

    assert saved
    assert await jobs.get(JOB) == changed


async def test_only_changed_fields_are_written_when_an_older_copy_of_the_job_is_saved(jobs: ports.Jobs) -> None:
    """An error path has the copy with which the turn began: what the turn has stored since stays."""
    job = await begun(jobs)
    job = await begun_again(jobs, job, dataclasses.replace(job, attempts=2, reason="DISCORD_TRANSIENT"))
    await jobs.add_tasks(job, [values.task(5)])

    assert await jobs.save(job, dataclasses.replace(job, next_turn_at=NOW + 9, unfinished=0))

    stored = dataclasses.replace(job, next_turn_at=NOW + 9, unfinished=0, listed=True, attempts=0, reason="")
    assert await jobs.load(JOB) == (stored, [values.task(5)])


async def test_a_stale_owner_changes_nothing_when_the_next_turn_has_begun(jobs: ports.Jobs) -> None:
    """It cannot even end the job, and every write returns that the turn is stale."""
    stale = await begun(jobs)
    await jobs.add_tasks(stale, [values.task(5)])
    current = await next_turn(jobs, 1)
    done = values.task(5, state=model.TaskState.SUCCEEDED, revision=2)

    written = [
        await jobs.save(stale, dataclasses.replace(stale, state=model.JobState.FAILED, reason="STALE"), [done]),
        await jobs.write_tasks(stale, [done]),
        await jobs.add_tasks(stale, [values.task(6)]),
        await jobs.postpone(stale, NOW + 99),
    ]

    assert written == [False] * 4
    assert await jobs.load(JOB) == current


async def test_an_ended_job_stays_ended_when_its_owner_writes_again(jobs: ports.Jobs) -> None:
    """A terminal state is final, also for the turn that owned it."""
    job = await ended(jobs, JOB)

    written = [
        await jobs.save(job, dataclasses.replace(job, state=model.JobState.RUNNING, finished_at=None)),
        await jobs.write_tasks(job, [values.task(5)]),
        await jobs.add_tasks(job, [values.task(5)]),
        await jobs.postpone(job, NOW + 99),
    ]

    assert written == [False] * 4
    assert await jobs.load(JOB) == (job, [])


async def test_an_ended_job_stays_ended_when_its_owner_writes_at_the_same_moment(jobs: ports.Jobs) -> None:
    """A cancellation and a running turn in one process: the first write counts, the others are refused."""
    job = await begun(jobs)
    await jobs.add_tasks(job, [values.task(5)])
    cancelled = dataclasses.replace(job, state=model.JobState.CANCELLED, reason="CANCELLED", finished_at=NOW + 1)
    done = values.task(5, state=model.TaskState.SUCCEEDED, revision=2)

    written = tuple(
        await asyncio.gather(
            jobs.write_tasks(job, [values.task(5, attempts=1, revision=1)]),
            jobs.save(job, cancelled),
            jobs.save(job, dataclasses.replace(job, attempts=7), [done]),
            jobs.write_tasks(job, [done]),
            jobs.postpone(job, NOW + 99),
        )
    )

    assert written == (True, True, False, False, False)
    found = await jobs.load(JOB)
    assert found is not None
    assert found[0] == dataclasses.replace(cancelled, listed=True)
    assert [(task.state, task.attempts) for task in found[1]] == [(model.TaskState.CANCELLED, 1)]


async def test_only_the_next_turn_moves_when_a_job_is_postponed(jobs: ports.Jobs) -> None:
    """Changes that the turn has stored meanwhile stay."""
    job = await begun(jobs)
    await jobs.save(job, dataclasses.replace(job, attempts=3, unfinished=0))

    postponed = await jobs.postpone(job, NOW + 99.5)

    assert postponed
    assert await jobs.get(JOB) == dataclasses.replace(job, attempts=3, unfinished=0, next_turn_at=NOW + 99.5)


async def test_nothing_is_stored_when_an_unknown_job_is_saved(jobs: ports.Jobs) -> None:
    """Saving is not starting."""
    assert not await jobs.save(values.job(JOB), values.job(JOB, attempts=1))
    assert await jobs.get(JOB) is None


async def test_tasks_are_listed_by_position_when_they_were_added(jobs: ports.Jobs) -> None:
    """Every field survives, and the job is marked as listed."""
    job = await begun(jobs)
    rows = [
        values.task(5, position=1, name="größer 🎉", revision=job_updates.revision_of(1, 1)),
        values.task(
            9, position=0, state=model.TaskState.SKIPPED, reason="MUTED", revision=job_updates.revision_of(1, 2)
        ),
        values.task(7, position=2, step=model.Step.ROLES, attempts=3, retry_at=NOW + 0.5, channel_count=0),
    ]

    added = await jobs.add_tasks(job, rows)

    assert added
    assert await jobs.list_tasks(JOB) == [rows[1], rows[0], rows[2]]
    assert await jobs.load(JOB) == (dataclasses.replace(job, listed=True), [rows[1], rows[0], rows[2]])


async def test_a_job_is_listed_when_it_has_no_task(jobs: ports.Jobs) -> None:
    """A user without guilds."""
    job = await begun(jobs)

    assert await jobs.add_tasks(job, [])

    assert await jobs.load(JOB) == (dataclasses.replace(job, listed=True), [])


async def test_a_task_is_replaced_when_it_is_written_again(jobs: ports.Jobs) -> None:
    """The whole task; other tasks and the job stay."""
    job = await begun(jobs)
    await jobs.add_tasks(job, [values.task(5), values.task(6, position=1)])
    newer = values.task(
        5, revision=2, state=model.TaskState.SUCCEEDED, step=model.Step.ROLES, attempts=1, channel_count=4
    )

    written = await jobs.write_tasks(job, [newer])

    assert written
    assert await jobs.write_tasks(job, [])
    assert await jobs.load(JOB) == (dataclasses.replace(job, listed=True), [newer, values.task(6, position=1)])


async def test_no_task_is_created_when_it_is_written_without_being_added(jobs: ports.Jobs) -> None:
    """A job's set of tasks is decided once; existing tasks in the same write are stored."""
    job = await begun(jobs)
    await jobs.add_tasks(job, [values.task(5)])
    newer = values.task(5, revision=2)

    await jobs.write_tasks(job, [values.task(7, revision=2), newer])

    assert await jobs.list_tasks(JOB) == [newer]


async def test_the_last_task_stays_when_one_turn_writes_many_at_once(jobs: ports.Jobs) -> None:
    """Writes of one process keep their order, alone or together with the job."""
    job = await begun(jobs)
    await jobs.add_tasks(job, [values.task(5)])

    written = await asyncio.gather(
        *(jobs.write_tasks(job, [values.task(5, revision=number)]) for number in range(2, 6)),
        jobs.save(job, dataclasses.replace(job, attempts=1), [values.task(5, revision=6)]),
        *(jobs.write_tasks(job, [values.task(5, revision=number)]) for number in range(7, 10)),
        jobs.save(job, dataclasses.replace(job, attempts=2)),
    )

    assert written == [True] * 9
    found = await jobs.load(JOB)
    assert found == (dataclasses.replace(job, attempts=2, listed=True), [values.task(5, revision=9)])


async def test_job_and_tasks_change_atomically_when_they_are_saved_together(jobs: ports.Jobs) -> None:
    """A reader sees both before or both after the save."""
    job = await begun(jobs)
    await jobs.add_tasks(job, [values.task(5), values.task(6, position=1)])
    seen = set()

    async def look() -> None:
        found = await jobs.load(JOB)
        assert found is not None
        seen.add((found[0].attempts, *(task.attempts for task in found[1])))

    for number in range(1, 6):
        tasks = [values.task(5 + place, position=place, attempts=number) for place in range(2)]
        await asyncio.gather(
            jobs.save(job, dataclasses.replace(job, attempts=number), tasks), *(look() for _ in range(5))
        )
        await look()

    assert {len(set(numbers)) for numbers in seen} == {1}


@pytest.mark.parametrize(
    ("job_state", "job_reason", "state", "reason"),
    [
        (model.JobState.CANCELLED, "CANCELLED", model.TaskState.CANCELLED, "CANCELLED"),
        (model.JobState.FAILED, "TOKEN_REFUSED", model.TaskState.FAILED, "TOKEN_REFUSED"),
        (model.JobState.SUCCEEDED_WITH_ERRORS, "", model.TaskState.FAILED, "INTERNAL"),
    ],
    ids=["cancelled", "failed", "without-a-reason"],
)
async def test_open_tasks_end_when_their_job_ends(
    jobs: ports.Jobs, job_state: model.JobState, job_reason: str, state: model.TaskState, reason: str
) -> None:
    """With the job's reason and a greater revision; an ended task stays unchanged."""
    job = await begun(jobs)
    revision = job_updates.revision_of(1, 700)
    ended_before = values.task(5, state=model.TaskState.SKIPPED, reason="MUTED", revision=revision)
    open_tasks = [
        values.task(6, position=1, state=model.TaskState.QUEUED, retry_at=NOW + 5, attempts=2, revision=revision),
        values.task(7, position=2, state=model.TaskState.RUNNING, step=model.Step.ROLES, channel_count=4),
    ]
    await jobs.add_tasks(job, [ended_before, *open_tasks])

    over = dataclasses.replace(job, listed=True, state=job_state, reason=job_reason, finished_at=NOW + 9)
    assert await jobs.save(job, over)

    found = await jobs.list_tasks(JOB)
    assert found[0] == ended_before
    assert [dataclasses.replace(task, revision=0) for task in found[1:]] == [
        dataclasses.replace(task, state=state, reason=reason, retry_at=0.0, revision=0) for task in open_tasks
    ]
    assert all(revision < task.revision < job_updates.revision_of(2, 0) for task in found[1:])
    assert await jobs.load(JOB) == (over, found)
    assert await jobs.list_for_user(values.USER, before=NOW + 99, limit=1) == [(over, found)]
    assert await jobs.begin_turn(JOB, 1, now=NOW, until=NOW + 40) is None


async def test_tasks_of_jobs_stay_apart_when_both_have_the_same_guild(jobs: ports.Jobs) -> None:
    """A guild has a task in each job."""
    job = await begun(jobs)
    other, _ = await jobs.create_or_join(values.job(OTHER, user_id=values.USER + 1))
    await jobs.add_tasks(job, [values.task(5)])
    await jobs.add_tasks(other, [values.task(5)])

    await jobs.write_tasks(other, [values.task(5, revision=50)])

    assert [row.revision for row in await jobs.list_tasks(JOB)] == [1]
    assert [row.revision for row in await jobs.list_tasks(OTHER)] == [50]


async def test_a_job_is_overdue_when_its_due_time_is_from_before_the_clock_was_set_back(jobs: ports.Jobs) -> None:
    """Otherwise it would stand still until then."""
    await jobs.create_or_join(values.job(JOB, user_id=8, next_turn_at=NOW + 3_700))
    await jobs.create_or_join(values.job(OTHER, user_id=9, next_turn_at=NOW + 3_500))

    assert [job.job_id for job in await jobs.list_overdue(NOW, 10)] == [JOB]
    assert await jobs.list_overdue(NOW, 0) == []


async def test_late_jobs_are_found_when_their_next_turn_is_overdue(jobs: ports.Jobs) -> None:
    """Most overdue first, up to the limit; neither jobs that are not due nor ended ones."""
    late = [
        (await jobs.create_or_join(values.job(f"{number:032x}", user_id=number, next_turn_at=NOW - number)))[0]
        for number in (1, 3, 2)
    ]
    await jobs.create_or_join(values.job(JOB, user_id=8, next_turn_at=NOW))
    await ended(jobs, OTHER, user_id=9, next_turn_at=NOW - 100)

    found = await jobs.list_overdue(NOW, 10)
    first = await jobs.list_overdue(NOW, 2)

    assert found == [late[1], late[2], late[0]]
    assert first == found[:2]


async def test_a_turn_owns_its_job_longer_when_a_result_extends_it(jobs: ports.Jobs) -> None:
    """The sweeper looks for jobs whose turn is overdue; a later turn cannot be extended by an earlier one."""
    job = await begun(jobs)
    await jobs.add_tasks(job, [values.task(5)])

    assert await jobs.write_tasks(job, [values.task(5, revision=2)], owned_until=NOW + 90)

    assert await jobs.list_overdue(NOW + 80, 10) == []
    assert [late.job_id for late in await jobs.list_overdue(NOW + 91, 10)] == [JOB]
    await next_turn(jobs, 1)
    assert not await jobs.write_tasks(job, [values.task(5, revision=3)], owned_until=NOW + 900)
    assert [late.job_id for late in await jobs.list_overdue(NOW + 91, 10)] == [JOB]


async def test_callers_are_stored_once_when_several_ask_for_a_job(jobs: ports.Jobs) -> None:
    """Also at the same time; at most eight of them, so that no job grows without limit."""
    await jobs.create_or_join(values.job(JOB, callers=("a",)))

    await asyncio.gather(*(jobs.add_caller(JOB, name) for name in ("b", "b", "a", "c")))
    few = await jobs.get(JOB)
    for number in range(20):
        await jobs.add_caller(JOB, f"caller-{number}")
    many = await jobs.get(JOB)

    assert few is not None
    assert many is not None
    assert sorted(few.callers) == ["a", "b", "c"]
    assert (len(many.callers), many.callers[:3]) == (8, few.callers)


async def test_a_caller_stays_when_the_owner_saves_an_older_copy(jobs: ports.Jobs) -> None:
    """It asked for the job while a turn ran."""
    owned = await begun(jobs, callers=("a",))
    await jobs.add_caller(JOB, "b")

    again = await begun_again(jobs, owned, dataclasses.replace(owned, waiting_for="user"))

    assert again.callers == ("a", "b")


async def test_no_caller_is_added_when_the_job_has_ended_or_is_unknown(jobs: ports.Jobs) -> None:
    """What has ended has no turn left to share."""
    over = await ended(jobs, JOB)

    for job_id in (JOB, OTHER):
        await jobs.add_caller(job_id, "late")

    assert await jobs.get(JOB) == over
    assert await jobs.get(OTHER) is None
