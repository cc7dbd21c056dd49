"""
What an observer reads of the queue in Redis, by Dramatiq's keys; changes nothing.

Dramatiq 2.2 keeps, says its brokers/redis/dispatch.lua: `dramatiq:Q`, a list of ids that no worker has taken;
`dramatiq:Q.msgs`, a hash of all live messages; `dramatiq:Q.XQ`, a sorted set of dead letters; and
`dramatiq:__heartbeats__`, one of processes. The list alone would miss what workers have fetched ahead.
"""

import dataclasses
import json
from typing import Any

import redis.asyncio

from indexing.domain import turns
from indexing.messaging import queue, redis_client


@dataclasses.dataclass(frozen=True, slots=True)
class QueueDepth:
    """
    One queue.

    Attributes:
        live: Messages in the queue or held by workers.
        ready: Those that no worker has taken.
        dead: Dead letters.
        oldest: Age of the oldest ready one, in seconds; 0 without any.
    """

    live: int
    ready: int
    dead: int
    oldest: float


@dataclasses.dataclass(frozen=True, slots=True)
class QueueStats:
    """All queues by name, turns that wait for their time, and worker processes with a fresh heartbeat."""

    queues: dict[str, QueueDepth]
    waiting: int
    workers: int


async def read_queue_stats(client: redis.asyncio.Redis) -> QueueStats:
    """Read everything in two round trips. Raises errors.QueueUnavailable."""
    with redis_client.translated():
        pipe = client.pipeline(transaction=False)
        pipe.time()
        pipe.zcard(queue.WAITING)
        pipe.zrangebyscore("dramatiq:__heartbeats__", "-inf", "+inf", withscores=True)
        for name in turns.QUEUES:
            pipe.hlen(f"dramatiq:{name}.msgs")
            pipe.llen(f"dramatiq:{name}")
            pipe.zcard(f"dramatiq:{name}.XQ")
            pipe.lindex(f"dramatiq:{name}", 0)
        (seconds, micros), waiting, beats, *rest = await pipe.execute()
        now = seconds + micros / 1e6
        rows = [rest[at : at + 4] for at in range(0, len(rest), 4)]
        oldest = await _ages(client, [row[3] for row in rows], now)
    found = {
        name: QueueDepth(live, ready, dead, age)
        for name, (live, ready, dead, _), age in zip(turns.QUEUES, rows, oldest, strict=True)
    }
    fresh = now * 1000 - queue.HEARTBEAT_MS
    workers = sum(name.startswith(queue.WORKER.encode()) and at > fresh for name, at in beats)
    return QueueStats(found, waiting, workers)


async def _ages(client: redis.asyncio.Redis, first: list[bytes | None], now: float) -> list[float]:
    """Return the age of the first message of each queue; one that was taken meanwhile has none."""
    pipe = client.pipeline(transaction=False)
    for name, message_id in zip(turns.QUEUES, first, strict=True):
        pipe.hget(f"dramatiq:{name}.msgs", message_id or b"")
    bodies: list[Any] = await pipe.execute()
    return [max(0.0, now - json.loads(body)["message_timestamp"] / 1000) if body else 0.0 for body in bodies]
