"""
The turn queue: a sorted set of turns by due time, a line of due turns for each caller, and Dramatiq's queue.

Every turn begins in the sorted set. When it is due, a poller moves it to the line of its caller. From the lines it goes
to Dramatiq's queue, whose order is fixed, while that queue is short: the caller with the smallest tag first, each turn
advancing its caller's tag by one. So the 300 turns of one caller delay the first turn of another by hardly more than
one. A turn of a job that several callers asked for goes to the line with the smallest tag.

Dramatiq's own delayed messages are not used: a restart of Redis strands them (Bogdanp/dramatiq#527), and messages due
late starve those due early. All structures may be lost: `jobs.next_turn_at` is authoritative, and the sweeper enqueues
from it. The sorted set is also that of releases without lines, which enqueue immediate turns themselves.

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
CALLERS = "indexer:{turns}:callers"
TAGS = "indexer:{turns}:tags"
LINE = "indexer:{turns}:line:"
"""Start of the keys of the lines; the caller's name follows, which is empty for the unnamed caller."""
READY = f"dramatiq:{turns.QUEUE}"
"""Dramatiq's list of messages that no worker has fetched."""
SWEEP = "indexer:{turns}:sweep"
WAKE_LENGTH = 8
SWEEP_TTL = 60
"""Seconds for which a requested sweep waits for a worker."""
POP_LIMIT = 100
FULL_PAUSE = 0.05
"""Seconds until the next look while turns are in line and Dramatiq's queue is full. Half of the time after which an
idle consumer polls, so that its queue is never empty meanwhile."""
WAITED = "waited"
"""Option of a message: seconds from the turn's due time until it was released."""
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
--      4 string: Redis' time in ms when it was last read   KEYS 5 hash: turn -> its callers, separated by commas
-- ARGV 1 turn   ARGV 2 delay in ms   ARGV 3 longest list   ARGV 4 trace context or empty   ARGV 5 callers or empty
-- Reply: 1 if the turn is the first due, else 0. Atomic.
local waiting, wake = KEYS[1], KEYS[2]
redis.call('ZADD', waiting, string.format('%.0f', read_clock(waiting, KEYS[4]) + ARGV[2]), ARGV[1])
if ARGV[4] ~= '' then
  redis.call('HSET', KEYS[3], ARGV[1], ARGV[4])
end
if ARGV[5] ~= '' then
  redis.call('HSET', KEYS[5], ARGV[1], ARGV[5])
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
-- Move the turns that are due from the sorted set to the lines of their callers, and as many as there is room for from
-- the lines to the caller of this script.
-- KEYS 1 zset: turn -> due time in ms   KEYS 2 hash: turn -> trace context
--      3 string: Redis' time in ms when it was last read   KEYS 4 hash: turn -> its callers, separated by commas
--      5 zset: caller -> tag of its next turn   KEYS 6 list: messages that no worker has fetched
-- ARGV 1 most turns to move to the lines   ARGV 2 longest list of messages   ARGV 3 start of the lines' keys
-- Lines are zsets: turn -> due time in ms. A turn that is enqueued again keeps its place.
-- Reply: [ms until the next turn is due or -1, number of turns left in the lines,
--         turn, trace context, ms since it was due, turn, ...]. Atomic: each turn is returned once.
local waiting, tags, line = KEYS[1], KEYS[5], ARGV[3]
local now = read_clock(waiting, KEYS[3])

-- Return the caller with the smallest tag that has turns in line, and the tag. Forget callers that precede nobody.
local function first_in_line()
  local entries = redis.call('ZRANGE', tags, 0, -1, 'WITHSCORES')
  for i = 1, #entries, 2 do
    if redis.call('ZCARD', line .. entries[i]) > 0 then
      return entries[i], tonumber(entries[i + 1])
    end
    redis.call('ZREM', tags, entries[i])
  end
  return nil, 0
end

local _, least = first_in_line()
local due = redis.call('ZRANGEBYSCORE', waiting, '-inf', now, 'WITHSCORES', 'LIMIT', 0, ARGV[1])
for i = 1, #due, 2 do
  local names, chosen, tag, ahead = redis.call('HGET', KEYS[4], due[i]) or '', '', nil, 0
  for caller in string.gmatch(names, '[^,]+') do
    local known = math.max(least, tonumber(redis.call('ZSCORE', tags, caller) or least))
    local count = redis.call('ZCARD', line .. caller)
    if not tag or known < tag or known == tag and count < ahead then
      chosen, tag, ahead = caller, known, count
    end
  end
  redis.call('ZADD', tags, 'NX', least, chosen)
  redis.call('ZADD', line .. chosen, 'NX', due[i + 1], due[i])
  redis.call('ZREM', waiting, due[i])
