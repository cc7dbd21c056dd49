"""
Progress of jobs, from whoever runs a turn to the watchers in any process.

Each job has a bounded Redis stream with a time to live. A process reads all streams that its watchers need with one
connection. Round trips: one for each published update, one for each reading of however many streams.
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

from indexing import errors
from indexing.domain import model, ports
from indexing.messaging import feed, redis_client
from indexing.telemetry import logs

LENGTH = 1_000
"""Updates that a stream keeps: a job of 200 guilds makes about 400."""
TTL = 3_600
"""Seconds after the last update; a later watcher gets a snapshot."""
FIRST = "0-0"
BLOCK_MS = 5_000
RETRY = 1.0
PACE = 0.00002
"""
Seconds of rest after each reading, for each stream that is read.

Redis looks at every stream for each reading, so a process with 1,000 of them reads 50 times a second at most, and
what is published meanwhile comes in one answer.
"""
FIRSTS = """
-- Where some streams begin, without what stands there.
-- KEYS streams of updates
-- Reply: the first entry's id of each, empty for a stream that is not there. Atomic.
local firsts = {}
for place, key in ipairs(KEYS) do
  local first = redis.call('XRANGE', key, '-', '+', 'COUNT', 1)[1]
  firsts[place] = first and first[1] or ''
