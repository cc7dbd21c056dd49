"""The turn queue: Dramatiq's queue, the sorted set of delayed turns, and the poller between them."""

import asyncio
import collections
import contextlib
import logging
import threading
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
from indexing.messaging import redis_client as redis_client_module
from indexing.telemetry import tracing
from tests import fake_redis, servers

TURN = turns.Turn("a" * 32, 7)
OTHER = turns.Turn("b" * 32, 1)
LONG = 5.0
PAST = 1_000.0
"""An epoch second that is in the past of any clock."""
FUTURE = 60.0
HOUR_MS = 3_600_000
PLENTY = 1_000
"""Room in Dramatiq's queue that no test uses up."""


@pytest.fixture
def broker(redis_settings: settings.RedisSettings) -> Iterator[RedisBroker]:
    """The product's broker over an empty Redis database."""
    made = queue.make_broker(redis_settings, middleware=[])
    yield made
    made.close()
    made.client.connection_pool.disconnect()


@pytest.fixture
def waiting(broker: RedisBroker, redis_client: redis.asyncio.Redis) -> queue.DramatiqQueue:
    """The turn queue over it."""
    return queue.DramatiqQueue(broker, redis_client)


@pytest.fixture
async def poller(
    redis_client: redis.asyncio.Redis, waiting: queue.DramatiqQueue
) -> AsyncIterator[queue.DelayedQueuePoller]:
    """A poller of the delayed queue."""
    made = queue.DelayedQueuePoller(redis_client, waiting, most_ready=PLENTY, max_sleep=LONG)
    yield made
    await made.close()


def in_future(seconds: float = FUTURE) -> float:
    """Return a time in the future of Redis' clock, which no test controls."""
    return time.time() + seconds  # noqa: TID251 -- Redis' own clock decides what is due


async def runnable(client: redis.asyncio.Redis) -> collections.Counter[turns.Turn]:
    """Return the live turns in Dramatiq's queue."""
    messages: Any = await client.hvals(f"dramatiq:{turns.QUEUE}.msgs")
    return collections.Counter(turns.parse(dramatiq.Message.decode(message).kwargs) for message in messages)


async def test_a_worker_gets_the_turn_when_it_is_enqueued(
    broker: RedisBroker, waiting: queue.DramatiqQueue, poller: queue.DelayedQueuePoller
) -> None:
    """Dramatiq delivers the message for the actor, in the queue of turns, with the turn as keywords."""
    await waiting.enqueue(TURN)
    await poller.enqueue_due()

    consumer = broker.consume(turns.QUEUE, prefetch=1, timeout=100)
    with contextlib.closing(consumer):
        message = next(consumer)
        assert message is not None
        consumer.ack(message)

    assert (message.actor_name, message.queue_name, message.args) == (turns.ACTOR, turns.QUEUE, ())
    assert turns.parse(message.kwargs) == TURN


async def test_a_turn_is_delayed_when_it_is_scheduled_for_later(
    waiting: queue.DramatiqQueue, poller: queue.DelayedQueuePoller, redis_client: redis.asyncio.Redis
) -> None:
    """It is not ready yet, and the poller sleeps until it is due, but at most max_sleep."""
    await waiting.schedule(TURN, in_future(3.0))
    soon = await poller.enqueue_due()
    await waiting.schedule(TURN, in_future(3600.0))
    late = await poller.enqueue_due()

    assert 0.0 < soon <= 3.0
    assert late == LONG
    assert await runnable(redis_client) == {}


async def test_a_due_turn_is_enqueued_once_when_the_poller_runs(
    waiting: queue.DramatiqQueue, poller: queue.DelayedQueuePoller, redis_client: redis.asyncio.Redis
) -> None:
    """Only due turns, and not again in the next round."""
    await waiting.schedule(TURN, PAST)
    await waiting.schedule(OTHER, in_future())

    pauses = [await poller.enqueue_due() for _ in range(3)]

    assert pauses == [LONG] * 3
    assert await runnable(redis_client) == {TURN: 1}


async def test_the_poller_sleeps_for_max_sleep_when_no_turn_is_delayed(poller: queue.DelayedQueuePoller) -> None:
    """An empty set needs no polling."""
    assert await poller.enqueue_due() == LONG


