"""
A service process's cache of users and guilds, with version checks that keep it consistent with the store.

A page is shown only after a check that began when the page had been requested: the versions of the user and of the
guilds are fetched together, for all waiting pages at once (like etcd's ReadIndex). `read_cache_max_age`, at most a
second, skips the check of what was checked that recently; a channel that becomes hidden stays visible that much longer.
"""

import asyncio
import collections
import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeAlias

from indexing import concurrency, errors, settings
from indexing.domain import channel_views, guild_cache, model, ports
from indexing.telemetry import logs

MOST_USERS = 10_000
"""Most cached users, some 20 KB each with 60 guilds. Beyond that the least recently loaded user is dropped."""
PER_LOAD = 25
"""Guilds loaded by one query: some 60 KB."""
GATHER = 0.002
"""Seconds for which a check waits for those of other pages, when the one before served several. A check costs half a
millisecond of CPU here and more in the store, whatever it serves, so that busy processes answer more calls this way."""
AHEAD = 20
"""Guilds of following pages that travel with a check: the embedded server answers 2 ms later for them."""
MANY = 50
"""Guilds beyond which a check does not travel with those of pages, which would wait for it."""


USER, GUILD = "user", "guild"
Key: TypeAlias = tuple[str, int]
"""What a check is about: USER or GUILD, and its id."""


@dataclasses.dataclass(frozen=True, slots=True)
class Checked:
    """
    The result of a check.

    Attributes:
        user: The user as stored now; the same object as given when nothing changed.
        changed: Guilds whose stored version differs from the one that the page was cut from.
    """

    user: model.User
    changed: list[int]


class RankedGuilds:
    """
    A user's guilds in order, valid until an epoch second; a row is encoded when it is first shown.

    Attributes:
        renew_at: Epoch second from which they should be ranked again; they are valid for a while longer.
        fetched: For each guild the time of the oldest input of what is shown of it; missing when one was never fetched.
        channels_fetched: For each guild when its channels were fetched; missing when they never were.
    """

    def __init__(  # noqa: PLR0913 -- the fields of one value
        self,
        *,
        renew_at: float,
        valid_until: float,
        keys: list[tuple[Any, ...]],
        guild_ids: list[int],
        stale: Collection[int],
        fetched: Mapping[int, float],
        channels_fetched: Mapping[int, float],
        encode: Callable[[int], Any],
    ) -> None:
        self.renew_at = renew_at
        self.valid_until = valid_until
        self.keys = keys
        self.guild_ids = guild_ids
        self.stale = stale
        self.fetched = fetched
        self.channels_fetched = channels_fetched
        self._encode = encode
        self._rows: dict[int, Any] = {}

    def row(self, position: int) -> Any:  # noqa: ANN401 -- an encoded row
        """Return the encoded row of one guild."""
        if position not in self._rows:
            self._rows[position] = self._encode(position)
        return self._rows[position]


@dataclasses.dataclass(slots=True)
class _KnownUser:
    user: model.User
    checked_at: float
    ranked: RankedGuilds | None = None


