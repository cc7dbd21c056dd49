"""Progress updates of jobs: published by any process, followed from any position, coalesced, losable."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from indexing import concurrency
from indexing.domain import job_updates, model, ports
from indexing.messaging import events as redis_events
from indexing.messaging import feed, redis_client
from tests import fake_backend, values

JOB = values.job(listed=True)
OTHER = values.job("b" * 32)
PATIENCE = 20.0
"""Seconds until a test gives up on an update; none of them takes that long."""
AT_ONCE = 0.01
FIRST = "0-0"


@dataclasses.dataclass(frozen=True, slots=True)
class Bus:
    """Events with what the test does to the server behind them."""

    events: ports.Events
    flush: Callable[[], Awaitable[object]]


@pytest.fixture(params=["memory", "redis"])
async def bus(request: pytest.FixtureRequest) -> AsyncIterator[Bus]:
    """Events without any update, being read."""
    if request.param == "memory":
        memory = fake_backend.MemoryEvents()

        async def flush() -> None:
            memory.flush()

        yield Bus(memory, flush)
        return
    async with redis_client.open_redis(request.getfixturevalue("redis_settings")) as client:
        events = redis_events.RedisEvents(client)
        async with concurrency.background_tasks(events=events.relay_updates):
            yield Bus(events, client.flushdb)
        await events.close()


def update(*guild_ids: int, revision: int = 1, job: model.Job = JOB) -> job_updates.JobUpdate:
    """Return an update that changes some rows."""
    rows = tuple(values.task(guild_id, revision=revision) for guild_id in guild_ids)
    return job_updates.JobUpdate(job, job_updates.tally_of(rows), rows)


async def following(subscription: ports.Subscription, position: str) -> list[job_updates.JobUpdate]:
    """Return the updates that a watcher gets until it has reached *position*."""
    told: list[job_updates.JobUpdate] = []
    while not told or told[-1].position != position:
        news = await subscription.next(PATIENCE)
        assert news is not None
        told.append(news)
    return told


def revisions(told: list[job_updates.JobUpdate]) -> dict[int, int]:
    """Return the latest revision of each guild in the updates."""
    return {unit.guild_id: unit.revision for news in told for unit in news.tasks}


async def test_a_watcher_gets_the_whole_update_when_one_is_published(bus: Bus) -> None:
    """Job, tally and tasks arrive unchanged, with the position to resume from."""
    watcher = await bus.events.subscribe(JOB.job_id, FIRST)
    rows = (values.task(1, name="größer 🎉", channel_count=None), values.task(2, retry_at=7.25, reason="X"))
    published = job_updates.JobUpdate(
        dataclasses.replace(JOB, waiting_for="user", waiting_until=8.5), job_updates.Tally(2, 2), rows
    )

    await bus.events.publish(published)

    told = await watcher.next(PATIENCE)
    assert told is not None
    assert told.position == await bus.events.get_last_position(JOB.job_id) != FIRST
    assert dataclasses.replace(told, position="") == published


async def test_every_watcher_gets_an_update_when_there_are_several(bus: Bus) -> None:
    """Each watcher has its own position: a read of one takes nothing from another."""
    watchers = [await bus.events.subscribe(JOB.job_id, FIRST) for _ in range(3)]

    await bus.events.publish(update(1))

    told = [await watcher.next(PATIENCE) for watcher in watchers]
    assert [revisions([news]) for news in told if news is not None] == [{1: 1}] * 3


async def test_retained_positions_are_listed_together_when_streams_may_be_lost(bus: Bus) -> None:
    """Each position is checked in its own stream; a missing stream retains nothing."""
    await bus.events.publish(update(1))
    await bus.events.publish(update(1, job=OTHER))
    held = {
        (JOB.job_id, await bus.events.get_last_position(JOB.job_id)),
        (OTHER.job_id, await bus.events.get_last_position(OTHER.job_id)),
    }
    lost = {(JOB.job_id, FIRST), ("c" * 32, FIRST), ("c" * 32, "5-0")}

    assert await bus.events.list_retained([*held, *lost]) == held


async def test_updated_jobs_are_listed_without_a_watcher_when_positions_are_compared(bus: Bus) -> None:
    """For several jobs at once. A lost stream has no updates until its next one."""
    third = values.job("c" * 32)
    await bus.events.publish(update(1))
    await bus.events.publish(update(1, job=OTHER))
    places = {job.job_id: await bus.events.get_last_position(job.job_id) for job in (JOB, OTHER, third)}
    before = await bus.events.list_updated(places)

    await bus.events.publish(update(2, job=OTHER))
    await bus.events.publish(update(1, job=third))
    after = await bus.events.list_updated(places)
    await bus.flush()
    lost = await bus.events.list_updated(places)
    await bus.events.publish(update(3))

    assert (before, after, lost) == (set(), {OTHER.job_id, third.job_id}, set())
    assert await bus.events.list_updated(places) == {JOB.job_id}


async def test_next_returns_none_when_nothing_happens_within_the_wait(bus: Bus) -> None:
    """Updates of other jobs do not count."""
    watcher = await bus.events.subscribe(JOB.job_id, FIRST)
    other = await bus.events.subscribe(OTHER.job_id, FIRST)

    await bus.events.publish(update(1, job=OTHER))

    assert await other.next(PATIENCE) is not None
    assert await watcher.next(AT_ONCE) is None


async def test_no_update_is_repeated_when_a_watcher_reads_again(bus: Bus) -> None:
    """The second call returns only the changes since the first."""
    watcher = await bus.events.subscribe(JOB.job_id, FIRST)
    await bus.events.publish(update(1))
    await watcher.next(PATIENCE)

    await bus.events.publish(update(2))

    told = await watcher.next(PATIENCE)
    assert told is not None
    assert revisions([told]) == {2: 1}
    assert await watcher.next(AT_ONCE) is None


async def test_a_slow_watcher_gets_the_latest_tasks_when_many_updates_passed(bus: Bus) -> None:
    """Each guild task occurs once, in its current state, together with the job's current state."""
    slow = await bus.events.subscribe(JOB.job_id, FIRST)
    quick = await bus.events.subscribe(JOB.job_id, FIRST)
    for revision in range(1, 51):
        job = dataclasses.replace(JOB, attempts=revision)
        await bus.events.publish(update(1, 2 if revision % 2 else 3, revision=revision, job=job))
    last = await bus.events.get_last_position(JOB.job_id)
    await following(quick, last)

    told = await slow.next(PATIENCE)

    assert told is not None
    assert told.position == last
    assert told.job.attempts == 50
    assert sorted((unit.guild_id, unit.revision) for unit in told.tasks) == [(1, 50), (2, 49), (3, 50)]


