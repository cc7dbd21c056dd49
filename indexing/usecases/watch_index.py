"""
Watch what a user may see: a snapshot of their guilds and channels, then what is added, changed and removed.

Whenever something may have changed, a stream reads the user and the guild as stored then, decides what the user may see
by the same rules and ages as a page of channels, and sends the difference to what it has sent. So a channel that a
role, an overwrite or an age takes away is a removal, whatever the cause.

Reads and differences are made when the reader can take a message: a slow reader gets fewer, merged changes, and nothing
is sent that was read longer than READ_AGE before.

A position names each guild with a hash of what was sent, so a stream resumes at any process, and no process keeps
anything for streams that are gone. A guild whose hash differs by then is sent whole. Every change has its position: a
stream that resumed at an earlier one would not notice that a guild has changed back since.
"""

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, Callable, Mapping

from indexing import errors, settings
from indexing.domain import channel_views, model, ports
from indexing.usecases import change_notifier, guild_views, read_cache, sent_index

TOKEN_TOO_OLD = "TOKEN_TOO_OLD"  # noqa: S105 -- a reason, not a secret
PACE = 0.1
"""Least seconds between two reads of a stream: changes in between are sent as one."""
READ_AGE = 0.25
"""Seconds after which what was read is read again before more of it is sent."""
MOST_READ = 25
"""Guilds that a stream reads at once and holds until they are sent."""


@dataclasses.dataclass(frozen=True, slots=True)
class Reset:
    """A snapshot follows: everything that was sent before is void. `reason` says why a resuming stream gets one."""

    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class Bookmark:
    """The user's index as read at `at` has been sent."""

    at: float


@dataclasses.dataclass(frozen=True, slots=True)
class Disconnecting:
    """This process ends the stream; it resumes elsewhere from its position."""

    reason: str


Message = Reset | sent_index.GuildChange | Bookmark | Disconnecting
Position = Mapping[int, bytes]


@dataclasses.dataclass(frozen=True, slots=True)
class WatchOptions:
    """
    Options of a stream.

    Attributes:
        after: Position to resume from; None requests a snapshot.
        reset_reason: Why a stream that has a position gets a snapshot; empty otherwise.
        heartbeat: Seconds between two bookmarks.
        disconnect_reason: Returns why the stream must end now; empty when it may continue.
    """

    after: Position | None
    heartbeat: float
    disconnect_reason: Callable[[], str]
    reset_reason: str = ""


