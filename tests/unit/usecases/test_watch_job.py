"""Watching a job, waiting for its end, and finding jobs."""

import asyncio
import dataclasses
from collections.abc import AsyncGenerator

import pytest

from indexing import errors
from indexing.domain import job_updates, model, turns
from indexing.usecases import control_credential, control_job, watch_job
from tests import fake_backend, values

pytestmark = pytest.mark.clockwork
JOB = "a" * 32
GUILDS = [10, 20, 30]
HEARTBEAT = 15.0
Messages = list[tuple[watch_job.Message, str]]


@pytest.fixture
async def backend() -> fake_backend.FakeBackend:
    """One user in three guilds, with a job that has not begun and works on one guild at a time."""
    made = fake_backend.make(turn_width=1)
    await made.add_user([values.user_guild(guild_id) for guild_id in GUILDS])
    await made.start_job()
    return made


def options(after: str | None = None, *, leave: str = "") -> watch_job.WatchOptions:
    """Return a watcher's options."""
    return watch_job.WatchOptions(after, HEARTBEAT, lambda: leave)


async def collect(
    backend: fake_backend.FakeBackend, wanted: watch_job.WatchOptions | None = None, *, most: int = 1000
) -> Messages:
    """Return the messages of a watch until it ends, at most *most*."""
    found: Messages = []
    stream = watch_job.JobWatcher(backend.deps).watch(await backend.get_job(), wanted or options())
    async for message in stream:
        found.append(message)
        if len(found) == most:
            break
    await stream.aclose()
    return found


def kinds(messages: Messages) -> list[str]:
    """Return the kinds of messages, runs of the same kind once."""
    names = [type(message).__name__ for message, _ in messages]
    return [name for place, name in enumerate(names) if place == 0 or names[place - 1] != name]


def final(messages: Messages) -> dict[int, str]:
    """Return the states that a watcher ends up with: of each guild the row with the greatest revision."""
    rows: dict[int, model.GuildTask] = {}
    for message, _ in messages:
        units: tuple[model.GuildTask, ...] = ()
        if isinstance(message, watch_job.Snapshot):
            units = message.tasks
        if isinstance(message, watch_job.Changed):
            units = message.update.tasks
        for unit in units:
            if unit.guild_id not in rows or rows[unit.guild_id].revision <= unit.revision:
                rows[unit.guild_id] = unit
    return {guild_id: unit.state.value for guild_id, unit in rows.items()}


async def test_snapshot_changes_and_end_are_sent_when_a_job_is_watched_from_its_beginning(
    backend: fake_backend.FakeBackend,
) -> None:
    """A snapshot, changes, and how it ended; then the stream ends and nothing is left open."""
    backend.discord.latency = 1.0
    watching = asyncio.create_task(collect(backend))
    await asyncio.sleep(0.1)

    await backend.run_all_turns()
    messages = await watching

    assert kinds(messages) == ["Snapshot", "Changed", "Ended"]
    assert final(messages) == dict.fromkeys(GUILDS, "SUCCEEDED")
    last = messages[-1][0]
    assert last == watch_job.Ended(await backend.get_job(), job_updates.Tally(total=3, succeeded=3))
    assert backend.events.open == 0


async def test_the_snapshot_is_complete_when_the_job_has_ended(backend: fake_backend.FakeBackend) -> None:
    """To an ended job as well: all rows, and how it ended."""
    await backend.run_all_turns()

    messages = await collect(backend)

    rows = tuple(await backend.jobs.list_tasks(JOB))
    tally = job_updates.Tally(total=3, succeeded=3)
    job = await backend.get_job()
    assert [message for message, _ in messages] == [
        watch_job.Snapshot(job, tally, rows, ""),
        watch_job.Ended(job, tally),
    ]


async def test_nothing_falls_between_snapshot_and_changes_when_the_job_moves_meanwhile(
    backend: fake_backend.FakeBackend,
) -> None:
    """Changes after the subscription are sent, whatever the snapshot contained."""
    stream = watch_job.JobWatcher(backend.deps).watch(await backend.get_job(), options())
    first = await anext(stream)

    await backend.run_all_turns()
    messages = [first, *[message async for message in stream]]

    assert final(messages) == dict.fromkeys(GUILDS, "SUCCEEDED")