async def test_every_turn_is_enqueued_once_when_several_pollers_run_at_once(
    waiting: queue.DramatiqQueue, redis_client: redis.asyncio.Redis
) -> None:
    """However many processes poll, no turn is lost and none is enqueued twice."""
    due = [turns.Turn(f"{number:032x}", number) for number in range(250)]
    for turn in due:
        await waiting.schedule(turn, PAST + turn.number)
    pollers = [queue.DelayedQueuePoller(redis_client, waiting, most_ready=PLENTY) for _ in range(5)]

    for _ in range(3):
        await asyncio.gather(*(poller.enqueue_due() for poller in pollers))

    assert await runnable(redis_client) == dict.fromkeys(due, 1)
    for poller in pollers:
        await poller.close()


async def test_the_poller_continues_at_once_when_more_is_due_than_one_round_takes(
    waiting: queue.DramatiqQueue, poller: queue.DelayedQueuePoller, redis_client: redis.asyncio.Redis
) -> None:
    """The most overdue first; the rest without a pause."""
    due = [turns.Turn(f"{number:032x}", 1) for number in range(queue.POP_LIMIT + 1)]
    for number, turn in enumerate(due):
        await waiting.schedule(turn, PAST + number)

    pause = await poller.enqueue_due()
    first = await runnable(redis_client)
    await poller.enqueue_due()

    assert pause == 0.0
    assert first == dict.fromkeys(due[:-1], 1)
    assert await runnable(redis_client) == dict.fromkeys(due, 1)


async def test_the_due_time_changes_when_a_turn_is_scheduled_again(
    waiting: queue.DramatiqQueue, poller: queue.DelayedQueuePoller, redis_client: redis.asyncio.Redis
) -> None:
    """A turn that is moved forward is enqueued at the new time only."""
    await waiting.schedule(TURN, in_future())

    await waiting.schedule(TURN, PAST)

    assert await poller.enqueue_due() == LONG
    assert await runnable(redis_client) == {TURN: 1}


async def test_turns_of_a_job_do_not_replace_each_other_when_their_numbers_differ(
    waiting: queue.DramatiqQueue, poller: queue.DelayedQueuePoller, redis_client: redis.asyncio.Redis
) -> None:
    """A stale turn cannot remove the current one: the store decides which of them counts."""
    later = turns.Turn(TURN.job_id, TURN.number + 1)
    await waiting.schedule(later, PAST)

    await waiting.schedule(TURN, in_future())

    await poller.enqueue_due()
    assert await runnable(redis_client) == {later: 1}


async def test_the_poller_wakes_when_an_earlier_turn_is_scheduled(
    waiting: queue.DramatiqQueue, poller: queue.DelayedQueuePoller
) -> None:
    """It does not sleep past the new first due time."""
    await waiting.schedule(OTHER, in_future())
    await poller.sleep(await poller.enqueue_due())
    sleeping = asyncio.create_task(poller.sleep(60.0))

    await waiting.schedule(TURN, in_future(30.0))

    await asyncio.wait_for(sleeping, 10.0)


async def test_the_poller_sleeps_on_when_a_later_turn_is_scheduled(
    waiting: queue.DramatiqQueue, poller: queue.DelayedQueuePoller, redis_client: redis.asyncio.Redis
) -> None:
    """Only a new first due time wakes it; the first wake-up is consumed before."""
    await waiting.schedule(TURN, in_future(30.0))
    await poller.sleep(60.0)

    await waiting.schedule(OTHER, in_future())

    assert await redis_client.llen(queue.WAKE) == 0


async def test_wake_ups_do_not_accumulate_when_no_poller_runs(
    waiting: queue.DramatiqQueue, redis_client: redis.asyncio.Redis
) -> None:
    """A service without workers does not fill Redis."""
    for number in range(50):
        await waiting.schedule(turns.Turn(f"{number:032x}", 1), in_future(1000.0 - number))

    assert await redis_client.llen(queue.WAKE) == queue.WAKE_LENGTH


async def test_sleep_returns_at_once_when_no_time_is_left(poller: queue.DelayedQueuePoller) -> None:
    """To Redis a timeout of 0 would mean forever."""
    await asyncio.wait_for(poller.sleep(0.0), 10.0)
    await asyncio.wait_for(poller.sleep(0.0004), 10.0)


