"""
Turns on their way to a worker: Dramatiq's queue for runnable ones, a sorted set of our own for waiting ones.

Dramatiq's delayed messages are not used: a restart of Redis strands them (Bogdanp/dramatiq#527), and far ones starve
near ones. Both structures may be lost: `jobs.next_turn_at` is the truth, and the sweeper enqueues from it.

A broker that knows when its consumers last came round: so one that hangs is told from one that waits.
"""

import asyncio
import dataclasses
import time
from collections.abc import Callable, Iterable
from typing import Any

import dramatiq
import redis.asyncio
from dramatiq.brokers.redis import RedisBroker

from indexing import settings
from indexing.domain import turns
from indexing.messaging import redis_client
from indexing.telemetry import tracing

WAITING = "indexer:{turns}:waiting"
WAKE = "indexer:{turns}:wake"
CARRIED = "indexer:{turns}:carried"
WAKE_LENGTH = 8
HEARTBEAT_MS = 30_000
"""Time after which a process that was not heard of counts as dead."""
WORKER = "worker-"
"""Begin of the names under which workers are heard of; who only enqueues is heard of too."""
POP_LIMIT = 100

SCHEDULE = """
-- Put a turn into the sorted set of waiting ones; wake an alarm if it is now the first.
-- KEYS 1 zset: turn -> due time in ms   KEYS 2 list: one element wakes one alarm   KEYS 3 hash: turn -> what it carries
-- ARGV 1 turn   ARGV 2 due time in ms since the epoch   ARGV 3 longest wake list   ARGV 4 what it carries, or empty
-- Reply: 1 if the turn is the first to come due, else 0. Atomic.
local waiting, wake = KEYS[1], KEYS[2]
redis.call('ZADD', waiting, ARGV[2], ARGV[1])
if ARGV[4] ~= '' then
  redis.call('HSET', KEYS[3], ARGV[1], ARGV[4])
end
if redis.call('ZRANGE', waiting, 0, 0)[1] ~= ARGV[1] then
  return 0
end
redis.call('LPUSH', wake, '1')
redis.call('LTRIM', wake, 0, ARGV[3] - 1)
return 1
"""

POP_DUE = """
-- Take turns that are due out of the sorted set.
-- KEYS 1 zset: turn -> due time in ms   KEYS 2 hash: turn -> what it carries
-- ARGV 1 most turns to take
-- Reply: [ms until the next one comes due or -1, turn, what it carries, turn, ...]. Atomic: each turn is taken once.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])
if #due > 0 then
  redis.call('ZREM', KEYS[1], unpack(due))
end
local reply = {}
for _, turn in ipairs(due) do
  reply[#reply + 1] = turn
  reply[#reply + 1] = redis.call('HGET', KEYS[2], turn) or ''
  redis.call('HDEL', KEYS[2], turn)
end
local rest = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
local wait = -1
if rest[2] then
  wait = math.max(0, rest[2] - now)
end
table.insert(reply, 1, tostring(wait))
return reply
"""


class Broker(RedisBroker):
    """
    Dramatiq's own, except that its consumers are heard of.

    Dramatiq asks Redis without a time limit: when answers get lost on the way, a consumer waits for ever, its thread
    is alive, and no more messages come. While Redis refuses, consumers come round all the same.
    """

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 -- Dramatiq's
        super().__init__(**options)  # type: ignore[no-untyped-call]  # dramatiq leaves it untyped
        self.heard_at: dict[str, float] = {}
        """Monotonic seconds at which the consumer of each queue last came round."""

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> dramatiq.Consumer:
        """Return a consumer, whose *timeout* is in milliseconds."""

        def heard() -> None:
            self.heard_at[queue_name] = time.monotonic()

        return _HeartbeatConsumer(super().consume(queue_name, prefetch, timeout), heard)


