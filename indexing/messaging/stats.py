"""
Queue statistics, read from Dramatiq's keys in Redis. Read-only.

Keys of Dramatiq 2.2 (brokers/redis/dispatch.lua): `dramatiq:Q`, a list of message ids that no worker has fetched;
`dramatiq:Q.msgs`, a hash of all live messages; `dramatiq:Q.XQ`, a sorted set of dead letters;
`dramatiq:__heartbeats__`, a sorted set of processes. The list alone would miss messages that workers have prefetched.
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
    Messages of one queue.

    Attributes:
        live: Messages queued or held by workers.
        ready: Live messages that no worker has fetched.
        dead: Dead letters.
        oldest: Age of the oldest ready message, in seconds; 0 without any.
    """

    live: int
    ready: int
    dead: int
    oldest: float


@dataclasses.dataclass(frozen=True, slots=True)
class QueueStats:
    """All queues by name, the number of delayed turns, and the number of workers with a recent heartbeat."""

    queues: dict[str, QueueDepth]
    waiting: int
    workers: int


async def read_queue_stats(client: redis.asyncio.Redis) -> QueueStats:
    """Read all statistics in two round trips. Raises errors.QueueUnavailable."""
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
        (seconds, micros), waiting, heartbeats, *rest = await pipe.execute()
        now = seconds + micros / 1e6
        rows = [rest[start : start + 4] for start in range(0, len(rest), 4)]
        oldest = await _read_ages(client, [row[3] for row in rows], now)
    queues = {
        name: QueueDepth(live, ready, dead, age)
        for name, (live, ready, dead, _), age in zip(turns.QUEUES, rows, oldest, strict=True)
    }
    oldest_live = now * 1000 - queue.HEARTBEAT_MS
    workers = sum(name.startswith(queue.WORKER.encode()) and at > oldest_live for name, at in heartbeats)
    return QueueStats(queues, waiting, workers)


async def _read_ages(client: redis.asyncio.Redis, first: list[bytes | None], now: float) -> list[float]:
    """Return the age of the first message of each queue; 0 when a worker has fetched it meanwhile."""
    pipe = client.pipeline(transaction=False)
    for name, message_id in zip(turns.QUEUES, first, strict=True):
        pipe.hget(f"dramatiq:{name}.msgs", message_id or b"")
    bodies: list[Any] = await pipe.execute()
    return [max(0.0, now - json.loads(body)["message_timestamp"] / 1000) if body else 0.0 for body in bodies]
