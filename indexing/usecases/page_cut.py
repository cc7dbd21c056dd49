"""
Cuts one page of channels from cached guilds.

Most of a page are whole guilds, or their beginning: their rows are taken at once. Only where a filter, or the bytes of
the page, may leave out a row are rows taken one by one.
"""

import bisect
import dataclasses
import heapq
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

from indexing.domain import channel_views, model
from indexing.usecases import read_cache

PAGE_BYTES = 448 << 10
"""Largest page of channels in bytes: a response stays below 512 KiB."""
MOST_WALKED = 5_000
"""Most channels that a filtered page examines; the page then ends, even if it is not full (AIP-158)."""
See: TypeAlias = Callable[[channel_views.ChannelViews], channel_views.View | None]
"""Returns what the user may see of a guild; None when its channels are too old."""
MOST_LOADED = 25
"""Guilds that a page loads at once. It holds them until it is complete, even if the cache has no room for them."""
Place: TypeAlias = tuple[channel_views.ChannelViews, int]
"""A channel: its guild and its index there."""
NOTHING = channel_views.View([], b"", [], [])


class Run(NamedTuple):
    """Channels of one guild that follow each other on a page, possibly none: those of a view from a position on."""

    views: channel_views.ChannelViews
    view: channel_views.View
    first: int


@dataclasses.dataclass(frozen=True, slots=True)
class ChannelFilter:
    """Filter and order of channels; an empty value does not filter."""

    guild_id: int = 0
    name_prefix: str = ""
    kinds: tuple[int, ...] = ()
    by_activity: bool = False

    def matches(self, channel: model.Channel) -> bool:
        """Return whether a channel matches."""
        if self.kinds and channel.kind not in self.kinds:
            return False
        return channel.name.casefold().startswith(self.name_prefix.casefold())

    @property
    def selective(self) -> bool:
        """Whether the filter may exclude channels."""
        return bool(self.kinds or self.name_prefix)


@dataclasses.dataclass(slots=True)
class CutPage:
    """
    A page, and the guilds that it was cut from.

    Attributes:
        used: The guilds that determine the page.
        missing: Guilds that the page needs and that are not in the cache.
        guild_ids: Guilds with a row on the page.
        too_old: Guilds without a row because their channels are too old.
    """

    rows: list[Any] = dataclasses.field(default_factory=list)
    following: tuple[int, ...] | None = None
    used: dict[int, channel_views.ChannelViews] = dataclasses.field(default_factory=dict)
    missing: list[int] = dataclasses.field(default_factory=list)
    guild_ids: set[int] = dataclasses.field(default_factory=set)
    too_old: set[int] = dataclasses.field(default_factory=set)


class PageCut:
    """
    Cuts one page from cached guilds; called again after a change was loaded.

    Attributes:
        held: Guilds that were loaded for this page.
    """

    def __init__(
        self,
        cache: read_cache.ReadCache,
        wanted: ChannelFilter,
        after: tuple[int, ...] | None,
        size: int,
    ) -> None:
        self._cache = cache
        self._wanted = wanted
        self._after = after
        self._size = size
        self.held: dict[int, channel_views.ChannelViews] = {}

    def at_hand(self, guild_id: int) -> channel_views.ChannelViews | None:
        """Return a guild held for this page or cached; None when it must be loaded."""
        return self.held.get(guild_id) or self._cache.at_hand(guild_id)

    def page(self, guild_ids: Sequence[int], see: See) -> CutPage:
        """Return the page of these guilds as they are cached."""
        page = CutPage()
        make_runs = self._by_activity if self._wanted.by_activity else self._by_position
        filters = self._wanted.selective
        walked, taken = 0, 0
        last: Place | None = None
        for views, view, first in make_runs(guild_ids, page, see):
            free, count = self._size - len(page.rows), len(view.rows) - first
            if not filters and taken + min(free, count) * views.largest <= PAGE_BYTES:
                # Whatever the sizes of its rows are, the run fits as far as there are free places.
                if fitting := view.rows[first : first + free] if first or count > free else view.rows:
                    taken += sum(view.sizes[first : first + free])
                    page.rows += fitting
                    page.guild_ids.add(views.guild.guild_id)
                    last = views, view.places[first + len(fitting) - 1]
                if count > free:
                    page.following = self._key(last)
                    return page
                continue
            for index in view.places[first:]:
                walked += 1
                full = len(page.rows) >= self._size or (page.rows and taken + views.sizes[index] > PAGE_BYTES)
                if full or walked > MOST_WALKED:
                    page.following = self._key(last)
                    return page
                last = views, index
                if filters and not self._wanted.matches(views.channels[index]):
                    continue
                taken += views.sizes[index]
                page.rows.append(views.rows[index])
                page.guild_ids.add(views.guild.guild_id)
        return page

    def _key(self, last: Place | None) -> tuple[int, ...] | None:
        """Return the key after which the page after this channel begins."""
        if last is None:
            return None
        return _activity(*last) if self._wanted.by_activity else _position(*last)

    def _look(self, views: channel_views.ChannelViews, page: CutPage, see: See) -> channel_views.View:
        """Return what the user may see of a guild, and note that the page depends on it."""
        guild_id = views.guild.guild_id
        page.used[guild_id] = views
        view = see(views)
        if view is None:
            page.too_old.add(guild_id)
            return NOTHING
        return view

    def _by_position(self, guild_ids: Sequence[int], page: CutPage, see: See) -> Iterator[Run]:
        after = self._after
        for guild_id in guild_ids if after is None else guild_ids[bisect.bisect_left(guild_ids, after[0]) :]:
            views = self.at_hand(guild_id)
            if views is None:
                page.missing.append(guild_id)
                if len(page.missing) >= MOST_LOADED:
                    return
                continue
            view, first = self._look(views, page, see), 0
            if after is not None and guild_id == after[0]:
                first = bisect.bisect_left(view.places, bisect.bisect_right(views.keys, after[1:]))
            yield Run(views, view, first)

    def _by_activity(self, guild_ids: Sequence[int], page: CutPage, see: See) -> Iterator[Run]:
        lists = []
        for guild_id in guild_ids:
            views = self.at_hand(guild_id)
            if views is None:
                page.missing.append(guild_id)
                continue
            places = self._look(views, page, see).places
            lists.append(sorted((_activity(views, index), guild_id, index) for index in places))
        for key, guild_id, index in heapq.merge(*lists):
            if self._after is None or key > self._after:
                views = page.used[guild_id]
                yield Run(views, channel_views.View([index], b"", [views.rows[index]], [views.sizes[index]]), 0)


def _position(views: channel_views.ChannelViews, index: int) -> tuple[int, ...]:
    return views.guild.guild_id, *views.keys[index]


def _activity(views: channel_views.ChannelViews, index: int) -> tuple[int, ...]:
    channel = views.channels[index]
    return -(channel.last_message_id or 0), channel.channel_id
