"""What a watcher of a job is told."""

import asyncio
import dataclasses
from collections.abc import AsyncGenerator

import pytest

from indexing import errors
from indexing.domain import model, turns
from indexing.usecases import control_job, watch_job
from tests import values, worlds

pytestmark = pytest.mark.clockwork
JOB = "a" * 32
GUILDS = [10, 20, 30]
HEARTBEAT = 15.0
Told = list[tuple[watch_job.Message, str]]


@pytest.fixture
async def world() -> worlds.World:
    """One user in three guilds, with a job that has not begun and works on one guild at a time."""
    made = worlds.world(turn_width=1)
    await made.add_user([values.user_guild(guild_id) for guild_id in GUILDS])
    await made.start()
    return made


def terms(after: str | None = None, *, leave: str = "") -> watch_job.WatchOptions:
    """Return a watcher's terms."""
    return watch_job.WatchOptions(after, HEARTBEAT, lambda: leave)


async def watched(world: worlds.World, wanted: watch_job.WatchOptions | None = None, *, most: int = 1000) -> Told:
    """Return what a watcher is told until the stream ends, or he has heard enough."""
    found: Told = []
    stream = watch_job.JobWatcher(world.ports).watch(await world.job(), wanted or terms())
    async for told in stream:
        found.append(told)
        if len(found) == most:
            break
    await stream.aclose()
    return found


def kinds(told: Told) -> list[str]:
    """Return the kinds of messages, runs of the same kind once."""
    names = [type(message).__name__ for message, _ in told]
    return [name for place, name in enumerate(names) if place == 0 or names[place - 1] != name]


def final(told: Told) -> dict[int, str]:
    """Return the states that a watcher ends up with: of each guild the row with the greatest revision."""
    rows: dict[int, model.GuildTask] = {}
    for message, _ in told:
        units: tuple[model.GuildTask, ...] = ()
        if isinstance(message, watch_job.Snapshot):
            units = message.tasks
        if isinstance(message, watch_job.Changed):
            units = message.update.tasks
        for unit in units:
            if unit.guild_id not in rows or rows[unit.guild_id].revision <= unit.revision:
                rows[unit.guild_id] = unit
    return {guild_id: unit.state.value for guild_id, unit in rows.items()}


async def test_everything_is_told_when_a_job_is_watched_from_its_beginning(world: worlds.World) -> None:
    """A snapshot, changes, and how it ended; then the stream ends and nothing is left open."""
    world.discord.latency = 1.0
    watching = asyncio.create_task(watched(world))
    await asyncio.sleep(0.1)

    await world.work()
    told = await watching

    assert kinds(told) == ["Snapshot", "Changed", "Ended"]
    assert final(told) == dict.fromkeys(GUILDS, "SUCCEEDED")
    last = told[-1][0]
    assert last == watch_job.Ended(await world.job(), model.Tally(total=3, succeeded=3))
    assert world.events.open == 0


async def test_the_snapshot_says_all_when_a_watcher_comes_late(world: worlds.World) -> None:
    """To an ended job as well: all rows, and how it ended."""
    await world.work()

    told = await watched(world)

    rows = tuple(await world.jobs.list_tasks(JOB))
    tally = model.Tally(total=3, succeeded=3)
    job = await world.job()
    assert [message for message, _ in told] == [watch_job.Snapshot(job, tally, rows, ""), watch_job.Ended(job, tally)]


async def test_nothing_falls_between_snapshot_and_changes_when_the_job_moves_meanwhile(world: worlds.World) -> None:
    """What changes after the watcher has begun to listen is told, whatever the snapshot already had."""
    stream = watch_job.JobWatcher(world.ports).watch(await world.job(), terms())
    first = await anext(stream)

    await world.work()
    told = [first, *[message async for message in stream]]

    assert final(told) == dict.fromkeys(GUILDS, "SUCCEEDED")


async def test_only_news_are_told_when_a_watcher_resumes(world: worlds.World) -> None:
    """From the position he was given, without a snapshot."""
    await world.turner.run_turn(turns.Turn(JOB, 0), world.limits(first=1))
    (_, position), *_ = await watched(world, most=1)
    await world.turner.run_turn(turns.Turn(JOB, 1), world.limits(first=1))

    told = await watched(world, terms(position), most=1)

    assert kinds(told) == ["Changed"]
    assert final(told) == {20: "SUCCEEDED"}


async def test_nothing_is_missed_when_the_job_has_ended_before_a_watcher_resumes(world: worlds.World) -> None:
    """No change will follow, so he is told how everything ended."""
    await world.turner.run_turn(turns.Turn(JOB, 0), world.limits(first=1))
    before = await watched(world, most=1)
    await world.work()

    told = await watched(world, terms(before[-1][1]))

    assert kinds(told) == ["Snapshot", "Ended"]
    assert final(told) == dict.fromkeys(GUILDS, "SUCCEEDED")