async def test_an_older_task_is_dropped_when_a_newer_one_was_published_before_it(bus: Bus) -> None:
    """The greater revision wins in any order: the stale owner of a job may still publish."""
    slow = await bus.events.subscribe(JOB.job_id, FIRST)
    quick = await bus.events.subscribe(JOB.job_id, FIRST)
    await bus.events.publish(update(1, revision=9))
    await bus.events.publish(update(1, revision=4))
    await following(quick, await bus.events.get_last_position(JOB.job_id))

    told = await slow.next(PATIENCE)

    assert told is not None
    assert revisions([told]) == {1: 9}


@pytest.mark.parametrize("end", [model.JobState.CANCELLED, model.JobState.RUNNING], ids=["ended", "next-turn"])
async def test_the_latest_turn_decides_the_job_when_an_earlier_turn_publishes_late(
    bus: Bus, end: model.JobState
) -> None:
    """Newer tasks of a turn that lost its job count; its state of the job does not."""
    slow = await bus.events.subscribe(JOB.job_id, FIRST)
    quick = await bus.events.subscribe(JOB.job_id, FIRST)
    later = dataclasses.replace(JOB, turn=JOB.turn + 1, state=end, waiting_for="user")
    await bus.events.publish(update(1, 2, revision=9, job=later))
    await bus.events.publish(update(3, revision=4))
    await following(quick, await bus.events.get_last_position(JOB.job_id))

    told = await slow.next(PATIENCE)

    assert told is not None
    assert (told.job, told.tally.total) == (later, 2)
    assert revisions([told]) == {1: 9, 2: 9, 3: 4}


