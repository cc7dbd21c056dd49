"""
One job's progress in one process, shared by all its watchers of the job.

A feed keeps the latest state of each guild task once, in the order of the last change. A watcher is only a position in
that order, so a slow watcher costs no memory: its next read returns each changed task once, in its current state.
"""

import asyncio
import dataclasses
from collections.abc import Callable

from indexing.domain import job_updates, model

Position = tuple[int, int]
"""A position in the job's stream, ordered as Redis orders entry ids."""


def parse(position: str) -> Position:
    """Parse the text form of a position."""
    milliseconds, sequence = position.split("-")
    return int(milliseconds), int(sequence)


class Feed:
    """
    The state of one job from `start` on.

    Args:
        start: Position in text form; the feed knows all updates after it.
        merged: Called at each read of a watcher, with the number of updates that the read returned merged into others.
    """

    def __init__(self, start: str, merged: Callable[[int], None] = lambda _: None) -> None:
        self.merged = merged
        self.start = parse(start)
        self.end = self.start
        self.position = start
        """Text form of `end`."""
        self.update_count = 0
        self.last: job_updates.JobUpdate | None = None
        self.watchers: set[Watcher] = set()
        self._tasks: dict[int, tuple[Position, model.GuildTask]] = {}
        self._merged_update: tuple[Position, job_updates.JobUpdate] | None = None

    def append(self, update: job_updates.JobUpdate) -> None:
        """Add the stream's next update and wake the watchers. A known update changes nothing."""
        position = parse(update.position)
        if position <= self.end:
            return
        self.position, self.end, self._merged_update = update.position, position, None
        self.last = job_updates.with_newest_job(self.last, update)
        self.update_count += 1
        for task in update.tasks:
            self._keep_latest(position, task)
        for watcher in self.watchers:
            watcher.wake()

    def skip(self, position: str) -> None:
        """Move past an entry that cannot be decoded."""
        self.position = max(self.position, position, key=parse)
        self.end = parse(self.position)

    def prepend(self, start: str, missed: list[job_updates.JobUpdate]) -> None:
        """Move the start back to *start*. *missed* are the stream's updates after it, up to the feed's start."""
        later, last = self._tasks, self.last
        self._tasks, self.last = {}, None
        # A concurrent call may have moved the start further back: its updates are not added again.
        for update in missed:
            position = parse(update.position)
            if position > self.start:
                break
            self.last = job_updates.with_newest_job(self.last, update)
            for task in update.tasks:
                self._keep_latest(position, task)
        for position, task in later.values():
            self._keep_latest(position, task)
        if last is not None:
            self.last = job_updates.with_newest_job(self.last, last)
        self._merged_update = None
        self.start = min(self.start, parse(start))

    def _keep_latest(self, position: Position, task: model.GuildTask) -> None:
        known = self._tasks.get(task.guild_id)
        if known is None or known[1].revision < task.revision:
            self._tasks.pop(task.guild_id, None)
            self._tasks[task.guild_id] = (position, task)

    def get_changes_since(self, position: Position) -> job_updates.JobUpdate | None:
        """
        Return the changes after *position* as one update, tasks in the order of their last change; None without any.

        Watchers at the same position, as most are, get the same object.
        """
        if self.last is None or position >= self.end:
            return None
        if self._merged_update is None or self._merged_update[0] != position:
            self._merged_update = position, dataclasses.replace(self.last, tasks=self._changed_since(position))
        return self._merged_update[1]

    def _changed_since(self, position: Position) -> tuple[model.GuildTask, ...]:
        changed = []
        for changed_at, task in reversed(self._tasks.values()):
            if changed_at <= position:
                break
            changed.append(task)
        return tuple(reversed(changed))


class Watcher:
    """Port `ports.Subscription`: a position in a feed. A waiting watcher is one future and one timer."""

    __slots__ = ("_feed", "_future", "_position", "_released", "_update_count")

    def __init__(self, feed: Feed, after: str) -> None:
        self._feed = feed
        self._position = parse(after)
        self._update_count = feed.update_count
        self._released = False
        self._future: asyncio.Future[None] | None = None
        feed.watchers.add(self)

    def wake(self) -> None:
        """End the current wait."""
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    def release(self) -> None:
        """Make the next call of `next` that finds no changes return None without waiting."""
        self._released = True
        self.wake()

    async def next(self, max_wait: float) -> job_updates.JobUpdate | None:
        """Return the changes since the last call, merged into one update; None after *max_wait* seconds without any."""
        changes = self._feed.get_changes_since(self._position)
        if changes is None and not self._released:
            await self._wait(max_wait)
            changes = self._feed.get_changes_since(self._position)
        if changes is None:
            self._released = False
            return None
        self._position = self._feed.end
        self._feed.merged(max(0, self._feed.update_count - self._update_count - 1))
        self._update_count = self._feed.update_count
        return changes

    async def _wait(self, max_wait: float) -> None:
        loop = asyncio.get_running_loop()
        self._future = loop.create_future()
        timer = loop.call_later(max_wait, self.wake)
        try:
            await self._future
        finally:
            timer.cancel()
            self._future = None

    async def close(self) -> None:
        """Unsubscribe."""
        self._feed.watchers.discard(self)
