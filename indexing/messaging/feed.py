"""
What one process knows of one job's progress, shared by all its watchers of that job.

The latest row of each guild, in the order of its last change, is kept once; a watcher is only a place in that order. So
a slow watcher costs no memory: when it comes back it finds each guild once, as it is now.
"""

import asyncio
import dataclasses
from collections.abc import Callable

from indexing.domain import model

Position = tuple[int, int]
"""A place in the job's stream, as Redis orders entries."""


def parse(position: str) -> Position:
    """Return a position from its text form."""
    first, second = position.split("-")
    return int(first), int(second)


class Feed:
    """One job, from `start` on; *merged* is told how many updates a watcher got only as part of a later one."""

    def __init__(self, start: str, merged: Callable[[int], None] = lambda _: None) -> None:
        self.merged = merged
        self.taken = 0
        self.start = parse(start)
        self.position = start
        self.last: model.JobUpdate | None = None
        self.watchers: set[Watcher] = set()
        self._rows: dict[int, tuple[Position, model.GuildTask]] = {}
        self.place = self.start
        self._told: tuple[Position, model.JobUpdate] | None = None

    def append(self, update: model.JobUpdate) -> None:
        """Add the stream's next update and wake the watchers."""
        place = parse(update.position)
        if place <= self.place:
            return
        self.position, self.place, self._told = update.position, place, None
        self.last = model.latest(self.last, update)
        self.taken += 1
        for unit in update.tasks:
            self._keep(place, unit)
        for watcher in self.watchers:
            watcher.wake()

    def skip(self, position: str) -> None:
        """Go on after an entry that cannot be read."""
        self.position = max(self.position, position, key=parse)
        self.place = parse(self.position)

    def prepend(self, start: str, missed: list[model.JobUpdate]) -> None:
        """Begin earlier: *missed* are the stream's updates after *start* up to where the feed begins."""
        later, last = self._rows, self.last
        self._rows, self.last = {}, None
        # Somebody else may have begun even earlier meanwhile: what he added is not added again.
        for update in missed:
            place = parse(update.position)
            if place > self.start:
                break
            self.last = model.latest(self.last, update)
            for unit in update.tasks:
                self._keep(place, unit)
        for place, unit in later.values():
            self._keep(place, unit)
        if last is not None:
            self.last = model.latest(self.last, last)
        self._told = None
        self.start = min(self.start, parse(start))

    def _keep(self, place: Position, unit: model.GuildTask) -> None:
        known = self._rows.get(unit.guild_id)
        if known is None or known[1].revision < unit.revision:
            self._rows.pop(unit.guild_id, None)
            self._rows[unit.guild_id] = (place, unit)

    def get_changes_since(self, place: Position) -> model.JobUpdate | None:
        """
        Return what changed after *place* as one update, rows in the order of their last change; None if nothing did.

        Watchers at the same place, and most are, get the same object.
        """
        if self.last is None or place >= self.place:
            return None
        if self._told is None or self._told[0] != place:
            self._told = place, dataclasses.replace(self.last, tasks=self._changed_since(place))
        return self._told[1]

    def _changed_since(self, place: Position) -> tuple[model.GuildTask, ...]:
        found = []
        for changed, unit in reversed(self._rows.values()):
            if changed <= place:
                break
            found.append(unit)
        return tuple(reversed(found))


class Watcher:
    """Port `ports.Subscription`: a place in a feed. Waiting, it is one future and one timer."""

    __slots__ = ("_feed", "_place", "_poked", "_taken", "_waiting")

    def __init__(self, feed: Feed, after: str) -> None:
        self._feed = feed
        self._place = parse(after)
        self._taken = feed.taken
        self._poked = False
        self._waiting: asyncio.Future[None] | None = None
        feed.watchers.add(self)

    def wake(self) -> None:
        """Tell the watcher that something changed."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def release(self) -> None:
        """Make `next` return None once although nothing changed, at the latest when the news are told."""
        self._poked = True
        self.wake()

    async def next(self, patience: float) -> model.JobUpdate | None:
        """Return what changed since the last call, merged into one update; None after *patience* seconds of silence."""
        news = self._feed.get_changes_since(self._place)
        if news is None and not self._poked:
            await self._wait(patience)
            news = self._feed.get_changes_since(self._place)
        if news is None:
            self._poked = False
            return None
        self._place = self._feed.place
        self._feed.merged(max(0, self._feed.taken - self._taken - 1))
        self._taken = self._feed.taken
        return news

    async def _wait(self, patience: float) -> None:
        loop = asyncio.get_running_loop()
        self._waiting = loop.create_future()
        timer = loop.call_later(patience, self.wake)
        try:
            await self._waiting
        finally:
            timer.cancel()
            self._waiting = None

    async def close(self) -> None:
        """Stop listening."""
        self._feed.watchers.discard(self)
