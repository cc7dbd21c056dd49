"""
Searches a user's channels by name.

The names that a user may see are prepared once and kept, because preparing thousands takes longer than a search. What a
search returns is checked like a page of `browse`, so it shows nothing that a version stored before the call hides.
"""

import asyncio
import collections
import dataclasses
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from indexing import concurrency, errors
from indexing.domain import channel_views, model, name_index, name_search, permissions, ports
from indexing.usecases import browse, find_channels, whole_user

MOST_MISSED = 2 * whole_user.MISSED_AGE
"""Seconds for which a new channel may be missing. Names that were checked more than MISSED_AGE ago are checked in the
background while calls go on using them; beyond this, calls wait."""
MOST_NAMES = 200_000
"""Names of all users together that are kept: some 10 MB, 60 MB where all names differ."""
Guilds: TypeAlias = Mapping[int, channel_views.ChannelViews]
Hits: TypeAlias = list[tuple[channel_views.ChannelViews, int]]
"""Guild and index of each channel that is returned."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Part:
    """The searched channels of one version of a guild: their indexes, and the view that they were taken from."""

    guild_id: int
    version: int
    view: channel_views.View
    places: list[int]


@dataclasses.dataclass(frozen=True, slots=True)
class _Names:
    """
    The names that a user may see.

    Attributes:
        parts: The guilds, in the order of the index.
        ranks: The place of each guild among the user's.
    """

    user: model.User
    checked_at: float
    parts: list[_Part]
    index: name_index.NameIndex
    ranks: Sequence[int]


class SearchChannels:
    """
    Answers searches.

    Args:
        browser: Whose cache of users and guilds is used.
        whole: Loads and checks all guilds of a user.
        clock: Returns epoch seconds.
    """

    def __init__(self, browser: browse.Browse, whole: whole_user.WholeUsers, clock: ports.Clock) -> None:
        self._browse = browser
        self._cache = browser.cache
        self._whole = whole
        self._clock = clock
        self._kept: collections.OrderedDict[int, _Names] = collections.OrderedDict()
        self._count = 0
        self._preparing: dict[int, asyncio.Task[tuple[_Names, Guilds]]] = {}

    async def search(
        self, user_id: int, query: str, *, limit: int, max_age: float | None = None
    ) -> find_channels.Found:
        """
        Return the channels whose names match best, at most *limit*; equal matches in the order of the user's guilds.

        Categories are left out.

        Raises:
            errors.UserNotFound: Nothing is stored of the user.
        """
        recent = self._recent(user_id)
        for _ in range(whole_user.MOST_ROUNDS):
            names, held = (recent, {}) if recent else await asyncio.shield(self._prepare(user_id))
            found = await self._checked(names, self._find(names, held, query, limit, max_age))
            if found is not None:
                return found
            recent = None
        raise errors.StoreUnavailable(whole_user.CHANGING)

    async def _checked(self, names: _Names, found: tuple[Hits, list[int]] | None) -> find_channels.Found | None:
        """Return the rows of hits; None when they, or the user, are not as stored now."""
        if found is None:
            return None
        hits, outdated = found
        shown = {views.guild.guild_id: views.version for views, _ in hits}
        current = await self._cache.check(names.user, shown)
        if current.user is not names.user or current.changed:
            await self._cache.load(current.changed)
            return None
        self._cache.views.note(names.user.user_id, 0, shown)
        return find_channels.Found([views.rows[place] for views, place in hits], [], outdated)

    def _find(
        self, names: _Names, held: Guilds, query: str, limit: int, max_age: float | None
    ) -> tuple[Hits, list[int]] | None:
        """Return the best matches and the outdated guilds; None when the names are not what the user may see now."""
        shown, ranks, outdated = self._browse.shown(names.user), names.ranks, list[int]()
        if not shown:
            return [], []
        if max_age is not None:
            guilds = {key: views for key in shown if (views := held.get(key) or self._cache.at_hand(key)) is not None}
            if len(guilds) < len(shown):
                return None
            outdated = sorted(self._outdated(names.user, guilds, max_age))
            parts = zip(names.parts, names.ranks, strict=True)
            ranks = [name_search.UNRANKED if part.guild_id in outdated else rank for part, rank in parts]
        now, sights, found = (
            self._clock(),
            self._browse.sights(names.user),
            list[tuple[channel_views.ChannelViews, int]](),
        )
        for hit in name_search.search(query, names.index, limit, ranks):
            part = names.parts[hit.guild]
            views = held.get(part.guild_id) or self._cache.at_hand(part.guild_id)
            if views is None or views.version != part.version or sights.see(views, now) is not part.view:
                return None
            found.append((views, part.places[hit.place]))
        return found, outdated

    def _outdated(self, user: model.User, guilds: Guilds, max_age: float) -> set[int]:
        now, sights = self._clock(), self._browse.sights(user)
        return {
            guild_id
            for guild_id, views in guilds.items()
            if sights.see(views, now) is None or self._browse.is_outdated(user, views, max_age, now)
        }

    def _recent(self, user_id: int) -> _Names | None:
        """Return the user's names if they are not too old; begins to check them when they soon will be."""
        names = self._kept.get(user_id)
        if names is None or names.user is not self._cache.known_user(user_id):
            return None
        age = self._clock() - names.checked_at
        if not 0 <= age < MOST_MISSED:
            return None
        if age >= whole_user.MISSED_AGE:
            self._prepare(user_id)
        return names

    def _prepare(self, user_id: int) -> "asyncio.Task[tuple[_Names, Guilds]]":
        """Return the task that prepares the user's names, one for all who wait."""
        task = self._preparing.get(user_id)
        if task is None:
            task = self._preparing[user_id] = concurrency.spawn_shared(self._make_names(user_id))
            task.add_done_callback(lambda _: self._preparing.pop(user_id, None))
        return task

    async def _make_names(self, user_id: int) -> tuple[_Names, Guilds]:
        whole = await self._whole.load(user_id)
        order = {guild_id: rank for rank, guild_id in enumerate(self._browse.order(whole.user, whole.guilds))}
        now, sights = self._clock(), self._browse.sights(whole.user)
        parts, old = [], self._kept.get(user_id)
        known = {part.guild_id: part for part in old.parts} if old else {}
        for guild_id in sorted(whole.guilds, key=lambda key: order.get(key, len(order))):
            views = whole.guilds[guild_id]
            view = sights.see(views, now)
            part = known.get(guild_id)
            if part is not None and part.version == views.version and part.view is view:
                parts.append(part)
            elif view is not None:
                places = [place for place in view.places if views.channels[place].kind != permissions.CATEGORY]
                parts.append(_Part(guild_id, views.version, view, places))
        if old is not None and len(old.parts) == len(parts) and all(known.get(part.guild_id) is part for part in parts):
            parts, index = old.parts, old.index
        else:
            index = name_index.NameIndex([_names_of(whole.guilds[part.guild_id], part.places) for part in parts])
        ranks = [order.get(part.guild_id, len(order)) for part in parts]
        names = _Names(whole.user, whole.checked_at, parts, index, ranks)
        self._keep(user_id, names)
        return names, whole.guilds

    def _keep(self, user_id: int, names: _Names) -> None:
        self._drop(user_id)
        self._kept[user_id] = names
        self._count += names.index.size
        while self._count > MOST_NAMES and len(self._kept) > 1:
            self._drop(next(iter(self._kept)))

    def _drop(self, user_id: int) -> None:
        dropped = self._kept.pop(user_id, None)
        if dropped is not None:
            self._count -= dropped.index.size


def _names_of(views: channel_views.ChannelViews, places: Sequence[int]) -> name_index.GuildNames:
    names = views.folded
    return name_index.GuildNames(views.folded_guild, [names[place] for place in places])