class ReadCache:
    """
    Cached users and decoded guilds.

    Args:
        encode: Encodes a channel for pages.
        monotonic: Returns monotonic seconds, for the age of checks.
    """

    def __init__(
        self,
        deps: ports.Dependencies,
        config: settings.IndexingSettings,
        encode: Callable[[model.Channel], Any],
        monotonic: Callable[[], float],
    ) -> None:
        self._deps = deps
        self._max_age = config.read_cache_max_age
        self._monotonic = monotonic
        self._users: collections.OrderedDict[int, _KnownUser] = collections.OrderedDict()
        self._guilds: guild_cache.GuildCache[channel_views.ChannelViews] = guild_cache.GuildCache(
            config.read_cache_bytes, self._forget_places
        )
        self._guild_of: dict[str, int] = {}
        self._encode = encode
        self._checked: dict[int, float] = {}
        self._checks = concurrency.Coalescer(self._fetch_versions, gather=GATHER)
        self._checks_apart = concurrency.Coalescer(self._fetch_versions)
        self._loads = concurrency.Coalescer(self._load)
        self.views = ViewNotes(deps)

    def known_user(self, user_id: int) -> model.User | None:
        """Return the cached user without a check; None when they are not cached."""
        known = self._users.get(user_id)
        return known.user if known else None

    async def user(self, user_id: int) -> model.User:
        """
        Return the user as stored at or after the call, or `read_cache_max_age` before it.

        Raises:
            errors.UserNotFound: Nothing is stored of the user.
        """
        known = self._users.get(user_id)
        if known is not None and self._is_young(known.checked_at):
            return known.user
        return await self.stored_user(user_id)

    async def stored_user(self, user_id: int) -> model.User:
        """
        Return the user as stored at or after the call, whatever `read_cache_max_age` is.

        Raises:
            errors.UserNotFound: Nothing is stored of the user.
        """
        known = self._users.get(user_id)
        began = self._monotonic()
        if known is not None:
            key = USER, user_id
            if (await self._checks.fetch([key])).get(key) == known.user.version:
                known.checked_at = began
                return known.user
        return await self._load_user(user_id, began)

    async def _load_user(self, user_id: int, began: float) -> model.User:
        user = await self._deps.users.load(user_id)
        if user is None:
            self._users.pop(user_id, None)
            raise errors.UserNotFound(user_id)
        self._users[user_id] = _KnownUser(user, began)
        self._users.move_to_end(user_id)
        if len(self._users) > MOST_USERS:
            self._users.popitem(last=False)
        return user

    async def _fetch_versions(self, keys: list[Key]) -> Mapping[Key, Any]:
        """Return the version of each user, and the `model.GuildVersion` of each guild, that is stored."""
        users, guilds = await asyncio.gather(
            self._deps.users.versions([key for kind, key in keys if kind is USER]),
            self._deps.guilds.versions([key for kind, key in keys if kind is GUILD]),
        )
        return {(USER, key): version for key, version in users.items()} | {
            (GUILD, key): version for key, version in guilds.items()
        }

    def ranked(self, user: model.User) -> RankedGuilds | None:
        """Return the cached order of the user's guilds for this version of the user."""
        known = self._users.get(user.user_id)
        return known.ranked if known is not None and known.user is user else None

    def keep_ranked(self, user: model.User, ranked: RankedGuilds) -> None:
        """Cache the order for this version of the user."""
        known = self._users.get(user.user_id)
        if known is not None and known.user is user:
            known.ranked = ranked

    def at_hand(self, guild_id: int) -> channel_views.ChannelViews | None:
        """Return the cached guild without a check; None when it is not cached."""
        return self._guilds.get(guild_id)

    @property
    def guild_of(self) -> Mapping[str, int]:
        """The guild of each channel of the cached guilds, by the channel's id as text."""
        return self._guild_of

    @property
    def evictions(self) -> int:
        """How many guilds were dropped for lack of room since the start."""
        return self._guilds.evictions

    def _forget_places(self, guild_id: int, views: channel_views.ChannelViews) -> None:
        for channel_id in views.places:
            if self._guild_of.get(channel_id) == guild_id:
                del self._guild_of[channel_id]

    async def check(self, user: model.User, used: Mapping[int, int], following: Iterable[int] = ()) -> Checked:
        """
        Check concurrently whether the user and these versions of guilds are still the stored ones.

        With `read_cache_max_age`, guilds of the *following* pages are checked on the way: these pages come within that
        time from a caller who goes on reading, and then need no check of their own.
        """
        began = self._monotonic()
        unsure = self._unchecked(used, began)
        known = self._users.get(user.user_id)
        keys: list[Key] = [(GUILD, guild_id) for guild_id in unsure]
        if known is not None and not self._is_young(known.checked_at):
            keys.append((USER, user.user_id))
        if known is not None and not keys:
            return Checked(known.user, [])
        if self._max_age > 0:
            ahead = [key for key in self._unchecked(following, began) if key not in used and self._guilds.get(key)]
            keys += [(GUILD, guild_id) for guild_id in ahead[:AHEAD]]
        versions = await self._checks_for(unsure).fetch(keys)
        current = await self._current_user(user.user_id, known, versions, began)
        for kind, guild_id in keys:
            head, kept = versions.get((kind, guild_id)), self._guilds.get(guild_id)
            if kind is GUILD and head is not None and kept is not None and kept.version == head.version:
                kept.note_fetch(head)
                self._note_checked(guild_id, began)
        changed = []
        for guild_id in unsure:
            head = versions.get((GUILD, guild_id))
            if head is None:
                self._guilds.drop(guild_id)
            if head is None or head.version != used[guild_id]:
                changed.append(guild_id)
        return Checked(current, changed)

    def _unchecked(self, guild_ids: Iterable[int], now: float) -> list[int]:
        """Return the guilds that were not checked within `read_cache_max_age`: all of them if it is 0."""
        if self._max_age <= 0:
            return list(guild_ids)
        oldest = now - self._max_age
        return [guild_id for guild_id in guild_ids if self._checked.get(guild_id, 0.0) <= oldest]

    async def _current_user(
        self, user_id: int, known: _KnownUser | None, versions: Mapping[Key, Any], began: float
    ) -> model.User:
        """Return the user as stored when a check fetched *versions*, or later."""
        if known is None:
            return await self._load_user(user_id, began)
        if not self._is_young(known.checked_at):
            if versions.get((USER, user_id)) != known.user.version:
                return await self._load_user(user_id, began)
            known.checked_at = began
        return known.user

    def _checks_for(self, guild_ids: Collection[int]) -> concurrency.Coalescer[Key, Any]:
        return self._checks if len(guild_ids) <= MANY else self._checks_apart

    async def load(self, guild_ids: Collection[int]) -> dict[int, channel_views.ChannelViews]:
        """Load guilds as stored after the call, and cache them as far as there is room."""
        loaded = await self._loads.fetch(guild_ids)
        return {guild_id: loaded[guild_id] for guild_id in guild_ids}

    async def _load(self, guild_ids: list[int]) -> Mapping[int, channel_views.ChannelViews]:
        loaded = {}
        began = self._monotonic()
        for first in range(0, len(guild_ids), PER_LOAD):
            wanted = guild_ids[first : first + PER_LOAD]
            found = await self._deps.guilds.load(wanted)
            for guild_id in wanted:
                indexed = found.get(guild_id)
                # A guild that is not stored has no channels; the next page loads it again.
                views = loaded[guild_id] = channel_views.ChannelViews(indexed or _nothing(guild_id), self._encode)
                self._guilds.put(guild_id, views, size=views.bytes)
                self._guild_of.update(dict.fromkeys(views.places, guild_id))
                self._note_checked(guild_id, began)
        return loaded

    async def guilds(self, guild_ids: Collection[int]) -> dict[int, channel_views.ChannelViews]:
        """Return the guilds that are stored, after a check of the cached ones."""
        kept = {key: views for key in guild_ids if (views := self._guilds.get(key)) is not None}
        missing = [key for key in guild_ids if key not in kept]
        versions = await self._checks_apart.fetch([(GUILD, key) for key in kept])
        heads = {key: head for key in kept if (head := versions.get((GUILD, key)))}
        changed = [key for key, views in kept.items() if key not in heads or heads[key].version != views.version]
        for key, views in kept.items():
            if key not in changed:
                views.note_fetch(heads[key])
        wanted = [*missing, *changed]
        for first in range(0, len(wanted), PER_LOAD):
            kept |= await self.load(wanted[first : first + PER_LOAD])
        return {key: views for key, views in kept.items() if views.version > 0}

    def _is_young(self, checked_at: float) -> bool:
        return self._max_age > 0 and self._monotonic() - checked_at < self._max_age

    def _note_checked(self, guild_id: int, began: float) -> None:
        if self._max_age > 0:
            if len(self._checked) > MOST_USERS:
                self._checked.clear()
            self._checked[guild_id] = began


