"""
The turn queue: Dramatiq's queue for turns that can run now, a sorted set for delayed turns.

Dramatiq's own delayed messages are not used: a restart of Redis strands them (Bogdanp/dramatiq#527), and messages due
late starve those due early. Both structures may be lost: `jobs.next_turn_at` is authoritative, and the sweeper enqueues
from it. The broker records a heartbeat of each consumer, which tells a consumer that hangs from one that is idle.
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
"""Age of a process's last heartbeat after which Dramatiq counts it as dead."""
WORKER = "worker-"
"""Prefix of the broker ids of workers. Processes that only enqueue send heartbeats too."""
POP_LIMIT = 100

SCHEDULE = """
-- Add a turn to the sorted set of delayed turns. Wake a poller if the turn is now the first due.
-- KEYS 1 zset: turn -> due time in ms   KEYS 2 list: one element wakes one poller   KEYS 3 hash: turn -> trace context
-- ARGV 1 turn   ARGV 2 due time in ms since the epoch   ARGV 3 longest list   ARGV 4 trace context or empty
-- Reply: 1 if the turn is the first due, else 0. Atomic.
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
-- Remove the turns that are due from the sorted set.
-- KEYS 1 zset: turn -> due time in ms   KEYS 2 hash: turn -> trace context
-- ARGV 1 maximum number of turns
-- Reply: [ms until the next turn is due or -1, turn, trace context, turn, ...]. Atomic: each turn is returned once.
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
    Dramatiq's Redis broker, with a heartbeat for each consumer.

    Dramatiq calls Redis without a timeout: when a response is lost on the way, the consumer waits forever, its thread
    stays alive, and no messages arrive. When Redis refuses connections, consumers still poll and send heartbeats.
    """

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 -- Dramatiq's
        super().__init__(**options)  # type: ignore[no-untyped-call]  # dramatiq leaves it untyped
        self.last_heartbeat: dict[str, float] = {}
        """Monotonic time of the last heartbeat of each queue's consumer, in seconds."""

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> dramatiq.Consumer:
        """Return a consumer. *timeout* is in milliseconds."""

        def record_heartbeat() -> None:
            self.last_heartbeat[queue_name] = time.monotonic()

        return _HeartbeatConsumer(super().consume(queue_name, prefetch, timeout), record_heartbeat)


class _HeartbeatConsumer(dramatiq.Consumer):
    """Records a heartbeat before each poll for a message."""

    def __init__(self, consumer: dramatiq.Consumer, record_heartbeat: Callable[[], None]) -> None:
        self._consumer = consumer
        self._record_heartbeat = record_heartbeat
        record_heartbeat()

    def __next__(self) -> dramatiq.MessageProxy | None:
        """Poll for a message."""
        self._record_heartbeat()
        return next(self._consumer)

    def ack(self, message: dramatiq.MessageProxy) -> None:
        """Delegate."""
        self._consumer.ack(message)

    def nack(self, message: dramatiq.MessageProxy) -> None:
        """Delegate."""
        self._consumer.nack(message)

    def requeue(self, messages: Iterable[dramatiq.MessageProxy]) -> None:
        """Delegate."""
        self._consumer.requeue(messages)

    def close(self) -> None:
        """Delegate."""
        self._consumer.close()


def make_broker(config: settings.RedisSettings, middleware: list[dramatiq.Middleware]) -> Broker:
    """
    Return a broker with the product's queues declared.

    Configured by URL, redis-py does not retry (by host it would retry a push). Maintenance on 10 % of the commands and
    a heartbeat timeout of 30 s return the messages of a killed worker to the queue within about a minute.
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
    """Port `ports.TurnQueue`. Each method takes one round trip; Dramatiq's blocking enqueue runs in a thread."""

    def __init__(self, broker: dramatiq.Broker, client: redis.asyncio.Redis) -> None:
        self._broker = broker
        self._client = client
        self._schedule = client.register_script(SCHEDULE)

    async def enqueue(self, turn: turns.Turn) -> None:
        """Enqueue a turn to run now."""
        turn = _with_trace_context(turn)
        message: dramatiq.Message[Any] = dramatiq.Message(
            queue_name=turns.QUEUE, actor_name=turns.ACTOR, args=(), kwargs=turn.payload(), options={}
        )
        with redis_client.translated():
            await asyncio.to_thread(self._broker.enqueue, message)

    async def schedule(self, turn: turns.Turn, due: float) -> None:
        """Enqueue a turn at *due*, in epoch seconds. A repeated call for the same turn replaces its due time."""
        with redis_client.translated():
            await self._schedule(
                keys=[WAITING, WAKE, CARRIED],
                args=[f"{turn.job_id}:{turn.number}", int(due * 1000), WAKE_LENGTH, _with_trace_context(turn).carried],
            )


def _with_trace_context(turn: turns.Turn) -> turns.Turn:
    return turn if turn.carried else dataclasses.replace(turn, carried=tracing.serialize_context())


class DelayedQueuePoller:
    """Moves delayed turns to the queue when they are due. Sleeps until the first due time, which may move earlier."""

    def __init__(self, client: redis.asyncio.Redis, queue: DramatiqQueue, *, max_sleep: float = 5.0) -> None:
        self._blocking_client = redis_client.make_blocking_client(client, max_block=max_sleep)
        self._pop_due = client.register_script(POP_DUE)
        self._queue = queue
        self._max_sleep = max_sleep

    async def enqueue_due(self) -> float:
        """
        Enqueue all turns that are due; return the seconds to sleep before the next call.

        One round trip, and one more for each turn.
        """
        with redis_client.translated():
            reply = [item.decode() for item in await self._pop_due(keys=[WAITING, CARRIED], args=[POP_LIMIT])]
        wait, due = int(reply[0]), reply[1::2]
        for member, carried in zip(due, reply[2::2], strict=True):
            job_id, number = member.rsplit(":", 1)
            await self._queue.enqueue(turns.Turn(job_id, int(number), carried))
        if len(due) == POP_LIMIT:
            return 0.0
        return self._max_sleep if wait < 0 else min(wait / 1000, self._max_sleep)

    async def sleep(self, seconds: float) -> None:
        """Wait for *seconds*, or until a turn with an earlier due time is scheduled."""
        if seconds > 0:
            with redis_client.translated():
                await self._blocking_client.blpop([WAKE], timeout=max(0.001, seconds))

    async def close(self) -> None:
        """Close the blocking connection."""
        await self._blocking_client.aclose()
