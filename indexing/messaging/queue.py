"""
The turn queue: Dramatiq's queue for turns that can run now, a sorted set for delayed turns.

Dramatiq's own delayed messages are not used: a restart of Redis strands them (Bogdanp/dramatiq#527), and messages due
late starve those due early. Both structures may be lost: `jobs.next_turn_at` is authoritative, and the sweeper enqueues
from it.

Only Redis' clock counts, in the scripts: processes hand over delays, so that the wrong clock of a machine neither holds
nor hurries a turn, and a step of Redis' clock moves the due times with it.
"""

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import dramatiq
import redis.asyncio

from indexing import errors
from indexing.domain import turns
from indexing.messaging import redis_client
from indexing.messaging.broker import HEARTBEAT_MS as HEARTBEAT_MS
from indexing.messaging.broker import WORKER as WORKER
from indexing.messaging.broker import Broker as Broker
from indexing.messaging.broker import make_broker as make_broker
from indexing.telemetry import tracing

WAITING = "indexer:{turns}:waiting"
WAKE = "indexer:{turns}:wake"
CARRIED = "indexer:{turns}:carried"
CLOCK = "indexer:{turns}:clock"
SWEEP = "indexer:{turns}:sweep"
WAKE_LENGTH = 8
SWEEP_TTL = 60
"""Seconds for which a requested sweep waits for a worker."""
POP_LIMIT = 100
LATE_WAKE = 1.0
"""Seconds past its timeout after which a blocking command is given up: Redis measures timeouts by its own clock."""

READ_CLOCK = """
-- Return Redis' time in ms. When its clock was set back since the last call, also of another server, the due times are
-- moved by as much, so that each turn keeps its delay. A step of up to a second changes nothing.
local function read_clock(waiting, clock)
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local seen = tonumber(redis.call('GET', clock) or 0)
  local step = seen - now
  if step > 1000 then
    local turns = redis.call('ZRANGE', waiting, 0, -1, 'WITHSCORES')
    for i = 1, #turns, 2 do
      redis.call('ZADD', waiting, string.format('%.0f', turns[i + 1] - step), turns[i])
    end
  end
  if step > 1000 or step < 0 then
    redis.call('SET', clock, string.format('%.0f', now))
  end
  return now
end
"""