class IndexWatcher:
    """
    Opens streams of users' indexes.

    Args:
        cache: The process's cache; its channels are encoded as bytes.
        encode_guild: Encodes a guild, without what changes with time alone (position, age).
        monotonic: Returns monotonic seconds.
        observe_lag: Called with the seconds from the announcement of a change to its message.
    """

    def __init__(  # noqa: PLR0913 -- what streams stand on
        self,
        deps: ports.Dependencies,
        config: settings.IndexingSettings,
        cache: read_cache.ReadCache,
        *,
        encode_guild: Callable[[guild_views.GuildView], bytes],
        monotonic: Callable[[], float],
        observe_lag: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._observe_lag = observe_lag
        self._clock = deps.clock
        self._cache = cache
        self._monotonic = monotonic
        self._rules = sent_index.IndexRules(config, encode_guild)
        self.notifier = change_notifier.ChangeNotifier(
            deps.users,
            deps.guilds,
            lambda fetched_at: self._rules.trust.trusts_fetch(fetched_at, self._clock()),
            monotonic,
        )

    async def watch(self, user_id: int, options: WatchOptions) -> AsyncGenerator[tuple[Message, Position | None], None]:
        """
        Yield the messages of a stream until the process or the caller ends it, each with the position to resume from.

        The position is None inside a snapshot, which begins again when it breaks.

        Raises:
            errors.UserNotFound: Nothing is stored of the user. In the middle of a stream, all guilds are removed first.
        """
        await self._cache.stored_user(user_id)
        with self.notifier.open(user_id) as pending:
            sent = sent_index.SentIndex(self._rules, options.after or {})
            reader = _Reader(self._cache, self.notifier, pending, sent, self._clock, self._monotonic)
            if options.after is None:
                yield Reset(options.reset_reason), None
            bookmark_at, caught_up = self._monotonic(), False
            while True:
                at, read_at = self._clock(), self._monotonic()
                async for change in reader.changes(options.disconnect_reason):
                    if reader.since is not None:
                        self._observe_lag(max(0.0, self._monotonic() - reader.since))
                    yield change, sent.position() if caught_up or options.after is not None else None
                if reason := options.disconnect_reason():
                    yield Disconnecting(reason), sent.position()
                    return
                if reader.behind:
                    continue
                if not caught_up:
                    caught_up = True
                    self._note_views(user_id, sent)
                if self._monotonic() >= bookmark_at:
                    bookmark_at = self._monotonic() + options.heartbeat
                    yield Bookmark(at), sent.position()
                await pending.wait(min(bookmark_at - self._monotonic(), sent.expires_at - self._clock()))
                await asyncio.sleep(max(0.0, read_at + PACE - self._monotonic()))

    def _note_views(self, user_id: int, sent: sent_index.SentIndex) -> None:
        """Note that the user views their guilds, so that these are refreshed; a stream is one view."""
        viewed, stale = sent.list_viewed()
        self._cache.views.note(user_id, 0, viewed)
        self._cache.views.refresh(stale)


class _Reader:
    """
    Reads what changed for one stream.

    Attributes:
        behind: Whether more had changed before the last read than was sent.
        since: When the oldest change of the last read was announced, in monotonic seconds; None for a snapshot.
    """

    def __init__(  # noqa: PLR0913, PLR0917 -- what a stream stands on
        self,
        cache: read_cache.ReadCache,
        notifier: change_notifier.ChangeNotifier,
        pending: change_notifier.Pending,
        sent: sent_index.SentIndex,
        clock: ports.Clock,
        monotonic: Callable[[], float],
    ) -> None:
        self._cache = cache
        self._notifier = notifier
        self._pending = pending
        self._sent = sent
        self._clock = clock
        self._monotonic = monotonic
        self._user: model.User | None = None
        self.behind = False
        self.since: float | None = None

    async def changes(self, disconnect_reason: Callable[[], str]) -> AsyncGenerator[sent_index.GuildChange, None]:
        """
        Read once and yield what has to be sent. The rest of what is sent slowly is left to the next read.

        Raises:
            errors.UserNotFound: Nothing is stored of the user any more; the removal of all guilds is yielded first.
        """
        read_at = self._monotonic()
        try:
            user, read = await self._read()
        except errors.UserNotFound:
            for guild_id in list(self._sent.guild_ids):
                yield self._sent.remove(guild_id)
            raise
        while read:
            guild_id, views = next(iter(read.items()))
            change, done = self._sent.next_change(user, guild_id, views, self._clock())
            if done:
                del read[guild_id]
            if not change.empty:
                yield change
                if self._monotonic() - read_at > READ_AGE or disconnect_reason():
                    break
        self._pending.put_back(read, self.since)
        self.behind = self.behind or bool(read)

    async def _read(self) -> tuple[model.User, dict[int, channel_views.ChannelViews | None]]:
        """Read the user, and some of the guilds that have changed, as stored at or after the call."""
        pending = self._pending
        pending.user_changed = False
        pending.guild_ids.update(self._sent.list_expired(self._clock()))
        guild_ids = pending.take(MOST_READ)
        self.since = pending.take_since()
        self.behind = bool(pending.guild_ids)
        user, guilds = await asyncio.gather(
            self._cache.stored_user(pending.user_id), self._cache.guilds(sorted(guild_ids))
        )
        if self._user is None or user.version != self._user.version:
            # Rights, roles and ages belong to the user, so everything is compared again.
            self._notifier.watch_guilds(pending, user.memberships.keys())
            pending.put_back((user.memberships.keys() | self._sent.guild_ids) - guild_ids, self.since)
            self.behind = self.behind or bool(pending.guild_ids)
        self._user = user
        return user, {guild_id: guilds.get(guild_id) for guild_id in guild_ids}
