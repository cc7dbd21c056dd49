"""
Queue statistics, read from Redis: turns in Dramatiq's queue and in the lines of callers. Read-only.

Keys of Dramatiq 2.2 (brokers/redis/dispatch.lua): `dramatiq:Q`, a list of message ids that no worker has fetched;
`dramatiq:Q.msgs`, a hash of all live messages; `dramatiq:Q.XQ`, a sorted set of dead letters;
`dramatiq:__heartbeats__`, a sorted set of processes. The list alone would miss messages that workers have prefetched.
"""

import dataclasses
import json
import re
from typing import Any

import redis.asyncio

from indexing.domain import turns
from indexing.messaging import queue, redis_client


@dataclasses.dataclass(frozen=True, slots=True)
class QueueDepth:
    """
    Messages of one queue.

    Attributes:
        live: Turns in line, queued, or held by workers.
        ready: Live turns that no worker has fetched.
        dead: Dead letters.
        oldest: Seconds since the oldest ready turn was due; 0 without any.
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
    """Read all statistics in four round trips. Raises errors.QueueUnavailable."""
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
        in_line, age_in_line = await _read_lines(client, now)
    queues = {
        name: QueueDepth(live, ready, dead, age)
        for name, (live, ready, dead, _), age in zip(turns.QUEUES, rows, oldest, strict=True)
    }
    depth = queues[turns.QUEUE]
    queues[turns.QUEUE] = QueueDepth(
        depth.live + in_line, depth.ready + in_line, depth.dead, max(depth.oldest, age_in_line)
    )
    oldest_live = now * 1000 - queue.HEARTBEAT_MS
    workers = sum(name.startswith(queue.WORKER.encode()) and at > oldest_live for name, at in heartbeats)
    return QueueStats(queues, waiting, workers)


@dataclasses.dataclass(frozen=True, slots=True)
class ServerFacts:
    """
    What Redis says of itself.

    Attributes:
        memory_used: Used share of maxmemory; 0 without one.
        evicts: Whether keys are evicted when the memory is full.
        disk_failed: Whether the last write to disk failed.
        replicas: Number of connected replicas.
        replica_lag: Seconds since the last word of the slowest replica; 0 without one.
    """

    memory_used: float
    evicts: bool
    disk_failed: bool
    replicas: int
    replica_lag: float


async def read_server_facts(client: redis.asyncio.Redis) -> ServerFacts:
    """Read INFO. Raises errors.QueueUnavailable."""
    with redis_client.translated():
        info: dict[str, Any] = await client.info()
    limit = int(info.get("maxmemory", 0))
    lags = [value["lag"] for name, value in info.items() if re.fullmatch(r"slave\d+", name) and "lag" in value]
    return ServerFacts(
        memory_used=int(info.get("used_memory", 0)) / limit if limit else 0.0,
        evicts=bool(limit) and str(info.get("maxmemory_policy", "noeviction")) != "noeviction",
        disk_failed="err" in {info.get("aof_last_write_status"), info.get("rdb_last_bgsave_status")},
        replicas=int(info.get("connected_slaves", 0)),
        replica_lag=float(max(map(int, lags), default=0)),
    )


async def _read_ages(client: redis.asyncio.Redis, first: list[bytes | None], now: float) -> list[float]:
    """Return the age of the first message of each queue; 0 when a worker has fetched it meanwhile."""
    pipe = client.pipeline(transaction=False)
    for name, message_id in zip(turns.QUEUES, first, strict=True):
        pipe.hget(f"dramatiq:{name}.msgs", message_id or b"")
    bodies: list[Any] = await pipe.execute()
    return [_age_of(json.loads(body), now) if body else 0.0 for body in bodies]


def _age_of(message: dict[str, Any], now: float) -> float:
    waited: float = message["options"].get(queue.WAITED, 0.0)
    sent: float = message["message_timestamp"]
    return max(0.0, now - sent / 1000 + waited)


async def _read_lines(client: redis.asyncio.Redis, now: float) -> tuple[int, float]:
    """Return the number of turns in line, and how long ago the oldest of them was due."""
    callers: Any = await client.zrange(queue.TAGS, 0, -1)
    pipe = client.pipeline(transaction=False)
    for caller in callers:
        pipe.zcard(queue.LINE + caller.decode())
        pipe.zrange(queue.LINE + caller.decode(), 0, 0, withscores=True)
    found: list[Any] = await pipe.execute()
    dues = [due / 1000 for first in found[1::2] for _, due in first]
    return sum(found[::2]), max(0.0, now - min(dues, default=now))
