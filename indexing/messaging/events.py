"""
Progress updates of jobs, published by the process that runs a turn and relayed to the watchers in every process.

Each job has a bounded Redis stream with a time to live. A process reads all streams that its watchers need over one
connection. Round trips: one for each published update, one for each read of any number of streams.
"""

import asyncio
import contextlib
import dataclasses
import operator
import typing
import uuid
from collections.abc import Callable, Collection, Mapping
from typing import Any

import msgspec
import redis.asyncio

from indexing import concurrency, errors
from indexing.domain import job_updates, model, ports
from indexing.messaging import feed, redis_client
from indexing.telemetry import logs

MAX_LENGTH = 1_000
"""Updates that a stream keeps. A job of 200 guilds publishes about 400."""
TTL = 3_600
"""Seconds from the last update to the stream's expiry. A later watcher gets a snapshot."""
BLOCK_MS = 5_000
RETRY_DELAY = 1.0
APPEND_INTERVAL = 0.03
"""Least seconds between two writes of updates: updates of many jobs in between are written in one pipeline."""
READ_PAUSE = 0.00002
"""
Seconds of pause after each read, for each stream read.

Each read makes Redis look up every stream, so a process with 1,000 streams reads at most 50 times a second. Updates
published during the pause arrive in one response.
"""
READ_FIRST_IDS = """
-- The first entry id of each stream, without the entries.
-- KEYS streams of updates
-- Reply: the id of each stream's first entry, empty for a missing stream. Atomic.
local ids = {}
for index, key in ipairs(KEYS) do
  local first = redis.call('XRANGE', key, '-', '+', 'COUNT', 1)[1]
  ids[index] = first and first[1] or ''
end
return ids
"""
_ENCODER = msgspec.json.Encoder(enc_hook=int)
"""Integers read from MongoDB are of a subclass of int."""


def lag(position: bytes, now: float) -> float:
    """Return the seconds from the publishing of an update to *now*; 0 when Redis' clock is ahead."""
    return max(0.0, now - int(position.partition(b"-")[0]) / 1000)


def _key(job_id: str) -> str:
    return f"indexer:{{events}}:{job_id}"


def _wire_struct(kind: type, *more: tuple[str, type, object]) -> Any:  # noqa: ANN401 -- a class made here has no static type
    """Return the wire form of a dataclass. The wire name of `reason` is "error", as in release 0.1."""
    hints = typing.get_type_hints(kind)
    fields = [
        (field.name, hints[field.name])
        if field.default is dataclasses.MISSING
        else (field.name, hints[field.name], field.default)
        for field in dataclasses.fields(kind)
    ]
    return msgspec.defstruct(kind.__name__, [*fields, *more], rename={"reason": "error"})


_Job = _wire_struct(model.Job)
_Task = _wire_struct(model.GuildTask, ("score", float, 0.0))
"""`score` is published only because release 0.1 rejects a task without it."""
_JOB_VALUES = operator.attrgetter(*(field.name for field in dataclasses.fields(model.Job)))
_TASK_VALUES = operator.attrgetter(*(field.name for field in dataclasses.fields(model.GuildTask)))
_Update = msgspec.defstruct("_Update", [("job", _Job), ("tally", job_updates.Tally), ("units", list[_Task], [])])  # type: ignore[valid-type]  # made above
_UPDATE = msgspec.json.Decoder(_Update)