end

local reply = {}
for _ = 1, ARGV[2] - redis.call('LLEN', KEYS[6]) do
  local caller, tag = first_in_line()
  if not caller then
    break
  end
  local turn = redis.call('ZRANGE', line .. caller, 0, 0, 'WITHSCORES')
  redis.call('ZREM', line .. caller, turn[1])
  redis.call('ZADD', tags, tag + 1, caller)
  reply[#reply + 1] = turn[1]
  reply[#reply + 1] = redis.call('HGET', KEYS[2], turn[1]) or ''
  reply[#reply + 1] = string.format('%.0f', math.max(0, now - turn[2]))
  redis.call('HDEL', KEYS[2], turn[1])
  redis.call('HDEL', KEYS[4], turn[1])
end

local left = 0
for _, caller in ipairs(redis.call('ZRANGE', tags, 0, -1)) do
  left = left + redis.call('ZCARD', line .. caller)
end
local rest = redis.call('ZRANGE', waiting, 0, 0, 'WITHSCORES')
local wait = -1
if rest[2] then
  wait = math.max(0, rest[2] - now)
end
table.insert(reply, 1, string.format('%.0f', left))
table.insert(reply, 1, string.format('%.0f', wait))
return reply
"""
)


class DramatiqQueue:
    """
    Port `ports.TurnQueue`. Each method takes one round trip; Dramatiq's blocking enqueue runs in a thread.

    Args:
        broker: Where turns go whose caller it is the turn of.

        client: Where turns wait for their due time and in the lines.

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
        """Enqueue a turn to run as soon as it is the turn of its caller."""
        await self._add(turn, 0)

    async def schedule(self, turn: turns.Turn, due: float) -> None:
        """Enqueue a turn at *due*, in epoch seconds. A repeated call for the same turn replaces its due time."""
        await self._add(turn, max(0, int((due - self._clock()) * 1000)))

    async def _add(self, turn: turns.Turn, delay_ms: int) -> None:
        carried, callers = _with_trace_context(turn).carried, ",".join(turn.callers)
        with self._noting_failures():
            await self._schedule(
                keys=[WAITING, WAKE, CARRIED, CLOCK, CALLERS],
                args=[f"{turn.job_id}:{turn.number}", delay_ms, WAKE_LENGTH, carried, callers],
            )

    async def release(self, turn: turns.Turn, waited: float) -> None:
        """Hand a turn to the workers that was due *waited* seconds ago."""
        message: dramatiq.Message[Any] = dramatiq.Message(
            queue_name=turns.QUEUE, actor_name=turns.ACTOR, args=(), kwargs=turn.payload(), options={WAITED: waited}
        )
        with self._noting_failures():
            await asyncio.to_thread(self._broker.enqueue, message)

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
    Moves turns to the lines of their callers when they are due, and from the lines to Dramatiq's queue.

    Sleeps until the first due time, which may move earlier.

    Args:
        client: Where turns wait.

        queue: Where they are released.

        most_ready: Messages that no worker has fetched, up to which turns are released: a released turn precedes those
            in line, whosever turn it is.

        max_sleep: Longest sleep, in seconds.

        on_sweep_requested: Called when a process requests a sweep; one worker gets each request.
    """

    def __init__(
        self,
        client: redis.asyncio.Redis,
        queue: DramatiqQueue,
        *,
        most_ready: int = 8,
        max_sleep: float = 5.0,
        on_sweep_requested: Callable[[], None] = lambda: None,
    ) -> None:
        self._blocking_client = redis_client.make_blocking_client(client, max_block=max_sleep)
        self._pop_due = client.register_script(POP_DUE)
        self._queue = queue
        self._most_ready = most_ready
        self._max_sleep = max_sleep
        self._on_sweep_requested = on_sweep_requested

    async def enqueue_due(self) -> float:
        """
        Release due turns while there is room; return the seconds to sleep before the next call.

        One round trip, and one more for each turn.
        """
        with redis_client.translated():
            raw = await self._pop_due(
                keys=[WAITING, CARRIED, CLOCK, CALLERS, TAGS, READY], args=[POP_LIMIT, self._most_ready, LINE]
            )
        wait, left, *released = (item.decode() for item in raw)
        for member, carried, waited_ms in zip(released[::3], released[1::3], released[2::3], strict=True):
            job_id, number = member.rsplit(":", 1)
            await self._queue.release(turns.Turn(job_id, int(number), carried), int(waited_ms) / 1000)
        if int(left):
            return 0.0 if released else FULL_PAUSE
        return self._max_sleep if int(wait) < 0 else min(int(wait) / 1000, self._max_sleep)

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