class _HeartbeatConsumer(dramatiq.Consumer):
    """Says that it is there whenever it looks for a message, whatever comes of that."""

    def __init__(self, consumer: dramatiq.Consumer, heard: Callable[[], None]) -> None:
        self._consumer = consumer
        self._heard = heard
        heard()

    def __next__(self) -> dramatiq.MessageProxy | None:
        """Look for a message."""
        self._heard()
        return next(self._consumer)

    def ack(self, message: dramatiq.MessageProxy) -> None:
        """Pass on."""
        self._consumer.ack(message)

    def nack(self, message: dramatiq.MessageProxy) -> None:
        """Pass on."""
        self._consumer.nack(message)

    def requeue(self, messages: Iterable[dramatiq.MessageProxy]) -> None:
        """Pass on."""
        self._consumer.requeue(messages)

    def close(self) -> None:
        """Pass on."""
        self._consumer.close()


def make_broker(config: settings.RedisSettings, middleware: list[dramatiq.Middleware]) -> Broker:
    """
    Return a broker that declares our queues.

    Given by URL, redis-py repeats nothing (by host it would repeat a push). Maintenance in 10 % of the commands and a
    heartbeat of 30 s bring the messages of a killed worker back within a minute or so instead of many.
    """
    broker = Broker(
        url=config.url.get_secret_value(),
        middleware=middleware,
        maintenance_chance=100_000,
        heartbeat_timeout=HEARTBEAT_MS,
    )
    for queue in turns.QUEUES:
        broker.declare_queue(queue)
    return broker


class DramatiqQueue:
    """Port `ports.Turns`. Dramatiq's enqueue blocks, so it runs in a thread; both methods are one round trip."""

    def __init__(self, broker: dramatiq.Broker, client: redis.asyncio.Redis) -> None:
        self._broker = broker
        self._client = client
        self._schedule = client.register_script(SCHEDULE)

    async def enqueue(self, turn: turns.Turn) -> None:
        """Hand a turn to the workers now."""
        turn = _carrying(turn)
        message: dramatiq.Message[Any] = dramatiq.Message(
            queue_name=turns.QUEUE, actor_name=turns.ACTOR, args=(), kwargs=turn.payload(), options={}
        )
        with redis_client.translated():
            await asyncio.to_thread(self._broker.enqueue, message)

    async def schedule(self, turn: turns.Turn, due: float) -> None:
        """Hand a turn to the workers at *due*; called again for the same turn it moves it."""
        with redis_client.translated():
            await self._schedule(
                keys=[WAITING, WAKE, CARRIED],
                args=[f"{turn.job_id}:{turn.number}", int(due * 1000), WAKE_LENGTH, _carrying(turn).carried],
            )


def _carrying(turn: turns.Turn) -> turns.Turn:
    return turn if turn.carried else dataclasses.replace(turn, carried=tracing.serialize_context())


class DelayedQueuePoller:
    """Takes due turns out of the sorted set and enqueues them; sleeps until the next one is due or an earlier comes."""

    def __init__(self, client: redis.asyncio.Redis, queue: DramatiqQueue, *, longest_sleep: float = 5.0) -> None:
        self._blocking = redis_client.blocking_twin(client, longest=longest_sleep)
        self._pop = client.register_script(POP_DUE)
        self._queue = queue
        self._longest_sleep = longest_sleep

    async def enqueue_due(self) -> float:
        """Enqueue what is due; returns the seconds until there is more to do. Two round trips and one for each turn."""
        with redis_client.translated():
            reply = [item.decode() for item in await self._pop(keys=[WAITING, CARRIED], args=[POP_LIMIT])]
        wait, due = int(reply[0]), reply[1::2]
        for member, carried in zip(due, reply[2::2], strict=True):
            job_id, number = member.rsplit(":", 1)
            await self._queue.enqueue(turns.Turn(job_id, int(number), carried))
        if len(due) == POP_LIMIT:
            return 0.0
        return self._longest_sleep if wait < 0 else min(wait / 1000, self._longest_sleep)

    async def sleep(self, seconds: float) -> None:
        """Wait that long, or until an earlier turn is scheduled."""
        if seconds > 0:
            with redis_client.translated():
                await self._blocking.blpop([WAKE], timeout=max(0.001, seconds))

    async def keep_ringing(self) -> None:
        """Ring and sleep until cancelled; raises errors.QueueUnavailable when Redis is away."""
        while True:
            await self.sleep(await self.enqueue_due())

    async def close(self) -> None:
        """Close the blocking connection."""
        await self._blocking.aclose()