async def test_a_watcher_misses_nothing_when_it_resumes_from_a_position(bus: Bus) -> None:
    """It gets every update after the position and none before."""
    await bus.events.publish(update(1))
    position = await bus.events.get_last_position(JOB.job_id)
    await bus.events.publish(update(2))
    await bus.events.publish(update(3))

    watcher = await bus.events.subscribe(JOB.job_id, position)

    told = await following(watcher, await bus.events.get_last_position(JOB.job_id))
    assert revisions(told) == {2: 1, 3: 1}


async def test_a_late_watcher_gets_past_updates_when_another_one_is_at_the_end(bus: Bus) -> None:
    """It gets them at once although nothing new is published; the other watcher gets nothing."""
    await bus.events.publish(update(1))
    position = await bus.events.get_last_position(JOB.job_id)
    await bus.events.publish(update(2))
    last = await bus.events.get_last_position(JOB.job_id)
    early = await bus.events.subscribe(JOB.job_id, last)

    late = await bus.events.subscribe(JOB.job_id, position)

    assert revisions(await following(late, last)) == {2: 1}
    assert await early.next(AT_ONCE) is None


async def test_a_late_watcher_gets_past_and_new_updates_when_more_is_published(bus: Bus) -> None:
    """A guild that changed before and after occurs in its latest state."""
    await bus.events.publish(update(1, 2))
    early = await bus.events.subscribe(JOB.job_id, await bus.events.get_last_position(JOB.job_id))
    await bus.events.publish(update(2, 3, revision=2))
    await following(early, await bus.events.get_last_position(JOB.job_id))

    late = await bus.events.subscribe(JOB.job_id, FIRST)
    await bus.events.publish(update(3, revision=3))

    told = await following(late, await bus.events.get_last_position(JOB.job_id))
    assert revisions(told) == {1: 1, 2: 2, 3: 3}


async def test_late_watchers_get_their_own_past_when_they_subscribe_at_once(bus: Bus) -> None:
    """Each from its own position, independently of the other."""
    await bus.events.publish(update(1))
    position = await bus.events.get_last_position(JOB.job_id)
    await bus.events.publish(update(2))
    await bus.events.publish(update(3))
    last = await bus.events.get_last_position(JOB.job_id)
    await bus.events.subscribe(JOB.job_id, last)

    watchers = await asyncio.gather(*(bus.events.subscribe(JOB.job_id, after) for after in (FIRST, position, FIRST)))

    told = [revisions(await following(watcher, last)) for watcher in watchers]
    assert told == [{1: 1, 2: 1, 3: 1}, {2: 1, 3: 1}, {1: 1, 2: 1, 3: 1}]


async def test_a_late_watcher_gets_no_older_task_when_a_newer_one_was_published_first(bus: Bus) -> None:
    """The greater revision wins among past updates and across later ones."""
    await bus.events.publish(update(1, revision=9))
    await bus.events.publish(update(2, revision=9))
    await bus.events.publish(update(2, revision=4))
    early = await bus.events.subscribe(JOB.job_id, await bus.events.get_last_position(JOB.job_id))
    await bus.events.publish(update(1, revision=4))
    await following(early, await bus.events.get_last_position(JOB.job_id))

    late = await bus.events.subscribe(JOB.job_id, FIRST)

    told = await following(late, await bus.events.get_last_position(JOB.job_id))
    assert revisions(told) == {1: 9, 2: 9}