async def test_every_method_raises_queue_unavailable_when_redis_is_lost() -> None:
    """Whichever library detects the failure."""
    async with contextlib.AsyncExitStack() as stack:
        with servers.valkey() as url:
            config = settings.RedisSettings(url=url)
            client = await stack.enter_async_context(redis_client.open_redis(config))
            broker = queue.make_broker(config, middleware=[])
            stack.callback(broker.client.connection_pool.disconnect)
            waiting = queue.DramatiqQueue(broker, client)
            await waiting.enqueue(TURN)
            await waiting.schedule(TURN, in_future())
            poller = queue.DelayedQueuePoller(client, waiting)
            stack.push_async_callback(poller.close)
            await poller.enqueue_due()

        attempts = [waiting.enqueue(TURN), waiting.schedule(TURN, PAST), poller.enqueue_due(), poller.sleep(1.0)]

        for attempt in attempts:
            with pytest.raises(errors.QueueUnavailable):
                await attempt


async def test_opening_fails_at_once_when_redis_is_unreachable() -> None:
    """A process without Redis reports that at its start."""
    config = settings.RedisSettings(url=f"redis://127.0.0.1:{servers.free_port()}/0")

    with pytest.raises(errors.QueueUnavailable):
        await contextlib.AsyncExitStack().enter_async_context(redis_client.open_redis(config))


async def test_a_turn_keeps_its_trace_context_when_it_was_delayed(
    waiting: queue.DramatiqQueue, poller: queue.DelayedQueuePoller, redis_client: redis.asyncio.Redis
) -> None:
    """Through the sorted set as through the queue, and no data stays behind."""
    with tracing.continue_trace("call", "asked-1 "):
        await waiting.schedule(TURN, PAST)
        await waiting.enqueue(OTHER)
        carried = tracing.serialize_context()

    await poller.enqueue_due()

    assert {turn: turn.carried for turn in await runnable(redis_client)} == {TURN: carried, OTHER: carried}
    assert await redis_client.exists(queue.CARRIED) == 0


@pytest.mark.parametrize("away", [False, True], ids=["redis-answers", "redis-is-away"])
def test_a_consumer_sends_a_heartbeat_when_it_polls(redis_settings: settings.RedisSettings, away: bool) -> None:  # noqa: FBT001 -- a parameter
    """Both when it finds no message and when Redis refuses connections."""
    config = settings.RedisSettings(url=f"redis://127.0.0.1:{servers.free_port()}/0") if away else redis_settings
    broker = queue.make_broker(config, middleware=[])
    consumer = broker.consume(turns.QUEUE, timeout=10)
    broker.last_heartbeat.clear()

    with pytest.raises(dramatiq.ConnectionClosed) if away else contextlib.nullcontext():
        assert next(consumer) is None
    broker.client.connection_pool.disconnect()

    assert turns.QUEUE in broker.last_heartbeat


def test_a_consumer_that_pauses_looks_at_once_when_its_process_releases_a_turn(
    redis_settings: settings.RedisSettings,
) -> None:
    """However long the pauses are: here they are longer than a test may take."""
    client = redis_client_module.open_threaded_client(redis_settings)
    broker = queue.Broker(client=client, middleware=[], pauses=(HOUR_MS, HOUR_MS))
    broker.declare_queue(turns.QUEUE)
    consumer = broker.consume(turns.QUEUE, timeout=HOUR_MS)
    found: list[dramatiq.MessageProxy | None] = []
    polling = threading.Thread(target=lambda: found.extend([next(consumer), next(consumer)]), daemon=True)

    polling.start()
    message: dramatiq.Message[Any] = dramatiq.Message(turns.QUEUE, turns.ACTOR, (), TURN.payload(), {})
    broker.enqueue(message)
    # A poll that already found it is followed by a pause, which the next message ends.
    broker.enqueue(message.copy())
    polling.join(timeout=30.0)
    client.connection_pool.disconnect()

    assert TURN in [turns.parse(message.kwargs) for message in found if message is not None]


async def set_redis_clock_back(client: redis.asyncio.Redis, seconds: float) -> None:
    """Do what the step of a clock would: what Redis knows of the time is later than what it shows from now on."""
    await client.incrby(queue.CLOCK, int(seconds * 1000))
    found: Any = await client.zrange(queue.WAITING, 0, -1, withscores=True)
    for turn, due in found:
        await client.zadd(queue.WAITING, {turn: due + seconds * 1000})


