"""
Applies the events of a shard's session to the stored guilds, in batches.

A batch takes two round trips for any number of guilds. Events of one guild are applied in their order; a batch that is
applied twice, whole or in part, changes nothing the second time.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

from indexing import errors
from indexing.domain import feed, feed_ports, ports
from indexing.telemetry import logs

MOST_ATTEMPTS = 8
"""Attempts to store a guild that other processes keep writing, or that is too large; then it is no longer fed."""
PAUSES = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Seconds between these attempts."""

Listener = Callable[[Collection[int]], Awaitable[None]]


class FeedWriter:
    """Stores what the events of one session say."""

    def __init__(self, guilds: feed_ports.FedGuilds, clock: ports.Clock, on_changed: Listener | None = None) -> None:
        """*on_changed* is called with the guilds that were stored."""
        self._guilds = guilds
        self._clock = clock
        self._on_changed = on_changed
        self._log = logs.get(__name__)

    async def apply(self, shard: feed_ports.Shard, events: Sequence[feed.Numbered]) -> int:
        """
        Store the effect of events of the shard's session, in their order; returns the number of guilds stored.

        A guild that a later owner of the shard feeds stays as it is.

        Raises:
            errors.StoreUnavailable: Some guilds may be stored; apply the same events again.
        """
        left = _by_guild(events)
        stored: set[int] = set()
        for attempt in range(MOST_ATTEMPTS):
            left, done = await self._apply_once(shard, left)
            stored |= done
            if not left:
                break
            await asyncio.sleep(PAUSES[min(attempt, len(PAUSES) - 1)])
        else:
            await self._give_up(shard, left)
        if stored and self._on_changed is not None:
            await self._on_changed(stored)
        return len(stored)

    async def remove_missing(self, shard: feed_ports.Shard, present: Collection[int]) -> None:
        """Record that our bot is not in the shard's guilds that a new session does not name."""
        removed = await self._guilds.mark_removed(shard, present, self._clock())
        if removed:
            self._log.info("bot_removed", guilds=len(removed), shard=shard.key)
            if self._on_changed is not None:
                await self._on_changed(removed)

    async def _apply_once(
        self, shard: feed_ports.Shard, events: Mapping[int, list[feed.Numbered]]
    ) -> tuple[dict[int, list[feed.Numbered]], set[int]]:
        """Return the events of the guilds that another process wrote meanwhile, and the guilds that were stored."""
        known = dict(await self._guilds.load(events))
        new = [
            guild_id
            for guild_id, rows in events.items()
            if guild_id not in known and any(isinstance(one.event, feed.GuildCreated) for one in rows)
        ]
        if new:
            await self._guilds.add(new)
            known |= await self._guilds.load(new)
        now = self._clock()
        changes = []
        for guild_id, rows in events.items():
            before = known.get(guild_id)
            # Only a GUILD_CREATE stores a guild: a late event brings back none that was erased.
            if before is None or before.epoch > shard.epoch:
                continue
            after = feed.fold(before, rows, shard.session, now)
            if after is not before:
                changes.append((before, after))
        stored = await self._guilds.store(shard, changes, now) if changes else set()
        missed = {before.guild.guild_id for before, _ in changes} - stored
        return {guild_id: events[guild_id] for guild_id in missed}, stored

    async def _give_up(self, shard: feed_ports.Shard, left: Mapping[int, list[feed.Numbered]]) -> None:
        """End the feed of guilds that cannot be stored; they are fetched by REST from now on."""
        self._log.error("guilds_not_fed", guilds=len(left), shard=shard.key)
        given_up = {
            guild_id: [feed.Numbered(rows[-1].seq, feed.Unreadable(guild_id))] for guild_id, rows in left.items()
        }
        missed, _ = await self._apply_once(shard, given_up)
        if missed:
            raise errors.StoreUnavailable("guilds of the feed are written too often by others")


def _by_guild(events: Sequence[feed.Numbered]) -> dict[int, list[feed.Numbered]]:
    found: dict[int, list[feed.Numbered]] = {}
    for one in events:
        found.setdefault(one.event.guild_id, []).append(one)
    return found
