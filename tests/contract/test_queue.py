"""Turns on their way: Dramatiq's queue for runnable ones, our sorted set for waiting ones, and the alarm between."""

import asyncio
import collections
import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import dramatiq
import pytest
import redis.asyncio
from dramatiq.brokers.redis import RedisBroker

from indexing import errors, settings
from indexing.domain import turns
from indexing.messaging import queue, redis_client
from indexing.telemetry import tracing
from tests import servers

TURN = turns.Turn("a" * 32, 7)
OTHER = turns.Turn("b" * 32, 1)
LONG = 5.0
PAST = 1_000.0
"""An epoch second that is over by the clock of any Redis."""
FUTURE = 60.0


@pytest.fixture
def broker(redis_settings: settings.RedisSettings) -> Iterator[RedisBroker]:
    """Our broker over an empty Redis database."""
    made = queue.make_broker(redis_settings, middleware=[])
    yield made
    made.close()
    made.client.connection_pool.disconnect()


@pytest.fixture
def waiting(broker: RedisBroker, redis_client: redis.asyncio.Redis) -> queue.DramatiqQueue:
    """The queue over it."""
    return queue.DramatiqQueue(broker, redis_client)


@pytest.fixture
async def alarm(
    redis_client: redis.asyncio.Redis, waiting: queue.DramatiqQueue
) -> AsyncIterator[queue.DelayedQueuePoller]:
    """One alarm."""
    made = queue.DelayedQueuePoller(redis_client, waiting, max_sleep=LONG)
    yield made
    await made.close()


def in_future(seconds: float = FUTURE) -> float:
    """Return an epoch second that is still to come by Redis' clock, which no test can turn."""
    return time.time() + seconds  # noqa: TID251 -- Redis' own clock decides what is due


async def runnable(client: redis.asyncio.Redis) -> collections.Counter[turns.Turn]:
    """Return the turns that Dramatiq holds for its workers."""
    messages: Any = await client.hvals(f"dramatiq:{turns.QUEUE}.msgs")
    return collections.Counter(turns.parse(dramatiq.Message.decode(message).kwargs) for message in messages)


async def test_a_worker_gets_the_turn_when_it_is_enqueued(broker: RedisBroker, waiting: queue.DramatiqQueue) -> None:
    """Dramatiq itself hands out the message: for our actor, in the queue of turns, with the turn as keywords."""
    await waiting.enqueue(TURN)

    consumer = broker.consume(turns.QUEUE, prefetch=1, timeout=100)
    with contextlib.closing(consumer):
        message = next(consumer)
        assert message is not None
        consumer.ack(message)

    assert (message.actor_name, message.queue_name, message.args) == (turns.ACTOR, turns.QUEUE, ())
    assert turns.parse(message.kwargs) == TURN


async def test_a_turn_waits_when_it_is_scheduled_for_later(
    waiting: queue.DramatiqQueue, alarm: queue.DelayedQueuePoller, redis_client: redis.asyncio.Redis
) -> None:
    """It is not runnable yet, and the alarm sleeps until then, but never longer than it may."""
    await waiting.schedule(TURN, in_future(3.0))
    soon = await alarm.enqueue_due()
    await waiting.schedule(TURN, in_future(3600.0))
    late = await alarm.enqueue_due()

    assert 0.0 < soon <= 3.0
    assert late == LONG
    assert await runnable(redis_client) == {}


async def test_a_due_turn_is_enqueued_once_when_the_alarm_rings(
    waiting: queue.DramatiqQueue, alarm: queue.DelayedQueuePoller, redis_client: redis.asyncio.Redis
) -> None:
    """Only what is due, and not again at the next ring."""
    await waiting.schedule(TURN, PAST)
    await waiting.schedule(OTHER, in_future())

    rests = [await alarm.enqueue_due() for _ in range(3)]

    assert rests == [LONG] * 3
    assert await runnable(redis_client) == {TURN: 1}


async def test_the_alarm_sleeps_as_long_as_it_may_when_nothing_waits(alarm: queue.DelayedQueuePoller) -> None:
    """An empty set is no reason to poll."""
    assert await alarm.enqueue_due() == LONG


async def test_every_turn_is_enqueued_once_when_several_alarms_ring_at_once(
    waiting: queue.DramatiqQueue, redis_client: redis.asyncio.Redis
) -> None:
    """However many processes look after the waiting turns: none is lost and none runs twice."""
    due = [turns.Turn(f"{number:032x}", number) for number in range(250)]
    for turn in due:
        await waiting.schedule(turn, PAST + turn.number)
    alarms = [queue.DelayedQueuePoller(redis_client, waiting) for _ in range(5)]

    for _ in range(3):
        await asyncio.gather(*(alarm.enqueue_due() for alarm in alarms))

    assert await runnable(redis_client) == dict.fromkeys(due, 1)
    for alarm in alarms:
        await alarm.close()


async def test_the_alarm_goes_on_at_once_when_more_is_due_than_one_ring_takes(
    waiting: queue.DramatiqQueue, alarm: queue.DelayedQueuePoller, redis_client: redis.asyncio.Redis
) -> None:
    """The most overdue first; the rest without a pause."""
    due = [turns.Turn(f"{number:032x}", 1) for number in range(queue.POP_LIMIT + 1)]
    for number, turn in enumerate(due):
        await waiting.schedule(turn, PAST + number)

    pause = await alarm.enqueue_due()
    first = await runnable(redis_client)
    await alarm.enqueue_due()

    assert pause == 0.0
    assert first == dict.fromkeys(due[:-1], 1)
    assert await runnable(redis_client) == dict.fromkeys(due, 1)