@pytest.mark.parametrize("by", ["poller", "other-turn"])
async def test_turns_keep_their_delay_when_redis_clock_is_set_back(
    waiting: queue.DramatiqQueue, poller: queue.DelayedQueuePoller, redis_client: redis.asyncio.Redis, by: str
) -> None:
    """Once, by the poller or by another turn, as after a failover to a machine whose clock is behind."""
    await waiting.schedule(TURN, in_future(0.5))
    await waiting.schedule(turns.Turn(TURN.job_id, 9), in_future(200.0))
    await set_redis_clock_back(redis_client, 300.0)

    if by == "other-turn":
        await waiting.schedule(OTHER, in_future(100.0))
    pause = await poller.enqueue_due()
    await asyncio.sleep(pause)
    await poller.enqueue_due()

    left: Any = await redis_client.zrange(queue.WAITING, 0, -1, withscores=True)
    seconds, _ = await redis_client.time()
    assert pause <= 0.5
    assert await runnable(redis_client) == {TURN: 1}
    assert left[-1][1] / 1000 - seconds == pytest.approx(200.0, abs=3.0)


async def test_no_turn_is_hurried_when_redis_clock_is_slewed(
    waiting: queue.DramatiqQueue, poller: queue.DelayedQueuePoller, redis_client: redis.asyncio.Redis
) -> None:
    """A difference of less than a second is no step."""
    await waiting.schedule(TURN, in_future(30.0))
    before = await redis_client.zscore(queue.WAITING, f"{TURN.job_id}:{TURN.number}")
    await redis_client.incrby(queue.CLOCK, 900)

    await poller.enqueue_due()

    assert await redis_client.zscore(queue.WAITING, f"{TURN.job_id}:{TURN.number}") == before


@pytest.mark.parametrize("wrong", [-3600.0, 3600.0])
async def test_a_turn_keeps_its_delay_when_the_clock_of_its_process_is_wrong(
    broker: RedisBroker,
    redis_client: redis.asyncio.Redis,
    poller: queue.DelayedQueuePoller,
    wrong: float,
) -> None:
    """The due time and the clock that it is of are both of the process; Redis gets the difference."""
    clock = in_future(wrong)
    mine = queue.DramatiqQueue(broker, redis_client, lambda: clock)

    await mine.schedule(TURN, clock + 3.0)

    assert 1.0 < await poller.enqueue_due() <= 3.0


async def test_a_turn_of_the_previous_release_is_enqueued_when_it_is_due(
    waiting: queue.DramatiqQueue, poller: queue.DelayedQueuePoller, redis_client: redis.asyncio.Redis
) -> None:
    """It wrote the due time by its own clock."""
    await waiting.schedule(OTHER, in_future())
    await redis_client.zadd(queue.WAITING, {f"{TURN.job_id}:{TURN.number}": in_future(-1.0) * 1000})

    await poller.enqueue_due()

    assert await runnable(redis_client) == {TURN: 1}


async def test_the_poller_reports_a_requested_sweep_when_it_sleeps(
    waiting: queue.DramatiqQueue, redis_client: redis.asyncio.Redis
) -> None:
    """To one worker, once; requests do not accumulate."""
    requests: list[str] = []
    poller = queue.DelayedQueuePoller(redis_client, waiting, on_sweep_requested=lambda: requests.append("sweep"))
    for _ in range(3):
        await queue.request_sweep(redis_client)

    await poller.sleep(10.0)
    await poller.sleep(0.1)

    await poller.close()
    assert requests == ["sweep"]


async def test_a_failure_is_noted_when_a_turn_cannot_be_enqueued(redis_settings: settings.RedisSettings) -> None:
    """The Redis watch then requests a sweep."""
    failures: list[str] = []
    broker = queue.make_broker(settings.RedisSettings(url=f"redis://127.0.0.1:{servers.free_port()}/0"), middleware=[])
    async with redis_client_module.open_redis(redis_settings) as client:
        failing = queue.DramatiqQueue(broker, client, on_failure=lambda: failures.append("failure"))

        with pytest.raises(errors.QueueUnavailable):
            await failing.release(TURN, 0.0)

    assert failures == ["failure"]