async def test_only_newer_rows_are_sent_when_a_watcher_resumes(backend: fake_backend.FakeBackend) -> None:
    """From the given position, without a snapshot."""
    await backend.turn_runner.run_turn(turns.Turn(JOB, 0), backend.turn_limits(first=1))
    (_, position), *_ = await collect(backend, most=1)
    await backend.turn_runner.run_turn(turns.Turn(JOB, 1), backend.turn_limits(first=1))

    messages = await collect(backend, options(position), most=1)

    assert kinds(messages) == ["Changed"]
    assert final(messages) == {20: "SUCCEEDED"}


async def test_nothing_is_missed_when_the_job_has_ended_before_a_watcher_resumes(
    backend: fake_backend.FakeBackend,
) -> None:
    """No change follows, so the watcher gets a snapshot of the end."""
    await backend.turn_runner.run_turn(turns.Turn(JOB, 0), backend.turn_limits(first=1))
    before = await collect(backend, most=1)
    await backend.run_all_turns()

    messages = await collect(backend, options(before[-1][1]))

    assert kinds(messages) == ["Snapshot", "Ended"]
    assert final(messages) == dict.fromkeys(GUILDS, "SUCCEEDED")


async def test_a_change_of_the_job_is_marked_when_its_own_fields_change(backend: fake_backend.FakeBackend) -> None:
    """Only then to a continuous watcher; with the first update to one that resumes and may have missed it."""
    await backend.turn_runner.run_turn(turns.Turn(JOB, 0), backend.turn_limits(first=1))
    (_, position), *_ = await collect(backend, most=1)
    watching = asyncio.create_task(collect(backend, most=4))
    await asyncio.sleep(0.1)
    backend.discord.fail(30, errors.RateLimited("user", retry_after=5.0, why="used up"))
    await backend.turn_runner.run_turn(turns.Turn(JOB, 1), backend.turn_limits(first=2))

    resumed = await collect(backend, options(position), most=1)

    changes = [message for message, _ in await watching if isinstance(message, watch_job.Changed)]
    assert [(change.job_changed, change.update.job.waiting_for) for change in changes] == [
        (False, ""),
        (False, ""),
        (True, "user"),
    ]
    assert [message.job_changed for message, _ in resumed if isinstance(message, watch_job.Changed)] == [True]


async def test_silent_watchers_are_checked_together_when_nothing_happens(
    backend: fake_backend.FakeBackend,
) -> None:
    """One question to the store for all of them, not one each."""
    await backend.turn_runner.run_turn(turns.Turn(JOB, 0), backend.turn_limits(first=1))
    case = watch_job.JobWatcher(backend.deps)
    streams = [case.watch(await backend.get_job(), options()) for _ in range(20)]

    messages = await asyncio.gather(*(_some(stream, 3) for stream in streams))

    assert {tuple(kind) for kind in messages} == {("Snapshot", "Heartbeat", "Heartbeat")}
    assert backend.jobs.questions == 2


async def _some(stream: AsyncGenerator[tuple[watch_job.Message, str], None], most: int) -> list[str]:
    """Return the kinds of the stream's first messages."""
    found = [type((await anext(stream))[0]).__name__ for _ in range(most)]
    await stream.aclose()
    return found


async def test_every_position_can_be_resumed_from_when_a_stream_breaks(backend: fake_backend.FakeBackend) -> None:
    """Wherever it broke: together, both parts tell everything."""
    backend.discord.latency = 1.0
    watching = asyncio.create_task(collect(backend))
    resumed: list[tuple[Messages, asyncio.Task[Messages]]] = []

    async def resuming() -> None:
        stream = watch_job.JobWatcher(backend.deps).watch(await backend.get_job(), options())
        messages: Messages = []
        async for message in stream:
            messages.append(message)
            resumed.append((list(messages), asyncio.create_task(collect(backend, options(message[1])))))

    breaking = asyncio.create_task(resuming())
    await asyncio.sleep(0.1)
    await backend.run_all_turns()
    await asyncio.gather(watching, breaking)

    assert len(resumed) > 6
    for before, after in resumed:
        messages = await after
        assert final(before + messages) == final(await watching) == dict.fromkeys(GUILDS, "SUCCEEDED")
        assert kinds(messages)[-1] == "Ended"