class RedisEvents:
    """Port `ports.Events`. A process with watchers runs `relay_updates` as a background task."""

    def __init__(
        self,
        client: redis.asyncio.Redis,
        merged: Callable[[int], None] = lambda _: None,
        observe_lag: Callable[[bytes], None] = lambda _: None,
    ) -> None:
        self._client = client
        self._merged = merged
        self._observe_lag = observe_lag
        self._blocking_client = redis_client.make_blocking_client(client, max_block=BLOCK_MS / 1000)
        self._wake_key = f"indexer:{{events}}:wake:{uuid.uuid4().hex}"
        self._feeds: dict[str, feed.Feed] = {}
        self._appends = concurrency.GroupCommit(self._append, interval=APPEND_INTERVAL)
        self._released = False
        self._reading = True
        self._read_first_ids = client.register_script(READ_FIRST_IDS)
        self._listener: Callable[[job_updates.JobUpdate], None] | None = None
        self._log = logs.get(__name__)

    def add_listener(self, listener: Callable[[job_updates.JobUpdate], None]) -> None:
        """Set the function that is called with every update that this process publishes or reads."""
        self._listener = listener

    async def publish(self, update: job_updates.JobUpdate) -> None:
        """Append an update to the job's bounded stream."""
        if self._listener is not None:
            self._listener(update)
        await self._appends.submit(update)

    async def _append(self, updates: list[job_updates.JobUpdate]) -> None:
        """Append updates, those of one job as one; 1 round trip for all."""
        merged: dict[str, job_updates.JobUpdate] = {}
        for update in updates:
            before = merged.get(update.job.job_id)
            rows = {task.guild_id: task for one in (before, update) if one is not None for task in one.tasks}
            newest = job_updates.with_newest_job(before, update)
            merged[update.job.job_id] = dataclasses.replace(newest, tasks=tuple(rows.values()))
        with redis_client.translated():
            async with self._client.pipeline(transaction=False) as pipe:
                for job_id, update in merged.items():
                    pipe.xadd(_key(job_id), {"u": encode(update)}, maxlen=MAX_LENGTH, approximate=True)
                    pipe.expire(_key(job_id), TTL)
                await pipe.execute()

    async def get_last_position(self, job_id: str) -> str:
        """Return the position of the job's latest update, the first without any."""
        with redis_client.translated():
            last: Any = await self._client.xrevrange(_key(job_id), count=1)
        return last[0][0].decode() if last else ports.FIRST_POSITION

    async def has_all_since(self, job_id: str, position: str) -> bool:
        """Return whether the stream still has every update after *position*."""
        return bool(await self.list_retained([(job_id, position)]))

    async def list_retained(self, positions: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
        """Return the (job, position) pairs after which the stream still has every update. One round trip."""
        with redis_client.translated():
            first_ids: Any = await self._read_first_ids(keys=[_key(job_id) for job_id, _ in positions])
        return {
            (job_id, position)
            for (job_id, position), first in zip(positions, first_ids, strict=True)
            if first and feed.parse(first.decode()) <= feed.parse(position)
        }

    async def list_updated(self, positions: Mapping[str, str]) -> set[str]:
        """Return the jobs that have updates after these positions. One round trip."""
        with redis_client.translated():
            reply = await self._client.xread({_key(job_id): after for job_id, after in positions.items()}, count=1)
        return {name.rsplit(":", 1)[1] for name, _ in read_entries(reply)}

    async def subscribe(self, job_id: str, after: str) -> ports.Subscription:
        """Subscribe to the job's updates after a position."""
        job_feed = self._feeds.get(job_id)
        if job_feed is None or not job_feed.watchers:
            job_feed = self._feeds[job_id] = feed.Feed(after, self._merged)
            missed = self._restart_read()
        else:
            missed = self._read_missed(job_id, after, job_feed)
        watcher = feed.Watcher(job_feed, after)
        try:
            job_feed.prepend(after, await missed)
        except BaseException:
            await watcher.close()
            raise
        if self._released:
            watcher.release()
        watcher.wake()
        return watcher

    async def delete_streams(self, job_ids: Collection[str]) -> None:
        """Delete the streams of jobs."""
        with redis_client.translated():
            if job_ids:
                await self._client.unlink(*map(_key, job_ids))

    def wake_all_watchers(self) -> None:
        """Make `next` of all watchers of this process return at once, including watchers that subscribe later."""
        self._released = True
        for job_feed in self._feeds.values():
            for watcher in job_feed.watchers:
                watcher.release()

    async def _restart_read(self) -> list[job_updates.JobUpdate]:
        """Interrupt a blocking read, so that the next one includes the new feed. Between reads nothing is needed."""
        if self._reading:
            with redis_client.translated():
                async with self._client.pipeline(transaction=False) as pipe:
                    pipe.xadd(self._wake_key, {"w": "1"}, maxlen=1)
                    pipe.expire(self._wake_key, TTL)
                    await pipe.execute()
        return []

    async def _read_missed(self, job_id: str, after: str, job_feed: feed.Feed) -> list[job_updates.JobUpdate]:
        """Return the updates after a position that the feed lacks."""
        if feed.parse(after) >= job_feed.start:
            return []
        milliseconds, sequence = job_feed.start
        with redis_client.translated():
            missed: Any = await self._client.xrange(_key(job_id), min=f"({after}", max=f"{milliseconds}-{sequence}")
        updates = [decode(position, fields) for position, fields in missed]
        return [update for update in updates if update is not None]

    async def relay_updates(self) -> None:
        """Read updates and append them to the feeds, until cancelled. Survives outages of Redis."""
        wake_position = ports.FIRST_POSITION
        while True:
            self._feeds = {job_id: job_feed for job_id, job_feed in self._feeds.items() if job_feed.watchers}
            # A copy: a feed created during the read must not get updates that were read for an older feed of the job.
            feeds = dict(self._feeds)
            streams: dict[Any, Any] = {_key(job_id): job_feed.position for job_id, job_feed in feeds.items()}
            self._reading = True
            try:
                with redis_client.translated():
                    reply = await self._blocking_client.xread(
                        {**streams, self._wake_key: wake_position}, block=BLOCK_MS, count=100
                    )
            except errors.QueueUnavailable as error:
                self._log.warning("events_unreadable", error=str(error))
                await asyncio.sleep(RETRY_DELAY)
                continue
            for name, entries in read_entries(reply):
                if name == self._wake_key:
                    wake_position = entries[-1][0].decode()
                elif (job_feed := feeds.get(name.rsplit(":", 1)[1])) is not None:
                    for position, fields in entries:
                        if (update := decode(position, fields)) is not None:
                            self._observe_lag(position)
                            self._relay(job_feed, update)
                        else:
                            job_feed.skip(position.decode())
            self._reading = False
            await asyncio.sleep(READ_PAUSE * len(feeds))

    def _relay(self, job_feed: feed.Feed, update: job_updates.JobUpdate) -> None:
        job_feed.append(update)
        if self._listener is not None:
            self._listener(update)

    async def close(self) -> None:
        """Close the blocking connection and delete the wake-up stream."""
        with contextlib.suppress(errors.QueueUnavailable), redis_client.translated():
            await self._client.delete(self._wake_key)
        await self._blocking_client.aclose()


def encode(update: job_updates.JobUpdate) -> bytes:
    """Encode an update for the stream."""
    tasks = [_Task(*_TASK_VALUES(task)) for task in update.tasks]
    return _ENCODER.encode(_Update(_Job(*_JOB_VALUES(update.job)), update.tally, tasks))


def decode(position: bytes, fields: dict[bytes, bytes]) -> job_updates.JobUpdate | None:
    """Decode an entry; None for an entry of an incompatible release, which must not stop the stream."""
    try:
        update: Any = _UPDATE.decode(fields[b"u"])
    except (msgspec.DecodeError, KeyError) as problem:
        logs.get(__name__).warning("update_unreadable", error=str(problem))
        return None
    tasks = tuple(model.GuildTask(*_TASK_VALUES(task)) for task in update.units)
    return job_updates.JobUpdate(model.Job(*_JOB_VALUES(update.job)), update.tally, tasks, position.decode())


def read_entries(reply: object) -> list[tuple[str, list[tuple[bytes, dict[bytes, bytes]]]]]:
    """Return (stream, entries) pairs from the reply's shape in RESP2 (a list of pairs) or RESP3 (a map)."""
    pairs: Any = reply.items() if isinstance(reply, dict) else reply or []
    streams = []
    for name, entries in pairs:
        flat = entries[0] if entries and isinstance(entries[0], list) else entries
        streams.append((name.decode(), flat))
    return streams
