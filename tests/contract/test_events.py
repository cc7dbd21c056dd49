"""Progress of jobs: published by anybody, followed from any place, conflated, and never more than what can be lost."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from indexing import concurrency
from indexing.domain import model, ports
from indexing.messaging import events as redis_events
from indexing.messaging import feed, redis_client
from tests import values, worlds

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
        memory = worlds.MemoryEvents()

        async def flush() -> None:
            memory.flush()

        yield Bus(memory, flush)
        return
    async with redis_client.open_redis(request.getfixturevalue("redis_settings")) as client:
        events = redis_events.RedisEvents(client)
        async with concurrency.background_tasks(events=events.relay_updates):
            yield Bus(events, client.flushdb)
        await events.close()


def update(*guild_ids: int, revision: int = 1, job: model.Job = JOB) -> model.JobUpdate:
    """Return an update that changes some rows."""
    rows = tuple(values.task(guild_id, revision=revision) for guild_id in guild_ids)
    return model.JobUpdate(job, model.tally_of(rows), rows)


async def following(subscription: ports.Subscription, position: str) -> list[model.JobUpdate]:
    """Return what a watcher is told until it has reached *position*."""
    told: list[model.JobUpdate] = []
    while not told or told[-1].position != position:
        news = await subscription.next(PATIENCE)
        assert news is not None
        told.append(news)
    return told


def revisions(told: list[model.JobUpdate]) -> dict[int, int]:
    """Return the latest revision of each guild that was told."""
    return {unit.guild_id: unit.revision for news in told for unit in news.tasks}


async def test_a_watcher_is_told_the_whole_update_when_one_is_published(bus: Bus) -> None:
    """Job, numbers and rows arrive as they were, with the position to go on from."""
    watcher = await bus.events.subscribe(JOB.job_id, FIRST)
    rows = (values.task(1, name="größer 🎉", channel_count=None), values.task(2, retry_at=7.25, reason="X"))
    published = model.JobUpdate(
        dataclasses.replace(JOB, waiting_for="user", waiting_until=8.5), model.Tally(2, 2), rows
    )

    await bus.events.publish(published)

    told = await watcher.next(PATIENCE)
    assert told is not None
    assert told.position == await bus.events.get_last_position(JOB.job_id) != FIRST
    assert dataclasses.replace(told, position="") == published


async def test_every_watcher_is_told_when_there_are_several(bus: Bus) -> None:
    """Each has his own place; what one has read is still there for the other."""
    watchers = [await bus.events.subscribe(JOB.job_id, FIRST) for _ in range(3)]

    await bus.events.publish(update(1))

    told = [await watcher.next(PATIENCE) for watcher in watchers]
    assert [revisions([news]) for news in told if news is not None] == [{1: 1}] * 3


async def test_several_places_are_looked_at_together_when_streams_may_be_lost(bus: Bus) -> None:
    """Each by its own stream; one that is not there holds nothing."""
    await bus.events.publish(update(1))
    await bus.events.publish(update(1, job=OTHER))
    held = {
        (JOB.job_id, await bus.events.get_last_position(JOB.job_id)),
        (OTHER.job_id, await bus.events.get_last_position(OTHER.job_id)),
    }
    lost = {(JOB.job_id, FIRST), ("c" * 32, FIRST), ("c" * 32, "5-0")}

    assert await bus.events.list_retained([*held, *lost]) == held


async def test_news_are_seen_without_a_watcher_when_positions_are_compared(bus: Bus) -> None:
    """Of several jobs at once; a stream that is lost has no news, and is heard of again with its next update."""
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


async def test_silence_is_told_when_nothing_happens_for_a_while(bus: Bus) -> None:
    """Other jobs' updates are not this job's."""
    watcher = await bus.events.subscribe(JOB.job_id, FIRST)
    other = await bus.events.subscribe(OTHER.job_id, FIRST)

    await bus.events.publish(update(1, job=OTHER))

    assert await other.next(PATIENCE) is not None
    assert await watcher.next(AT_ONCE) is None


async def test_nothing_is_told_twice_when_a_watcher_goes_on(bus: Bus) -> None:
    """The second call returns only what came after the first."""
    watcher = await bus.events.subscribe(JOB.job_id, FIRST)
    await bus.events.publish(update(1))
    await watcher.next(PATIENCE)

    await bus.events.publish(update(2))

    told = await watcher.next(PATIENCE)
    assert told is not None
    assert revisions([told]) == {2: 1}
    assert await watcher.next(AT_ONCE) is None


async def test_a_slow_watcher_gets_the_latest_rows_when_many_updates_passed(bus: Bus) -> None:
    """However many there were, each guild is told once, as it is now, together with the job as it is now."""
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


async def test_an_older_row_is_not_told_when_a_newer_one_was_published_before_it(bus: Bus) -> None:
    """The greater revision wins also when it came first: the stale owner of a job may still publish."""
    slow = await bus.events.subscribe(JOB.job_id, FIRST)
    quick = await bus.events.subscribe(JOB.job_id, FIRST)
    await bus.events.publish(update(1, revision=9))
    await bus.events.publish(update(1, revision=4))
    await following(quick, await bus.events.get_last_position(JOB.job_id))

    told = await slow.next(PATIENCE)

    assert told is not None
    assert revisions([told]) == {1: 9}


@pytest.mark.parametrize("end", [model.JobState.CANCELLED, model.JobState.RUNNING], ids=["ended", "next-turn"])
async def test_a_job_is_told_as_its_latest_turn_left_it_when_an_earlier_turn_publishes_late(
    bus: Bus, end: model.JobState
) -> None:
    """A turn that lost its job may still speak: its rows count if they are new, what it says of the job does not."""
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
    """All that came after the position is told, nothing from before it."""
    await bus.events.publish(update(1))
    position = await bus.events.get_last_position(JOB.job_id)
    await bus.events.publish(update(2))
    await bus.events.publish(update(3))

    watcher = await bus.events.subscribe(JOB.job_id, position)

    told = await following(watcher, await bus.events.get_last_position(JOB.job_id))
    assert revisions(told) == {2: 1, 3: 1}


async def test_a_late_watcher_is_told_the_past_when_another_one_follows_the_end(bus: Bus) -> None:
    """He is served from his position on at once, although nothing new is published; the other is told nothing."""
    await bus.events.publish(update(1))
    position = await bus.events.get_last_position(JOB.job_id)
    await bus.events.publish(update(2))
    last = await bus.events.get_last_position(JOB.job_id)
    early = await bus.events.subscribe(JOB.job_id, last)

    late = await bus.events.subscribe(JOB.job_id, position)

    assert revisions(await following(late, last)) == {2: 1}
    assert await early.next(AT_ONCE) is None


async def test_a_late_watcher_is_told_past_and_present_when_more_is_published(bus: Bus) -> None:
    """Of a guild that changed before and after, the latest row."""
    await bus.events.publish(update(1, 2))
    early = await bus.events.subscribe(JOB.job_id, await bus.events.get_last_position(JOB.job_id))
    await bus.events.publish(update(2, 3, revision=2))
    await following(early, await bus.events.get_last_position(JOB.job_id))

    late = await bus.events.subscribe(JOB.job_id, FIRST)
    await bus.events.publish(update(3, revision=3))

    told = await following(late, await bus.events.get_last_position(JOB.job_id))
    assert revisions(told) == {1: 1, 2: 2, 3: 3}


async def test_late_watchers_are_told_their_own_past_when_they_come_at_once(bus: Bus) -> None:
    """Each from his own position on, whatever the other one asked for."""
    await bus.events.publish(update(1))
    position = await bus.events.get_last_position(JOB.job_id)
    await bus.events.publish(update(2))
    await bus.events.publish(update(3))
    last = await bus.events.get_last_position(JOB.job_id)
    await bus.events.subscribe(JOB.job_id, last)

    watchers = await asyncio.gather(*(bus.events.subscribe(JOB.job_id, after) for after in (FIRST, position, FIRST)))

    told = [revisions(await following(watcher, last)) for watcher in watchers]
    assert told == [{1: 1, 2: 1, 3: 1}, {2: 1, 3: 1}, {1: 1, 2: 1, 3: 1}]


async def test_a_late_watcher_is_not_told_an_older_row_when_a_newer_one_came_first(bus: Bus) -> None:
    """The greater revision wins in what is read again from the past as well, also over what came after it."""
    await bus.events.publish(update(1, revision=9))
    await bus.events.publish(update(2, revision=9))
    await bus.events.publish(update(2, revision=4))
    early = await bus.events.subscribe(JOB.job_id, await bus.events.get_last_position(JOB.job_id))
    await bus.events.publish(update(1, revision=4))
    await following(early, await bus.events.get_last_position(JOB.job_id))

    late = await bus.events.subscribe(JOB.job_id, FIRST)

    told = await following(late, await bus.events.get_last_position(JOB.job_id))
    assert revisions(told) == {1: 9, 2: 9}


async def test_a_new_watcher_is_told_when_all_earlier_ones_have_left(bus: Bus) -> None:
    """What the process knew of the job before is not taken for the present."""
    first = await bus.events.subscribe(JOB.job_id, FIRST)
    await bus.events.publish(update(1))
    await first.next(PATIENCE)
    await first.close()
    await bus.events.publish(update(2))

    second = await bus.events.subscribe(JOB.job_id, FIRST)

    told = await following(second, await bus.events.get_last_position(JOB.job_id))
    assert revisions(told) == {1: 1, 2: 1}


async def test_the_tail_is_the_first_position_when_nothing_was_published(bus: Bus) -> None:
    """Whoever subscribes there gets everything."""
    assert await bus.events.get_last_position(JOB.job_id) == FIRST
    assert not await bus.events.has_all_since(JOB.job_id, FIRST)


async def test_a_position_is_held_when_everything_after_it_is_there(bus: Bus) -> None:
    """From the first update on; before it something may be missing."""
    await bus.events.publish(update(1))
    first = await bus.events.get_last_position(JOB.job_id)
    await bus.events.publish(update(2))
    last = await bus.events.get_last_position(JOB.job_id)

    held = [await bus.events.has_all_since(JOB.job_id, position) for position in (FIRST, first, last)]

    assert held == [False, True, True]
    assert not await bus.events.has_all_since(OTHER.job_id, last)


async def test_a_position_is_lost_when_the_server_lost_its_data(bus: Bus) -> None:
    """Both while the stream is empty and when it goes on."""
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


async def test_a_watcher_is_told_again_when_updates_follow_a_loss(bus: Bus) -> None:
    """Who listened before the server lost its data still hears what comes after."""
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


async def test_a_new_watcher_is_told_when_the_server_lost_its_data_before(bus: Bus) -> None:
    """Other jobs can be followed afterwards as well."""
    watcher = await bus.events.subscribe(JOB.job_id, FIRST)
    await bus.events.publish(update(1))
    await watcher.next(PATIENCE)
    await bus.flush()
    other = await bus.events.subscribe(OTHER.job_id, FIRST)

    await bus.events.publish(update(2, job=OTHER))

    assert await other.next(PATIENCE) is not None


async def test_a_stream_is_empty_when_it_was_forgotten(bus: Bus) -> None:
    """The others stay; forgetting what is not there does nothing."""
    await bus.events.publish(update(1))
    await bus.events.publish(update(1, job=OTHER))
    kept = await bus.events.get_last_position(OTHER.job_id)

    await bus.events.delete_streams([JOB.job_id, "c" * 32])
    await bus.events.delete_streams([])

    assert await bus.events.get_last_position(JOB.job_id) == FIRST
    assert await bus.events.get_last_position(OTHER.job_id) == kept