SCHEDULE = (
    READ_CLOCK
    + """
-- Add a turn to the sorted set of delayed turns. Wake a poller if the turn is now the first due.
-- KEYS 1 zset: turn -> due time in ms   KEYS 2 list: one element wakes one poller   KEYS 3 hash: turn -> trace context
--      4 string: Redis' time in ms when it was last read
-- ARGV 1 turn   ARGV 2 delay in ms   ARGV 3 longest list   ARGV 4 trace context or empty
-- Reply: 1 if the turn is the first due, else 0. Atomic.
local waiting, wake = KEYS[1], KEYS[2]
redis.call('ZADD', waiting, string.format('%.0f', read_clock(waiting, KEYS[4]) + ARGV[2]), ARGV[1])
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
)

POP_DUE = (
    READ_CLOCK
    + """
-- Remove the turns that are due from the sorted set.
-- KEYS 1 zset: turn -> due time in ms   KEYS 2 hash: turn -> trace context
--      3 string: Redis' time in ms when it was last read
-- ARGV 1 maximum number of turns
-- Reply: [ms until the next turn is due or -1, turn, trace context, turn, ...]. Atomic: each turn is returned once.
local now = read_clock(KEYS[1], KEYS[3])
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
table.insert(reply, 1, string.format('%.0f', wait))
return reply
"""
)


class DramatiqQueue:
    """
    Port `ports.TurnQueue`. Each method takes one round trip; Dramatiq's blocking enqueue runs in a thread.

    Args:
        broker: Where turns are enqueued that can run now.

        client: Where delayed turns are stored.

        clock: The clock of the due times that `schedule` gets.

        on_failure: Called when a turn could not be enqueued.
    """

    def __init__(
        self,
        broker: dramatiq.Broker,
        client: redis.asyncio.Redis,
        clock: Callable[[], float] = time.time,  # noqa: TID251 -- the clock of processes that have no other
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        self._broker = broker
        self._client = client
        self._clock = clock
        self._on_failure = on_failure
        self._schedule = client.register_script(SCHEDULE)

    async def enqueue(self, turn: turns.Turn) -> None:
        """Enqueue a turn to run now."""
        turn = _with_trace_context(turn)
        message: dramatiq.Message[Any] = dramatiq.Message(
            queue_name=turns.QUEUE, actor_name=turns.ACTOR, args=(), kwargs=turn.payload(), options={}
        )
        with self._noting_failures():
            await asyncio.to_thread(self._broker.enqueue, message)

    async def schedule(self, turn: turns.Turn, due: float) -> None:
        """Enqueue a turn at *due*, in epoch seconds. A repeated call for the same turn replaces its due time."""
        delay_ms = max(0, int((due - self._clock()) * 1000))
        with self._noting_failures():
            await self._schedule(
                keys=[WAITING, WAKE, CARRIED, CLOCK],
                args=[f"{turn.job_id}:{turn.number}", delay_ms, WAKE_LENGTH, _with_trace_context(turn).carried],
            )

    @contextlib.contextmanager
    def _noting_failures(self) -> Iterator[None]:
        try:
            with redis_client.translated():
                yield
        except errors.QueueUnavailable:
            self._on_failure()
            raise


async def request_sweep(client: redis.asyncio.Redis) -> None:
    """Have one worker sweep now, because turns may have been lost or could not be enqueued."""
    with redis_client.translated():
        async with client.pipeline(transaction=False) as pipe:
            pipe.lpush(SWEEP, "1")
            pipe.ltrim(SWEEP, 0, 0)
            pipe.expire(SWEEP, SWEEP_TTL)
            await pipe.execute()


def _with_trace_context(turn: turns.Turn) -> turns.Turn:
    return turn if turn.carried else dataclasses.replace(turn, carried=tracing.serialize_context())


class DelayedQueuePoller:
    """
    Moves delayed turns to the queue when they are due. Sleeps until the first due time, which may move earlier.

    Args:
        client: Where delayed turns are stored.

        queue: Where they are enqueued.

        max_sleep: Longest sleep, in seconds.

        on_sweep_requested: Called when a process requests a sweep; one worker gets each request.
    """

    def __init__(
        self,
        client: redis.asyncio.Redis,
        queue: DramatiqQueue,
        *,
        max_sleep: float = 5.0,
        on_sweep_requested: Callable[[], None] = lambda: None,
    ) -> None:
        self._blocking_client = redis_client.make_blocking_client(client, max_block=max_sleep)
        self._pop_due = client.register_script(POP_DUE)
        self._queue = queue
        self._max_sleep = max_sleep
        self._on_sweep_requested = on_sweep_requested

    async def enqueue_due(self) -> float:
        """
        Enqueue all turns that are due; return the seconds to sleep before the next call.

        One round trip, and one more for each turn.
        """
        with redis_client.translated():
            reply = [item.decode() for item in await self._pop_due(keys=[WAITING, CARRIED, CLOCK], args=[POP_LIMIT])]
        wait, due = int(reply[0]), reply[1::2]
        for member, carried in zip(due, reply[2::2], strict=True):
            job_id, number = member.rsplit(":", 1)
            await self._queue.enqueue(turns.Turn(job_id, int(number), carried))
        if len(due) == POP_LIMIT:
            return 0.0
        return self._max_sleep if wait < 0 else min(wait / 1000, self._max_sleep)

    async def sleep(self, seconds: float) -> None:
        """Wait for *seconds*, or until a turn with an earlier due time is scheduled, or a sweep is requested."""
        if seconds <= 0:
            return
        with redis_client.translated(), contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds + LATE_WAKE):
                woken: Any = await self._blocking_client.blpop([SWEEP, WAKE], timeout=max(0.001, seconds))
            if woken is not None and woken[0].decode() == SWEEP:
                self._on_sweep_requested()

    async def close(self) -> None:
        """Close the blocking connection."""
        await self._blocking_client.aclose()