async def test_the_jobs_own_change_is_told_when_there_is_one(world: worlds.World) -> None:
    """To who was there all the time only then; to who resumes with his first news, for he may have missed one."""
    await world.turner.run_turn(turns.Turn(JOB, 0), world.limits(first=1))
    (_, position), *_ = await watched(world, most=1)
    watching = asyncio.create_task(watched(world, most=4))
    await asyncio.sleep(0.1)
    world.discord.fail(30, errors.RateLimited("user", retry_after=5.0, why="used up"))
    await world.turner.run_turn(turns.Turn(JOB, 1), world.limits(first=2))

    resumed = await watched(world, terms(position), most=1)

    changes = [message for message, _ in await watching if isinstance(message, watch_job.Changed)]
    assert [(change.job_changed, change.update.job.waiting_for) for change in changes] == [
        (False, ""),
        (False, ""),
        (True, "user"),
    ]
    assert [message.job_changed for message, _ in resumed if isinstance(message, watch_job.Changed)] == [True]


async def test_many_silent_watchers_are_looked_after_together_when_nothing_happens(world: worlds.World) -> None:
    """One question to the store for all of them, not one each."""
    await world.turner.run_turn(turns.Turn(JOB, 0), world.limits(first=1))
    case = watch_job.JobWatcher(world.ports)
    streams = [case.watch(await world.job(), terms()) for _ in range(20)]

    told = await asyncio.gather(*(_some(stream, 3) for stream in streams))

    assert {tuple(kind) for kind in told} == {("Snapshot", "Heartbeat", "Heartbeat")}
    assert world.jobs.questions == 2


async def _some(stream: AsyncGenerator[tuple[watch_job.Message, str], None], most: int) -> list[str]:
    """Return the kinds of the stream's first messages."""
    found = [type((await anext(stream))[0]).__name__ for _ in range(most)]
    await stream.aclose()
    return found


async def test_every_position_can_be_resumed_from_when_a_stream_breaks(world: worlds.World) -> None:
    """Wherever it broke: together, both parts tell everything."""
    world.discord.latency = 1.0
    watching = asyncio.create_task(watched(world))
    resumed: list[tuple[Told, asyncio.Task[Told]]] = []

    async def resuming() -> None:
        stream = watch_job.JobWatcher(world.ports).watch(await world.job(), terms())
        told: Told = []
        async for message in stream:
            told.append(message)
            resumed.append((list(told), asyncio.create_task(watched(world, terms(message[1])))))

    breaking = asyncio.create_task(resuming())
    await asyncio.sleep(0.1)
    await world.work()
    await asyncio.gather(watching, breaking)

    assert len(resumed) > 6
    for before, after in resumed:
        told = await after
        assert final(before + told) == final(await watching) == dict.fromkeys(GUILDS, "SUCCEEDED")
        assert kinds(told)[-1] == "Ended"


@pytest.mark.parametrize("lost", ["0-0", "1-0"], ids=["never-held", "flushed"])
async def test_a_new_snapshot_is_told_when_the_position_is_lost(world: worlds.World, lost: str) -> None:
    """In the same stream and with the reason, not as an error."""
    await world.turner.run_turn(turns.Turn(JOB, 0), world.limits(first=1))
    world.events.flush()
    await world.work()

    told = await watched(world, terms(lost))

    first = told[0][0]
    assert isinstance(first, watch_job.Snapshot)
    assert first.reason == watch_job.TOKEN_TOO_OLD
    assert final(told) == dict.fromkeys(GUILDS, "SUCCEEDED")


async def test_signs_of_life_are_told_when_nothing_happens(world: worlds.World) -> None:
    """One for each heartbeat, at its time."""
    began = world.clock()

    told = await watched(world, most=4)

    assert kinds(told) == ["Snapshot", "Heartbeat"]
    times = [message.at - began for message, _ in told if isinstance(message, watch_job.Heartbeat)]
    assert times == pytest.approx([HEARTBEAT, 2 * HEARTBEAT, 3 * HEARTBEAT])


async def test_silence_is_not_taken_for_peace_when_the_events_are_lost(world: worlds.World) -> None:
    """The watcher gets all rows from the store, with the reason."""
    await world.turner.run_turn(turns.Turn(JOB, 0), world.limits(first=1))
    stream = watch_job.JobWatcher(world.ports).watch(await world.job(), terms())
    await anext(stream)
    world.events.away = True
    await world.turner.run_turn(turns.Turn(JOB, 1), world.limits(first=1))

    world.events.flush()
    world.events.away = False
    message, _ = await anext(stream)
    await stream.aclose()

    assert isinstance(message, watch_job.Snapshot)
    assert message.reason == watch_job.EVENTS_LOST
    assert list(message.tasks) == await world.jobs.list_tasks(JOB)