end
return firsts
"""
_ENCODER = msgspec.json.Encoder(enc_hook=int)
"""Integers that were read from MongoDB are of a subclass of int."""


def _key(job_id: str) -> str:
    return f"indexer:{{events}}:{job_id}"


def _published(kind: type, *more: tuple[str, type, object]) -> Any:  # noqa: ANN401 -- a class made here has no static type
    """Return the form in which values of a dataclass are published: release 0.1 calls `reason` "error"."""
    hints = typing.get_type_hints(kind)
    fields = [
        (field.name, hints[field.name])
        if field.default is dataclasses.MISSING
        else (field.name, hints[field.name], field.default)
        for field in dataclasses.fields(kind)
    ]
    return msgspec.defstruct(kind.__name__, [*fields, *more], rename={"reason": "error"})


_Job = _published(model.Job)
_Task = _published(model.GuildTask, ("score", float, 0.0))
"""Release 0.1 does not read a task without a score; nothing else does."""
_JOB_VALUES = operator.attrgetter(*(field.name for field in dataclasses.fields(model.Job)))
_TASK_VALUES = operator.attrgetter(*(field.name for field in dataclasses.fields(model.GuildTask)))
_Update = msgspec.defstruct("_Update", [("job", _Job), ("tally", model.Tally), ("units", list[_Task], [])])  # type: ignore[valid-type]  # made above
_UPDATE = msgspec.json.Decoder(_Update)


class RedisEvents:
    """Port `ports.Events`. Run `read` as a task in a process that has watchers."""

    def __init__(self, client: redis.asyncio.Redis, merged: Callable[[int], None] = lambda _: None) -> None:
        self._client = client
        self._merged = merged
        self._blocking = redis_client.blocking_twin(client, longest=BLOCK_MS / 1000)
        self._wake = f"indexer:{{events}}:wake:{uuid.uuid4().hex}"
        self._feeds: dict[str, feed.Feed] = {}
        self._ending = False
        self._reading = True
        self._firsts = client.register_script(FIRSTS)
        self._listener: Callable[[model.JobUpdate], None] | None = None
        self._log = logs.get(__name__)

    def add_listener(self, listener: Callable[[model.JobUpdate], None]) -> None:
        """Let somebody in this process know at once of every update that is published or read here."""
        self._listener = listener

    async def publish(self, update: model.JobUpdate) -> None:
        """Append an update to the job's bounded stream."""
        if self._listener is not None:
            self._listener(update)
        key = _key(update.job.job_id)
        with redis_client.translated():
            async with self._client.pipeline(transaction=False) as pipe:
                pipe.xadd(key, {"u": encode(update)}, maxlen=LENGTH, approximate=True)
                pipe.expire(key, TTL)
                await pipe.execute()

    async def get_last_position(self, job_id: str) -> str:
        """Return the position of the job's latest update, the first position when there is none."""
        with redis_client.translated():
            last: Any = await self._client.xrevrange(_key(job_id), count=1)
        return last[0][0].decode() if last else FIRST

    async def has_all_since(self, job_id: str, position: str) -> bool:
        """Return whether every update after *position* is still in the stream."""
        return bool(await self.list_retained([(job_id, position)]))

    async def list_retained(self, places: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
        """Return those of the places after which every update is still there; one round trip for however many."""
        with redis_client.translated():
            firsts: Any = await self._firsts(keys=[_key(job_id) for job_id, _ in places])
        return {
            (job_id, position)
            for (job_id, position), first in zip(places, firsts, strict=True)
            if first and feed.parse(first.decode()) <= feed.parse(position)
        }

    async def list_updated(self, positions: Mapping[str, str]) -> set[str]:
        """Return those of the jobs that have updates after these positions; one round trip for however many."""
        with redis_client.translated():
            reply = await self._client.xread({_key(job_id): place for job_id, place in positions.items()}, count=1)
        return {name.rsplit(":", 1)[1] for name, _ in _entries(reply)}

    async def subscribe(self, job_id: str, after: str) -> ports.Subscription:
        """Listen to the job's updates after a position."""
        known = self._feeds.get(job_id)
        if known is None or not known.watchers:
            known = self._feeds[job_id] = feed.Feed(after, self._merged)
            missed = self._include()
        else:
            missed = self._between(job_id, after, known)
        watcher = feed.Watcher(known, after)
        try:
            known.prepend(after, await missed)
        except BaseException:
            await watcher.close()
            raise
        if self._ending:
            watcher.release()
        watcher.wake()
        return watcher

    async def delete_streams(self, job_ids: Collection[str]) -> None:
        """Erase the streams of jobs."""
        with redis_client.translated():
            if job_ids:
                await self._client.unlink(*map(_key, job_ids))

    def wake_all_watchers(self) -> None:
        """Let every watcher of this process, and each that is still to come, return from `next` at once."""
        self._ending = True
        for known in self._feeds.values():
            for watcher in known.watchers:
                watcher.release()

    async def _include(self) -> list[model.JobUpdate]:
        """Make the reader begin again with a new stream, of which nothing is known yet; at rest, it will anyway."""
        if self._reading:
            with redis_client.translated():
                async with self._client.pipeline(transaction=False) as pipe:
                    pipe.xadd(self._wake, {"w": "1"}, maxlen=1)
                    pipe.expire(self._wake, TTL)
                    await pipe.execute()
        return []

    async def _between(self, job_id: str, after: str, known: feed.Feed) -> list[model.JobUpdate]:
        """Return the updates after a position that the feed lacks."""
        if feed.parse(after) >= known.start:
            return []
        first, second = known.start
        with redis_client.translated():
            missed: Any = await self._client.xrange(_key(job_id), min=f"({after}", max=f"{first}-{second}")
        updates = [decode(position, fields) for position, fields in missed]
        return [update for update in updates if update is not None]

    async def relay_updates(self) -> None:
        """Feed the watchers until cancelled; an outage of Redis is waited out, the watchers then go on."""
        wake = FIRST
        while True:
            self._feeds = {job_id: known for job_id, known in self._feeds.items() if known.watchers}
            # Kept aside: a feed that begins while the answer is on its way is not given what an older one asked for.
            asked = dict(self._feeds)
            streams: dict[Any, Any] = {_key(job_id): known.position for job_id, known in asked.items()}
            self._reading = True
            try:
                with redis_client.translated():
                    reply = await self._blocking.xread({**streams, self._wake: wake}, block=BLOCK_MS, count=100)
            except errors.QueueUnavailable as error:
                self._log.warning("events_unreadable", error=str(error))
                await asyncio.sleep(RETRY)
                continue
            for name, entries in _entries(reply):
                if name == self._wake:
                    wake = entries[-1][0].decode()
                elif (known := asked.get(name.rsplit(":", 1)[1])) is not None:
                    for position, fields in entries:
                        if (update := decode(position, fields)) is not None:
                            self._take(known, update)
                        else:
                            known.skip(position.decode())
            self._reading = False
            await asyncio.sleep(PACE * len(asked))

    def _take(self, known: feed.Feed, update: model.JobUpdate) -> None:
        known.append(update)
        if self._listener is not None:
            self._listener(update)

    async def close(self) -> None:
        """Close the blocking connection and forget the wake-up stream."""
        with contextlib.suppress(errors.QueueUnavailable), redis_client.translated():
            await self._client.delete(self._wake)
        await self._blocking.aclose()


def encode(update: model.JobUpdate) -> bytes:
    """Return an update as it is published."""
    tasks = [_Task(*_TASK_VALUES(task)) for task in update.tasks]
    return _ENCODER.encode(_Update(_Job(*_JOB_VALUES(update.job)), update.tally, tasks))


def decode(position: bytes, fields: dict[bytes, bytes]) -> model.JobUpdate | None:
    """Return an entry's update; None when it is of a release that says what we cannot read: it must hold up nobody."""
    try:
        update: Any = _UPDATE.decode(fields[b"u"])
    except (msgspec.DecodeError, KeyError) as problem:
        logs.get(__name__).warning("update_unreadable", error=str(problem))
        return None
    tasks = tuple(model.GuildTask(*_TASK_VALUES(task)) for task in update.units)
    return model.JobUpdate(model.Job(*_JOB_VALUES(update.job)), update.tally, tasks, position.decode())


def _entries(reply: object) -> list[tuple[str, list[tuple[bytes, dict[bytes, bytes]]]]]:
    """Return (stream, entries) pairs from either protocol's shape: a list of pairs, or a map."""
    pairs: Any = reply.items() if isinstance(reply, dict) else reply or []
    found = []
    for name, entries in pairs:
        flat = entries[0] if entries and isinstance(entries[0], list) else entries
        found.append((name.decode(), flat))
    return found
