"""
Stores what a shard's connections receive, in order, and how far that is.

One queue and one task for all connections of the shard, so that nothing overtakes. Everything queued before a proof is
stored before the proof is. When the queue is full, the connection stops reading; Discord then closes it in time, and
the session is resumed: nothing is dropped.
"""

import asyncio
import dataclasses
import time
from collections.abc import Iterable

from indexing import errors
from indexing.domain import feed, feed_ports, ports
from indexing.gateway import link, protocol
from indexing.telemetry import gateway_metrics, logs
from indexing.usecases import apply_feed, apply_members

MOST_QUEUED = 1_000
MOST_BATCH = 400
COLLECT_FOR = 0.1
"""Most items of a batch, and the longest time, in seconds, for which they are collected."""
RENEW_EVERY = 3.0
"""Seconds without a write after which the lease is renewed."""
RETRY_PAUSES = (0.1, 0.5, 1.0, 2.0, 5.0)


class LeaseLost(Exception):
    """Another process owns the shard; nothing more may be written."""


@dataclasses.dataclass(frozen=True, slots=True)
class SessionEnded:
    """The session is gone; its guilds are by REST until the next one."""

    cause: str


@dataclasses.dataclass(frozen=True, slots=True)
class Stop:
    """Nothing follows."""


Queued = link.Item | SessionEnded | Stop


@dataclasses.dataclass(frozen=True, slots=True)
class Stores:
    """What the feed is stored with; `lease` is in seconds."""

    shards: feed_ports.Shards
    writer: apply_feed.FeedWriter
    members: apply_members.MemberWriter
    clock: ports.Clock
    lease: float


class Applier:
    """
    Stores what one shard receives.

    Attributes:
        shard: The shard as this process stored it last.
        changed_at: When it stored the last event of a guild, or began, in monotonic seconds.
    """

    def __init__(self, shard: feed_ports.Shard, stores: Stores, metrics: gateway_metrics.GatewayMetrics) -> None:
        self.shard = shard
        self.changed_at = time.monotonic()
        self._shards = stores.shards
        self._writer = stores.writer
        self._members = stores.members
        self._metrics = metrics
        self._clock = stores.clock
        self._lease = stores.lease
        self._queue: asyncio.Queue[Queued] = asyncio.Queue(MOST_QUEUED)
        self._log = logs.get(__name__)

    async def put(self, item: Queued) -> None:
        """Queue an item, waiting while the queue is full."""
        await self._queue.put(item)

    async def run(self) -> None:
        """Store items until `Stop` is reached. Raises LeaseLost."""
        stopped = False
        while not stopped:
            items = await self._collect()
            stopped = bool(items) and isinstance(items[-1], Stop)
            await self._apply_until_stored(items)

    async def _collect(self) -> list[Queued]:
        """Return the next items; none when only the lease must be renewed."""
        try:
            async with asyncio.timeout(min(RENEW_EVERY, self._lease / 4)):
                items = [await self._queue.get()]
        except TimeoutError:
            return []
        until = time.monotonic() + COLLECT_FOR
        while len(items) < MOST_BATCH and not isinstance(items[-1], Stop):
            try:
                async with asyncio.timeout(max(0.0, until - time.monotonic())):
                    items.append(await self._queue.get())
            except TimeoutError:
                break
        self._metrics.queued.set(self._queue.qsize())
        return items

    async def _apply_until_stored(self, items: list[Queued]) -> None:
        for attempt in range(10**9):
            try:
                await self._apply(items)
            except errors.StoreUnavailable as problem:
                self._log.warning("feed_not_stored", shard=self.shard.key, error=str(problem))
                await asyncio.sleep(RETRY_PAUSES[min(attempt, len(RETRY_PAUSES) - 1)])
            else:
                return

    async def _apply(self, items: list[Queued]) -> None:
        """Store items; applying them again after a failure changes nothing that is stored."""
        part: list[link.Item] = []
        for item in items:
            if isinstance(item, protocol.Ready | SessionEnded):
                await self._store(part)
                part = []
                await self._change_session(item)
            elif not isinstance(item, Stop):
                part.append(item)
        await self._store(part)

    async def _store(self, items: list[link.Item]) -> None:
        if not self.shard.session and items:
            return
        received = [item for item in items if isinstance(item, link.Received)]
        events, members = _sorted(received)
        if events:
            self._metrics.stored.inc(await self._writer.apply(self.shard, events))
            self.changed_at = time.monotonic()
        if members:
            await self._store_members(members)
        proofs = [item.at for item in items if isinstance(item, protocol.Proof)]
        seq = max([self.shard.seq, *(one.seq for one in received)])
        until = self._clock() + self._lease
        proven = max(proofs, default=self.shard.synced_at)
        if not await self._shards.checkpoint(self.shard, seq=seq, synced_at=proven, until=until):
            raise LeaseLost
        self.shard = dataclasses.replace(self.shard, seq=seq, synced_at=proven, lease_until=until)
        now = time.monotonic()
        for one in received:
            if one.event is not None:
                self._metrics.lag.observe(now - one.at)

    async def _store_members(self, events: list[feed.MemberChanged]) -> None:
        """Store member events. Memberships know no owner of a shard, so a former one must find that out before."""
        if not await self._shards.extend(self.shard, self._clock() + self._lease):
            raise LeaseLost
        self._metrics.members.inc(await self._members.apply(events))

    async def _change_session(self, item: protocol.Ready | SessionEnded) -> None:
        cause = item.cause if isinstance(item, SessionEnded) else "other"
        if isinstance(item, SessionEnded):
            if not self.shard.session:
                return
            began = dataclasses.replace(self.shard, session="", url="", seq=0, synced_at=None)
        else:
            session = item.session
            began = dataclasses.replace(
                self.shard,
                session=session.id,
                url=session.url,
                seq=session.seq,
                synced_at=item.asked_at,
                bot_id=item.data["bot_id"],
            )
        if not await self._shards.begin_session(self.shard, began, cause):
            raise LeaseLost
        if self.shard.session:
            self._metrics.gaps.labels(cause).inc()
        self.shard = began
        if isinstance(item, protocol.Ready):
            await self._writer.remove_missing(began, item.data["guild_ids"])


def _sorted(received: Iterable[link.Received]) -> tuple[list[feed.Numbered], list[feed.MemberChanged]]:
    """Return the events of guilds, and those of their members."""
    events: list[feed.Numbered] = []
    members: list[feed.MemberChanged] = []
    for one in received:
        if isinstance(one.event, feed.MemberChanged):
            members.append(one.event)
        elif one.event is not None:
            events.append(feed.Numbered(one.seq, one.event))
    return events, members