def test_messages_of_a_lost_reply_are_returned_when_the_consumer_starts_again(
    broker: queue.Broker, redis_settings: settings.RedisSettings
) -> None:
    """Redis gave them out; nobody got them. A message that is being processed stays."""
    message: dramatiq.Message[Any] = dramatiq.Message(
        queue_name=turns.QUEUE, actor_name=turns.ACTOR, args=(), kwargs={}, options={}
    )
    for _ in range(3):
        broker.enqueue(message)
    first = broker.consume(turns.QUEUE, prefetch=1, timeout=10)
    processed = next(first)
    assert processed is not None
    lost = broker.do_fetch(turns.QUEUE, 2)

    second = broker.consume(turns.QUEUE, prefetch=3, timeout=10)
    delivered = [next(second), next(second)]
    for one in (processed, *delivered):
        assert one is not None
        second.ack(one)

    assert len(lost) == 2
    assert not broker.client.keys("dramatiq:__acks__*")
    assert broker.client.hlen(f"dramatiq:{turns.QUEUE}.msgs") == 0


@pytest.mark.parametrize("clock_ms", ["0", "99999999999999"], ids=["behind", "ahead"])
def test_a_worker_counts_as_alive_when_the_clock_of_another_is_wrong(
    redis_settings: settings.RedisSettings, monkeypatch: pytest.MonkeyPatch, clock_ms: str
) -> None:
    """The messages that it processes are not given to the other."""
    message: dramatiq.Message[Any] = dramatiq.Message(
        queue_name=turns.QUEUE, actor_name=turns.ACTOR, args=(), kwargs={}, options={}
    )
    right, wrong = (queue.make_broker(redis_settings, middleware=[]) for _ in range(2))
    wrong.maintenance_chance = 1_000_000
    right.enqueue(message)
    assert next(right.consume(turns.QUEUE, prefetch=1, timeout=10)) is not None

    monkeypatch.setattr("dramatiq.brokers.redis.current_millis", lambda: int(clock_ms))
    taken = next(wrong.consume(turns.QUEUE, prefetch=1, timeout=10))

    for broker in (right, wrong):
        broker.client.connection_pool.disconnect()
    assert taken is None


def test_an_acknowledgement_is_repeated_when_redis_fails(redis_settings: settings.RedisSettings) -> None:
    """Whatever the failure: Dramatiq repeats on a closed connection alone, and would log a bug of its own."""
    fake = fake_redis.FakeRedis()
    with fake.running():
        config = settings.RedisSettings(url=fake.url, timeout=0.2)
        broker = queue.make_broker(config, middleware=[])
        body: dramatiq.Message[Any] = dramatiq.Message(
            queue_name=turns.QUEUE, actor_name=turns.ACTOR, args=(), kwargs={}, options={"redis_message_id": "1"}
        )
        consumer = broker.consume(turns.QUEUE, timeout=10)
        for failure in (
            fake_redis.SILENCE,
            fake_redis.CLOSE,
            fake_redis.error("OOM command not allowed when used memory > 'maxmemory'."),
            fake_redis.error("NOPERM User x has no permissions to run the 'evalsha' command"),
            fake_redis.error("READONLY You can't write against a read only replica."),
        ):
            fake.replies["EVALSHA"] = [failure]
            with pytest.raises(dramatiq.ConnectionClosed):
                consumer.ack(dramatiq.MessageProxy(body))
        broker.client.connection_pool.disconnect()


def test_a_consumer_is_silent_when_redis_stays_away(broker: queue.Broker, caplog: pytest.LogCaptureFixture) -> None:
    """Dramatiq would say so every three seconds; the process says it once. Its other lines pass."""
    assert broker.queues
    consumer = logging.getLogger(f"dramatiq.worker.ConsumerThread({turns.QUEUE})")

    with caplog.at_level(logging.INFO):
        consumer.critical("Consumer encountered a connection error: %s", "Redis refuses connections")
        consumer.info("Restarting consumer in %0.2f seconds.", 3.0)
        consumer.critical("Consumer encountered an unexpected error.")

    assert [record.msg for record in caplog.records] == ["Consumer encountered an unexpected error."]