async def test_the_end_is_told_when_its_event_was_lost(world: worlds.World) -> None:
    """At the next heartbeat the store is asked."""
    await world.turner.run_turn(turns.Turn(JOB, 0), world.limits(first=1))
    watching = asyncio.create_task(watched(world))
    await asyncio.sleep(1.0)
    world.events.away = True
    await world.work()
    world.events.away = False

    told = await watching

    assert kinds(told) == ["Snapshot", "Ended"]
    assert final(told) == dict.fromkeys(GUILDS, "SUCCEEDED")


async def test_the_watcher_is_sent_on_when_the_process_wants_to_end(world: worlds.World) -> None:
    """At his next silence, with the reason and the position to go on from elsewhere."""
    await world.turner.run_turn(turns.Turn(JOB, 0), world.limits(first=1))

    told = await watched(world, terms(leave="DRAINING"))

    assert [message for message, _ in told[1:]] == [watch_job.Disconnecting("DRAINING")]
    assert told[-1][1] == told[0][1]
    assert world.events.open == 0


async def test_the_watcher_is_sent_on_when_the_job_never_rests(world: worlds.World) -> None:
    """After the news that he gets, for there may be no silence before the process has to end."""
    world.discord.latency = 1.0
    watching = asyncio.create_task(watched(world, terms(leave="MAX_AGE")))
    await asyncio.sleep(0.1)

    await world.work()

    told = await watching
    assert kinds(told) == ["Snapshot", "Changed", "Disconnecting"]
    assert (told[-1][1], told[-1][0]) == (told[-2][1], watch_job.Disconnecting("MAX_AGE"))


async def test_the_job_does_not_care_when_a_watcher_leaves(world: worlds.World) -> None:
    """Nothing is left open, and the job goes on."""
    await watched(world, most=1)

    await world.work()

    assert world.events.open == 0
    assert (await world.job()).state is model.JobState.SUCCEEDED


async def test_every_watcher_is_told_the_same_when_several_follow(world: worlds.World) -> None:
    """One that came in the middle included."""
    world.discord.latency = 1.0
    early = asyncio.create_task(watched(world))
    working = asyncio.create_task(world.work())
    await asyncio.sleep(3.5)
    late = asyncio.create_task(watched(world))

    await working

    assert final(await early) == final(await late) == dict.fromkeys(GUILDS, "SUCCEEDED")


async def test_a_job_is_found_when_it_is_named_by_id_or_user(world: worlds.World) -> None:
    """By his user it is the active one."""
    case = watch_job.JobWatcher(world.ports)

    found = [await case.find_job(job_id=JOB), await case.find_job(user_id=values.USER)]

    assert found == [await world.job()] * 2


async def test_an_unknown_job_is_told_when_it_is_asked_for() -> None:
    """By id or by a user without jobs."""
    case = watch_job.JobWatcher(worlds.world().ports)

    with pytest.raises(errors.JobNotFound):
        await case.find_job(job_id=JOB)
    with pytest.raises(errors.JobNotFound):
        await case.find_job(user_id=values.USER)


async def test_the_wait_ends_when_the_job_ends(world: worlds.World) -> None:
    """Not later, and with the job as it ended."""
    waiting = asyncio.create_task(watch_job.JobWatcher(world.ports).wait_until_ended(await world.job(), 60.0))
    await asyncio.sleep(2.0)
    began = world.clock()

    ended = await control_job.JobControl(world.ports, world.rules).cancel(JOB)

    assert await waiting == ended
    assert world.clock() == began
    assert world.events.open == 0


@pytest.mark.parametrize("wait", [0.0, 7.5])
async def test_the_wait_is_over_in_time_when_the_job_goes_on(world: worlds.World, wait: float) -> None:
    """With the job as it is then."""
    began = world.clock()

    job = await watch_job.JobWatcher(world.ports).wait_until_ended(await world.job(), wait)

    assert world.clock() - began == pytest.approx(wait)
    assert job == await world.job()


async def test_there_is_no_wait_when_the_job_has_ended(world: worlds.World) -> None:
    """It is returned at once."""
    await world.work()
    began = world.clock()

    job = await watch_job.JobWatcher(world.ports).wait_until_ended(await world.job(), 60.0)

    assert (job.state, world.clock()) == (model.JobState.SUCCEEDED, began)


async def test_jobs_are_listed_with_their_numbers_when_a_user_asks(world: worlds.World) -> None:
    """Newest first."""
    await world.work()
    world.clock.advance(100)
    await world.start("b" * 32)

    found = await watch_job.JobWatcher(world.ports).list_jobs(values.USER, before=float("inf"), limit=5)

    assert [(job.job_id[0], tally) for job, tally in found] == [
        ("b", model.Tally()),
        ("a", model.Tally(total=3, succeeded=3)),
    ]


async def test_numbers_add_up_when_units_are_counted() -> None:
    """Each unit once, and open is what still needs work."""
    rows = [values.task(place, state=state) for place, state in enumerate([*model.TaskState, model.TaskState.QUEUED])]

    tally = model.tally_of(rows)

    assert tally.total == sum(dataclasses.astuple(tally)[1:]) == 7
    assert (tally.queued, tally.open) == (2, 3)