def _nothing(guild_id: int) -> model.IndexedGuild:
    guild = model.Guild(guild_id, "", None, None, model.Access.UNKNOWN, None, None, 0, "", 0.0, 0.0)
    return model.IndexedGuild(guild, 0, ())


class ViewNotes:
    """Views of guilds, stored some seconds later in one batch, so that no page waits for a write."""

    def __init__(self, deps: ports.Dependencies) -> None:
        self._deps = deps
        self._guilds: set[int] = set()
        self._opened: set[tuple[int, int]] = set()
        self._stale: set[int] = set()
        self._log = logs.get(__name__)

    def note(self, user_id: int, opened: int, guild_ids: Collection[int]) -> None:
        """Note that a user viewed guilds, and which of them they opened; 0 for none."""
        self._guilds.update(guild_ids)
        if opened in guild_ids:
            self._opened.add((user_id, opened))

    def refresh(self, guild_ids: Collection[int]) -> None:
        """Note that viewed guilds are stale, so that they are fetched again soon."""
        self._stale.update(guild_ids)

    async def flush(self) -> None:
        """Store the noted views. Views that cannot be stored are dropped; the next view notes them again."""
        guilds, self._guilds = self._guilds, set()
        opened, self._opened = self._opened, set()
        stale, self._stale = self._stale, set()
        now = self._deps.clock()
        await self._deps.guilds.mark_viewed(guilds, now)
        await self._deps.guilds.schedule_soon(stale, now)
        for user_id, guild_id in opened:
            await self._deps.users.mark_viewed(user_id, guild_id, now)