@pytest.mark.parametrize(("lost", "reason"), [("0-0", ""), ("1-0", "TOKEN_TOO_OLD")], ids=["first", "flushed"])
async def test_a_snapshot_is_sent_when_the_position_is_lost(
    backend: fake_backend.FakeBackend, lost: str, reason: str
) -> None:
    """In the same stream, not as an error; with a reason if the watcher had seen updates."""
    await backend.turn_runner.run_turn(turns.Turn(JOB, 0), backend.turn_limits(first=1))
    backend.events.flush()
    await backend.run_all_turns()

    messages = await collect(backend, options(lost))

    first = messages[0][0]
    assert isinstance(first, watch_job.Snapshot)
    assert first.reason == reason
    assert final(messages) == dict.fromkeys(GUILDS, "SUCCEEDED")


async def test_heartbeats_are_sent_when_nothing_happens(backend: fake_backend.FakeBackend) -> None:
    """One for each heartbeat, at its time."""
    began = backend.clock()

    messages = await collect(backend, most=4)

    assert kinds(messages) == ["Snapshot", "Heartbeat"]
    times = [message.at - began for message, _ in messages if isinstance(message, watch_job.Heartbeat)]
    assert times == pytest.approx([HEARTBEAT, 2 * HEARTBEAT, 3 * HEARTBEAT])


async def test_a_snapshot_is_sent_when_the_events_are_lost(backend: fake_backend.FakeBackend) -> None:
    """The watcher gets all rows from the store, with the reason."""
    await backend.turn_runner.run_turn(turns.Turn(JOB, 0), backend.turn_limits(first=1))
    stream = watch_job.JobWatcher(backend.deps).watch(await backend.get_job(), options())
    await anext(stream)
    backend.events.away = True
    await backend.turn_runner.run_turn(turns.Turn(JOB, 1), backend.turn_limits(first=1))

    backend.events.flush()
    backend.events.away = False
    message, _ = await anext(stream)
    await stream.aclose()

    assert isinstance(message, watch_job.Snapshot)
    assert message.reason == watch_job.EVENTS_LOST
    assert list(message.tasks) == await backend.jobs.list_tasks(JOB)


async def test_the_end_is_sent_when_its_event_was_lost(backend: fake_backend.FakeBackend) -> None:
    """At the next heartbeat the store is asked."""
    await backend.turn_runner.run_turn(turns.Turn(JOB, 0), backend.turn_limits(first=1))
    watching = asyncio.create_task(collect(backend))
    await asyncio.sleep(1.0)
    backend.events.away = True
    await backend.run_all_turns()
    backend.events.away = False

    messages = await watching

    assert kinds(messages) == ["Snapshot", "Ended"]
    assert final(messages) == dict.fromkeys(GUILDS, "SUCCEEDED")


async def test_the_watcher_is_disconnected_when_the_process_wants_to_end(backend: fake_backend.FakeBackend) -> None:
    """At the next silence, with the reason and the position to resume from elsewhere."""
    await backend.turn_runner.run_turn(turns.Turn(JOB, 0), backend.turn_limits(first=1))

    messages = await collect(backend, options(leave="DRAINING"))

    assert [message for message, _ in messages[1:]] == [watch_job.Disconnecting("DRAINING")]
    assert messages[-1][1] == messages[0][1]
    assert backend.events.open == 0


async def test_the_watcher_is_disconnected_when_the_job_is_never_silent(backend: fake_backend.FakeBackend) -> None:
    """After an update, because there may be no silence before the process must end."""
    backend.discord.latency = 1.0
    watching = asyncio.create_task(collect(backend, options(leave="MAX_AGE")))
    await asyncio.sleep(0.1)

    await backend.run_all_turns()

    messages = await watching
    assert kinds(messages) == ["Snapshot", "Changed", "Disconnecting"]
    assert (messages[-1][1], messages[-1][0]) == (messages[-2][1], watch_job.Disconnecting("MAX_AGE"))


async def test_the_job_does_not_care_when_a_watcher_leaves(backend: fake_backend.FakeBackend) -> None:
    """Nothing is left open, and the job goes on."""
    await collect(backend, most=1)

    await backend.run_all_turns()

    assert backend.events.open == 0
    assert (await backend.get_job()).state is model.JobState.SUCCEEDED


async def test_every_watcher_sees_the_same_when_several_watch(backend: fake_backend.FakeBackend) -> None:
    """One that came in the middle included."""
    backend.discord.latency = 1.0
    early = asyncio.create_task(collect(backend))
    working = asyncio.create_task(backend.run_all_turns())
    await asyncio.sleep(3.5)
    late = asyncio.create_task(collect(backend))

    await working

    assert final(await early) == final(await late) == dict.fromkeys(GUILDS, "SUCCEEDED")


