"""
Progress of jobs, from whoever runs a turn to the watchers in any process.

Each job has a bounded Redis stream with a time to live. A process reads all streams that its watchers need with one
connection and fans out; each watcher holds at most one row for each guild. Round trips: one for each published update,
one for each reading of however many streams.
"""

import asyncio
import contextlib
import dataclasses
import uuid
from typing import Any

import msgspec
import redis.asyncio

from indexing import errors, logs, model, ports
from indexing.bus import connection

LENGTH = 1_000
"""Updates that a stream keeps: a job of 200 guilds makes about 400."""
TTL = 3_600
"""Seconds after the last update; a later watcher gets a snapshot."""
FIRST = "0-0"
BLOCK_MS = 5_000
RETRY = 1.0
_UPDATE = msgspec.json.Decoder(model.Update)
_ENCODER = msgspec.json.Encoder(enc_hook=int)
"""Integers that were read from MongoDB are of a subclass of int."""


def _key(job_id: str) -> str:
    return f"indexer:{{events}}:{job_id}"


def _later(one: str, other: str) -> bool:
    return tuple(map(int, one.split("-"))) > tuple(map(int, other.split("-")))


class RedisEvents:
    """Port `ports.Events`. Run `read` as a task in a process that has watchers."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self._blocking = connection.blocking_twin(client, longest=BLOCK_MS / 1000)
        self._wake = f"indexer:{{events}}:wake:{uuid.uuid4().hex}"
        self._jobs: dict[str, _Feed] = {}
        self._log = logs.get(__name__)

    async def publish(self, update: model.Update) -> None:
        """Append an update to the job's bounded stream."""
        key = _key(update.job.job_id)
        with connection.translated():
            async with self._client.pipeline(transaction=False) as pipe:
                pipe.xadd(key, {"u": _ENCODER.encode(update)}, maxlen=LENGTH, approximate=True)
                pipe.expire(key, TTL)
                await pipe.execute()

    async def tail(self, job_id: str) -> str:
        """Return the position of the job's latest update, the first position when there is none."""
        with connection.translated():
            last: Any = await self._client.xrevrange(_key(job_id), count=1)
        return last[0][0].decode() if last else FIRST

    async def holds(self, job_id: str, position: str) -> bool:
        """Return whether every update after *position* is still in the stream."""
        with connection.translated():
            first: Any = await self._client.xrange(_key(job_id), count=1)
        return bool(first) and not _later(first[0][0].decode(), position)

    async def subscribe(self, job_id: str, after: str) -> ports.Subscription:
        """Listen to the job's updates after a position."""
        watcher = Watcher(self, job_id)
        feed = self._jobs.setdefault(job_id, _Feed(position=after))
        feed.watchers.add(watcher)
        if feed.position != after:
            # Others listen to this job already, and may be further: read up to where the feed surely continues.
            with connection.translated():
                missed: Any = await self._client.xrange(_key(job_id), min=f"({after}")
            for position, fields in missed:
                watcher.take(_decode(position, fields))
        else:
            with connection.translated():
                await self._client.xadd(self._wake, {"w": "1"}, maxlen=1)
                await self._client.expire(self._wake, TTL)
        return watcher

    def forget(self, job_id: str, watcher: "Watcher") -> None:
        """Stop feeding a watcher."""
        feed = self._jobs.get(job_id)
        if feed:
            feed.watchers.discard(watcher)
            if not feed.watchers:
                del self._jobs[job_id]

    async def read(self) -> None:
        """Feed the watchers until cancelled; an outage of Redis is waited out, the watchers then go on."""
        wake = FIRST
        while True:
            streams: dict[Any, Any] = {_key(job_id): feed.position for job_id, feed in self._jobs.items()}
            try:
                with connection.translated():
                    reply = await self._blocking.xread({**streams, self._wake: wake}, block=BLOCK_MS, count=100)
            except errors.QueueUnavailable as error:
                self._log.warning("events_unreadable", error=str(error))
                await asyncio.sleep(RETRY)
                continue
            for name, entries in _entries(reply):
                if name == self._wake:
                    wake = entries[-1][0].decode()
                else:
                    self._feed(name.rsplit(":", 1)[1], entries)

    def _feed(self, job_id: str, entries: list[tuple[bytes, dict[bytes, bytes]]]) -> None:
        feed = self._jobs.get(job_id)
        if feed is None:
            return
        for position, fields in entries:
            update = _decode(position, fields)
            feed.position = update.position
            for watcher in feed.watchers:
                watcher.take(update)

    async def close(self) -> None:
        """Close the blocking connection and forget the wake-up stream."""
        with contextlib.suppress(errors.QueueUnavailable), connection.translated():
            await self._client.delete(self._wake)
        await self._blocking.aclose()


@dataclasses.dataclass(slots=True)
class _Feed:
    position: str
    watchers: "set[Watcher]" = dataclasses.field(default_factory=set)


class Watcher:
    """Port `ports.Subscription`: merges updates until they are fetched."""

    def __init__(self, events: RedisEvents, job_id: str) -> None:
        self._events = events
        self._job_id = job_id
        self._last: model.Update | None = None
        self._units: dict[int, model.Unit] = {}
        self._arrived = asyncio.Event()

    def take(self, update: model.Update) -> None:
        """Merge an update; one that is older than what was seen changes nothing."""
        if self._last is None or _later(update.position, self._last.position):
            self._last = update
        for unit in update.units:
            seen = self._units.get(unit.guild_id)
            if seen is None or seen.revision < unit.revision:
                self._units[unit.guild_id] = unit
        self._arrived.set()

    async def next(self, patience: float) -> model.Update | None:
        """Return what changed since the last call, merged into one update; None after *patience* seconds of silence."""
        try:
            async with asyncio.timeout(patience):
                await self._arrived.wait()
        except TimeoutError:
            return None
        self._arrived.clear()
        units, self._units = self._units, {}
        return dataclasses.replace(self._last, units=tuple(units.values())) if self._last else None

    async def close(self) -> None:
        """Stop listening."""
        self._events.forget(self._job_id, self)


def _decode(position: bytes, fields: dict[bytes, bytes]) -> model.Update:
    return dataclasses.replace(_UPDATE.decode(fields[b"u"]), position=position.decode())


def _entries(reply: object) -> list[tuple[str, list[tuple[bytes, dict[bytes, bytes]]]]]:
    """Return (stream, entries) pairs from either protocol's shape: a list of pairs, or a map."""
    pairs = reply.items() if isinstance(reply, dict) else reply or []
    found = []
    for name, entries in pairs:  # type: ignore[attr-defined]  # the client types this reply as object
        flat = entries[0] if entries and isinstance(entries[0], list) else entries
        found.append((name.decode(), flat))
    return found
