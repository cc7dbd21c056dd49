"""
Tells streams of users' indexes which guilds and users have changed.

Processes that store a change announce it (`notify`). An announcement may be lost, so the versions of everything that is
watched are also compared at an interval (`poll`): a lost announcement only delays.

What a stream has not looked at yet is a set of guilds, bounded by the number of guilds of its user, however slow its
reader is.
"""

import asyncio
import collections
import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping

from indexing.domain import ports

POLL_INTERVAL = 4.0
"""Seconds between two comparisons of versions."""
PER_QUERY = 1_000
"""Versions in one query."""
QUERY_PAUSE = 0.05
"""Seconds between two queries of a comparison, so that many streams make it longer and not the store busier."""


class Pending:
    """
    What changed for one stream since it last looked.

    Attributes:
        since: When the oldest of it was announced, in monotonic seconds; None when nothing was.
    """

    __slots__ = ("_future", "_released", "guild_ids", "since", "user_changed", "user_id", "watched")

    def __init__(self, user_id: int) -> None:
        self.user_id = user_id
        self.user_changed = True
        self.guild_ids: set[int] = set()
        self.watched: frozenset[int] = frozenset()
        self.since: float | None = None
        self._released = False
        self._future: asyncio.Future[None] | None = None

    def add(self, guild_ids: Collection[int] = (), *, user: bool = False, at: float) -> None:
        """Note changes that were announced at a moment, in monotonic seconds, and end the current wait."""
        if self.since is None:
            self.since = at
        self.guild_ids.update(guild_ids)
        self.user_changed = self.user_changed or user
        self.wake()

    def take(self, most: int) -> set[int]:
        """Remove and return up to *most* guilds."""
        return {self.guild_ids.pop() for _ in range(min(most, len(self.guild_ids)))}

    def take_since(self) -> float | None:
        """Return when the oldest change was announced that was noted and not taken; None for a first read."""
        since = self.since
        if not self.guild_ids:
            self.since = None
        return since

    def put_back(self, guild_ids: Collection[int], since: float | None) -> None:
        """Note what is still to be read of a change that was taken, and when that was announced."""
        self.guild_ids.update(guild_ids)
        if self.guild_ids and since is not None:
            self.since = since if self.since is None else min(since, self.since)

    def wake(self) -> None:
        """End the current wait."""
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    def release(self) -> None:
        """End the current wait, and let no later one begin."""
        self._released = True
        self.wake()

    async def wait(self, max_wait: float) -> None:
        """Return when something has changed, or after *max_wait* seconds. A waiting stream is a future and a timer."""
        if self.guild_ids or self.user_changed or self._released or max_wait <= 0:
            return
        loop = asyncio.get_running_loop()
        self._future = loop.create_future()
        timer = loop.call_later(max_wait, self.wake)
        try:
            await self._future
        finally:
            timer.cancel()
            self._future = None


class ChangeNotifier:
    """
    Notifies the streams of one process.

    Args:
        is_current: Returns whether channels that were fetched then are trusted now: a fetch without changes makes no
            new version, but channels that were too old are shown again.
    """

    def __init__(
        self,
        users: ports.Users,
        guilds: ports.Guilds,
        is_current: Callable[[float | None], bool],
        monotonic: Callable[[], float],
    ) -> None:
        self._monotonic = monotonic
        self._users = users
        self._guilds = guilds
        self._is_current = is_current
        self._by_user: dict[int, set[Pending]] = collections.defaultdict(set)
        self._by_guild: dict[int, set[Pending]] = collections.defaultdict(set)
        self._known_users: Mapping[int, object] = {}
        self._known_guilds: Mapping[int, object] = {}
        self._released = False

    @contextlib.contextmanager
    def open(self, user_id: int) -> Iterator[Pending]:
        """Notify a stream of the user's changes until the block ends. Its guilds are set by `watch_guilds`."""
        pending = Pending(user_id)
        if self._released:
            pending.release()
        self._by_user[user_id].add(pending)
        try:
            yield pending
        finally:
            self.watch_guilds(pending, ())
            _discard(self._by_user, user_id, pending)

    def watch_guilds(self, pending: Pending, guild_ids: Collection[int]) -> None:
        """Notify a stream of changes of these guilds, and of no others."""
        wanted = frozenset(guild_ids)
        for guild_id in wanted - pending.watched:
            self._by_guild[guild_id].add(pending)
        for guild_id in pending.watched - wanted:
            _discard(self._by_guild, guild_id, pending)
        pending.watched = wanted

    def notify(self, guild_ids: Collection[int], user_ids: Collection[int], age: float = 0.0) -> None:
        """Note changes that were announced *age* seconds ago, for the streams that they concern."""
        at = self._monotonic() - age
        for guild_id in guild_ids:
            for pending in self._by_guild.get(guild_id, ()):
                pending.add((guild_id,), at=at)
        for user_id in user_ids:
            for pending in self._by_user.get(user_id, ()):
                pending.add(user=True, at=at)

    def wake_all(self) -> None:
        """End the waits of all streams, also of those that open later: the process leaves."""
        self._released = True
        for streams in self._by_user.values():
            for pending in streams:
                pending.release()

    async def poll(self) -> None:
        """Compare the versions of everything that is watched with those of the last time, and notify of differences."""
        users: dict[int, object] = {}
        for ids in _parts(self._by_user):
            users |= dict.fromkeys(ids) | await self._users.versions(ids)
            await asyncio.sleep(QUERY_PAUSE)
        self._known_users, before = users, self._known_users
        self.notify((), _changed(before, users))
        guilds: dict[int, object] = {}
        for ids in _parts(self._by_guild):
            heads = await self._guilds.versions(ids)
            guilds |= dict.fromkeys(ids)
            guilds |= {key: (head.version, self._is_current(head.fetched_at)) for key, head in heads.items()}
            await asyncio.sleep(QUERY_PAUSE)
        self._known_guilds, before = guilds, self._known_guilds
        self.notify(_changed(before, guilds), ())


def _changed(before: Mapping[int, object], after: Mapping[int, object]) -> list[int]:
    """Return what differs. What was not watched before differs: it may have changed since its stream looked."""
    missing = object()
    return [key for key, value in after.items() if before.get(key, missing) != value]


def _parts(watched: Collection[int]) -> Iterator[list[int]]:
    ids = sorted(watched)
    for first in range(0, len(ids), PER_QUERY):
        yield ids[first : first + PER_QUERY]


def _discard(index: dict[int, set[Pending]], key: int, pending: Pending) -> None:
    index[key].discard(pending)
    if not index[key]:
        del index[key]