async def test_a_new_watcher_gets_updates_when_all_earlier_ones_have_left(bus: Bus) -> None:
    """The process does not use what it knew of the job before."""
    first = await bus.events.subscribe(JOB.job_id, FIRST)
    await bus.events.publish(update(1))
    await first.next(PATIENCE)
    await first.close()
    await bus.events.publish(update(2))

    second = await bus.events.subscribe(JOB.job_id, FIRST)

    told = await following(second, await bus.events.get_last_position(JOB.job_id))
    assert revisions(told) == {1: 1, 2: 1}


async def test_the_last_position_is_the_start_when_nothing_was_published(bus: Bus) -> None:
    """A subscription from there gets every update."""
    assert await bus.events.get_last_position(JOB.job_id) == FIRST
    assert not await bus.events.has_all_since(JOB.job_id, FIRST)


async def test_a_position_is_retained_when_everything_after_it_is_there(bus: Bus) -> None:
    """From the first update on; before it, updates may be missing."""
    await bus.events.publish(update(1))
    first = await bus.events.get_last_position(JOB.job_id)
    await bus.events.publish(update(2))
    last = await bus.events.get_last_position(JOB.job_id)

    held = [await bus.events.has_all_since(JOB.job_id, position) for position in (FIRST, first, last)]

    assert held == [False, True, True]
    assert not await bus.events.has_all_since(OTHER.job_id, last)


async def test_a_position_is_lost_when_the_server_lost_its_data(bus: Bus) -> None:
    """Both while the stream is empty and after new updates."""
    await bus.events.publish(update(1))
    position = await bus.events.get_last_position(JOB.job_id)

    await bus.flush()
    empty = await bus.events.has_all_since(JOB.job_id, position)
    # Redis names updates by the millisecond: in the one of before the loss a new one would have the old one's name.
    while feed.parse(await bus.events.get_last_position(JOB.job_id)) <= feed.parse(position):
        await bus.flush()
        await bus.events.publish(update(2))
    going_on = await bus.events.has_all_since(JOB.job_id, position)

    assert (empty, going_on) == (False, False)


async def test_a_watcher_gets_updates_again_when_they_follow_a_loss(bus: Bus) -> None:
    """A subscription survives the server's loss of its data."""
    watcher = await bus.events.subscribe(JOB.job_id, FIRST)
    await bus.events.publish(update(1))
    await watcher.next(PATIENCE)
    before = feed.parse(await bus.events.get_last_position(JOB.job_id))
    await bus.flush()

    # Redis names updates by the millisecond: in the one of before the loss a new one would not be told from the old.
    while feed.parse(await bus.events.get_last_position(JOB.job_id)) <= before:
        await bus.events.publish(update(2))

    told = await watcher.next(PATIENCE)
    assert told is not None
    assert revisions([told]) == {2: 1}


async def test_a_new_watcher_gets_updates_when_the_server_lost_its_data_before(bus: Bus) -> None:
    """Other jobs can be followed afterwards as well."""
    watcher = await bus.events.subscribe(JOB.job_id, FIRST)
    await bus.events.publish(update(1))
    await watcher.next(PATIENCE)
    await bus.flush()
    other = await bus.events.subscribe(OTHER.job_id, FIRST)

    await bus.events.publish(update(2, job=OTHER))

    assert await other.next(PATIENCE) is not None


async def test_a_stream_is_empty_when_it_was_deleted(bus: Bus) -> None:
    """Other streams stay; deleting a missing stream does nothing."""
    await bus.events.publish(update(1))
    await bus.events.publish(update(1, job=OTHER))
    kept = await bus.events.get_last_position(OTHER.job_id)

    await bus.events.delete_streams([JOB.job_id, "c" * 32])
    await bus.events.delete_streams([])

    assert await bus.events.get_last_position(JOB.job_id) == FIRST
    assert await bus.events.get_last_position(OTHER.job_id) == kept