async def test_a_turn_moves_when_it_is_scheduled_again(
    waiting: queue.DramatiqQueue, alarm: queue.DelayedQueuePoller, redis_client: redis.asyncio.Redis
) -> None:
    """Brought forward it comes at the new time, and only then."""
    await waiting.schedule(TURN, in_future())

    await waiting.schedule(TURN, PAST)

    assert await alarm.enqueue_due() == LONG
    assert await runnable(redis_client) == {TURN: 1}


async def test_turns_of_a_job_do_not_replace_each_other_when_their_numbers_differ(
    waiting: queue.DramatiqQueue, alarm: queue.DelayedQueuePoller, redis_client: redis.asyncio.Redis
) -> None:
    """A stale turn cannot push the current one away: which of them counts is decided in the store."""
    later = turns.Turn(TURN.job_id, TURN.number + 1)
    await waiting.schedule(later, PAST)

    await waiting.schedule(TURN, in_future())

    await alarm.enqueue_due()
    assert await runnable(redis_client) == {later: 1}


async def test_the_alarm_wakes_when_an_earlier_turn_is_scheduled(
    waiting: queue.DramatiqQueue, alarm: queue.DelayedQueuePoller
) -> None:
    """It does not sleep past the new first turn."""
    await waiting.schedule(OTHER, in_future())
    await alarm.sleep(await alarm.enqueue_due())
    sleeping = asyncio.create_task(alarm.sleep(60.0))

    await waiting.schedule(TURN, in_future(30.0))

    await asyncio.wait_for(sleeping, 10.0)


async def test_the_alarm_sleeps_on_when_a_later_turn_is_scheduled(
    waiting: queue.DramatiqQueue, alarm: queue.DelayedQueuePoller, redis_client: redis.asyncio.Redis
) -> None:
    """Only a new first turn is worth a look; the first waking is used up before."""
    await waiting.schedule(TURN, in_future(30.0))
    await alarm.sleep(60.0)

    await waiting.schedule(OTHER, in_future())

    assert await redis_client.llen(queue.WAKE) == 0


async def test_wakings_do_not_pile_up_when_no_alarm_is_there(
    waiting: queue.DramatiqQueue, redis_client: redis.asyncio.Redis
) -> None:
    """A service without workers does not fill Redis."""
    for number in range(50):
        await waiting.schedule(turns.Turn(f"{number:032x}", 1), in_future(1000.0 - number))

    assert await redis_client.llen(queue.WAKE) == queue.WAKE_LENGTH


async def test_no_sleep_is_endless_when_there_is_no_time_to_sleep(alarm: queue.DelayedQueuePoller) -> None:
    """Zero seconds are none: to Redis they would mean for ever."""
    await asyncio.wait_for(alarm.sleep(0.0), 10.0)
    await asyncio.wait_for(alarm.sleep(0.0004), 10.0)


async def test_the_failure_is_ours_when_redis_is_lost() -> None:
    """Every method says QueueUnavailable, whichever library noticed it."""
    async with contextlib.AsyncExitStack() as stack:
        with servers.valkey() as url:
            config = settings.RedisSettings(url=url)
            client = await stack.enter_async_context(redis_client.open_redis(config))
            broker = queue.make_broker(config, middleware=[])
            stack.callback(broker.client.connection_pool.disconnect)
            waiting = queue.DramatiqQueue(broker, client)
            await waiting.enqueue(TURN)
            await waiting.schedule(TURN, in_future())
            alarm = queue.DelayedQueuePoller(client, waiting)
            stack.push_async_callback(alarm.close)
            await alarm.enqueue_due()

        attempts = [waiting.enqueue(TURN), waiting.schedule(TURN, PAST), alarm.enqueue_due(), alarm.sleep(1.0)]

        for attempt in attempts:
            with pytest.raises(errors.QueueUnavailable):
                await attempt


async def test_opening_fails_at_once_when_redis_is_not_there() -> None:
    """A process that cannot reach Redis says so at its start."""
    config = settings.RedisSettings(url=f"redis://127.0.0.1:{servers.free_port()}/0")

    with pytest.raises(errors.QueueUnavailable):
        await contextlib.AsyncExitStack().enter_async_context(redis_client.open_redis(config))


async def test_a_turn_carries_who_asked_for_it_when_it_has_waited(
    waiting: queue.DramatiqQueue, alarm: queue.DelayedQueuePoller, redis_client: redis.asyncio.Redis
) -> None:
    """Through the sorted set as through the queue, and nothing of it stays behind."""
    with tracing.continue_trace("call", "asked-1 "):
        await waiting.schedule(TURN, PAST)
        await waiting.enqueue(OTHER)
        carried = tracing.serialize_context()

    await alarm.enqueue_due()

    assert {turn: turn.carried for turn in await runnable(redis_client)} == {TURN: carried, OTHER: carried}
    assert await redis_client.exists(queue.CARRIED) == 0


@pytest.mark.parametrize("away", [False, True], ids=["redis-answers", "redis-is-away"])
def test_a_consumer_is_heard_of_when_it_looks_for_messages(redis_settings: settings.RedisSettings, away: bool) -> None:  # noqa: FBT001 -- a parameter
    """Whether it finds none, or finds no Redis."""
    config = settings.RedisSettings(url=f"redis://127.0.0.1:{servers.free_port()}/0") if away else redis_settings
    broker = queue.make_broker(config, middleware=[])
    consumer = broker.consume(turns.QUEUE, timeout=10)
    broker.last_heartbeat.clear()

    with pytest.raises(dramatiq.ConnectionClosed) if away else contextlib.nullcontext():
        assert next(consumer) is None
    broker.client.connection_pool.disconnect()

    assert turns.QUEUE in broker.last_heartbeat