async def test_a_job_is_found_when_it_is_named_by_id_or_user(backend: fake_backend.FakeBackend) -> None:
    """By user it is the active one."""
    case = watch_job.JobWatcher(backend.deps)

    found = [await case.find_job(job_id=JOB), await case.find_job(user_id=values.USER)]

    assert found == [await backend.get_job()] * 2


async def test_job_not_found_is_raised_when_the_job_is_unknown() -> None:
    """By id or by a user without jobs."""
    case = watch_job.JobWatcher(fake_backend.make().deps)

    with pytest.raises(errors.JobNotFound):
        await case.find_job(job_id=JOB)
    with pytest.raises(errors.JobNotFound):
        await case.find_job(user_id=values.USER)


async def test_the_wait_ends_when_the_job_ends(backend: fake_backend.FakeBackend) -> None:
    """Not later, and with the job as it ended."""
    waiting = asyncio.create_task(watch_job.JobWatcher(backend.deps).wait_until_ended(await backend.get_job(), 60.0))
    await asyncio.sleep(2.0)
    began = backend.clock()

    ended = await control_job.JobControl(backend.deps, backend.config).cancel(JOB)

    assert await waiting == ended
    assert backend.clock() == began
    assert backend.events.open == 0


@pytest.mark.parametrize("wait", [0.0, 7.5])
async def test_the_wait_is_over_in_time_when_the_job_goes_on(backend: fake_backend.FakeBackend, wait: float) -> None:
    """With the job as it is then."""
    began = backend.clock()

    job = await watch_job.JobWatcher(backend.deps).wait_until_ended(await backend.get_job(), wait)

    assert backend.clock() - began == pytest.approx(wait)
    assert job == await backend.get_job()


async def test_there_is_no_wait_when_the_job_has_ended(backend: fake_backend.FakeBackend) -> None:
    """It is returned at once."""
    await backend.run_all_turns()
    began = backend.clock()

    job = await watch_job.JobWatcher(backend.deps).wait_until_ended(await backend.get_job(), 60.0)

    assert (job.state, backend.clock()) == (model.JobState.SUCCEEDED, began)


async def test_jobs_are_listed_with_their_numbers_when_a_user_asks(backend: fake_backend.FakeBackend) -> None:
    """Newest first."""
    await backend.run_all_turns()
    backend.clock.advance(100)
    await backend.start_job("b" * 32)

    found = await watch_job.JobWatcher(backend.deps).list_jobs(values.USER, before=float("inf"), limit=5)

    assert [(job.job_id[0], tally) for job, tally in found] == [
        ("b", job_updates.Tally()),
        ("a", job_updates.Tally(total=3, succeeded=3)),
    ]


async def test_counts_add_up_when_tasks_are_counted() -> None:
    """Each task counts once; open tasks are those that still need work."""
    rows = [values.task(place, state=state) for place, state in enumerate([*model.TaskState, model.TaskState.QUEUED])]

    tally = job_updates.tally_of(rows)

    assert tally.total == sum(dataclasses.astuple(tally)[1:]) == 7
    assert (tally.queued, tally.open) == (2, 3)


async def test_a_snapshot_names_no_guild_when_the_users_consent_has_ended(backend: fake_backend.FakeBackend) -> None:
    """Neither one of the ended job, nor the last update of a stream that was open."""
    await backend.turn_runner.run_turn(turns.Turn(JOB, 0), backend.turn_limits(first=1))
    stream = watch_job.JobWatcher(backend.deps).watch(await backend.get_job(), options())
    first, _ = await anext(stream)
    await control_credential.CredentialControl(
        backend.deps, backend.config, backend.metrics, control_job.JobControl(backend.deps, backend.config)
    ).revoke(values.USER)

    rest = [message async for message, _ in stream]
    later = await collect(backend)

    assert isinstance(first, watch_job.Snapshot)
    assert len(first.tasks) == len(GUILDS)
    assert [
        task.name for message in rest if isinstance(message, watch_job.Changed) for task in message.update.tasks
    ] == [""] * len(GUILDS)
    assert [message.tasks for message, _ in later if isinstance(message, watch_job.Snapshot)] == [()]
