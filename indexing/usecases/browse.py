"""
Lists a user's stored guilds and channels, limited to what the user may see.

No call to Discord is made. A page is cut from decoded guilds in the process's cache, then checked: the versions of the
user and of the page's guilds are fetched after the page was requested, with one query shared by all waiting pages. So a
page shows nothing that a version stored before the request hides. Only what changed is loaded again.

Round trips to MongoDB for a page: 1 (two concurrent queries), 2 when something changed or is not in the cache.
"""

import bisect
import dataclasses
import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from indexing import settings
from indexing.domain import channel_views, freshness, model, ports, ranking, trust
from indexing.usecases import guild_views, read_cache, sights

PAGE_BYTES = 448 << 10
"""Largest page of channels in bytes: a response stays below 512 KiB."""
MOST_WALKED = 5_000
"""Most channels that a filtered page examines; the page then ends, even if it is not full (AIP-158)."""
MOST_LOADED = 25
"""Guilds that a page loads at once. It holds them until it is complete, even if the cache has no room for them."""
LIST_AGE = 1.0
"""Seconds for which a user's ranked guilds are shown without a check of the guilds' versions: no channel depends on it.
The user's own document is checked for each page."""


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


@dataclasses.dataclass(frozen=True, slots=True)
class Page:
    """
    A page of rows.

    Attributes:
        rows: Encoded by the functions given to `Browse`.
        following: Key after which the next page begins; None on the last.
        stale: Guilds among the rows that are old and will be fetched again.
        outdated: Guilds without rows, because they or the user's rights are older than was asked for.
    """

    rows: list[Any]
    following: tuple[Any, ...] | None
    stale: list[int]
    outdated: list[int] = dataclasses.field(default_factory=list)


class Browse:
    """
    Lists what a user may see.

    Args:
        encode_channel, encode_guild: Encode one row of a page; called once for each version.
        monotonic: Returns monotonic seconds.
    """

    def __init__(
        self,
        deps: ports.Dependencies,
        config: settings.IndexingSettings,
        *,
        encode_channel: Callable[[model.Channel], Any],
        encode_guild: Callable[[guild_views.GuildView], Any],
        monotonic: Callable[[], float],
    ) -> None:
        self._deps = deps
        self._config = config
        self._cache = read_cache.ReadCache(deps, config, encode_channel, monotonic)
        self._encode_guild = encode_guild
        self._trust = trust.Trust(config)
        self._sights = sights.Sights(self._trust)
        self._viewer = guild_views.GuildViewer(config, self._trust)

    @property
    def cache(self) -> read_cache.ReadCache:
        """The cached users and guilds, which streams of the process share."""
        return self._cache

    def shown(self, user: model.User) -> Mapping[int, model.Membership]:
        """Return the memberships that may be shown to the user now; none when their guild list is too old."""
        now = self._deps.clock()
        return user.shown_memberships(now) if self._trust.trusts_list(user, now) else {}

    def is_outdated(
        self, user: model.User, views: channel_views.ChannelViews, max_age: float | None, now: float
    ) -> bool:
        """Return whether a guild's channels, or the rights that decide about them, are older than *max_age* seconds."""
        return max_age is not None and is_outdated(_oldest_input(user, views), max_age, now)

    async def write_views(self) -> None:
        """Store the views since the last call. They are lost when it raises errors.StoreUnavailable."""
        await self._cache.views.flush()

    async def ranked(self, user: model.User) -> read_cache.RankedGuilds:
        """Return the user's guilds in order, as shown now."""
        now = self._deps.clock()
        ranked = self._cache.ranked(user)
        if not user.shown_memberships(now):
            user = dataclasses.replace(user, memberships={})
            ranked = None
        if ranked is None or now >= ranked.valid_until:
            ranked = await self._rank(user, now)
            self._cache.keep_ranked(user, ranked)
        return ranked

    async def list_guilds(
        self, user_id: int, *, after: tuple[Any, ...] | None, size: int, max_age: float | None = None
    ) -> Page:
        """
        Return a page of the user's guilds by rank.

        Args:
            user_id: The user.
            after: Key of the last guild of the previous page.
            size: Most guilds to return.
            max_age: Guilds older than this, in seconds, are named in place of being returned; None returns all.

        Raises:
            errors.UserNotFound: Nothing is stored of the user.
        """
        user = await self._cache.user(user_id)
        ranked = await self.ranked(user)
        now = self._deps.clock()
        first = 0 if after is None else bisect.bisect_right(ranked.keys, after)
        last = min(first + size, len(ranked.keys))
        outdated = [key for key in ranked.guild_ids[first:last] if is_outdated(ranked.fetched.get(key), max_age, now)]
        rows = [ranked.row(place) for place in range(first, last) if ranked.guild_ids[place] not in outdated]
        stale = [guild_id for guild_id in ranked.guild_ids[first:last] if guild_id in ranked.stale]
        self._cache.views.refresh(stale)
        return Page(rows, ranked.keys[last - 1] if last < len(ranked.keys) else None, stale, outdated)

    async def _rank(self, user: model.User, now: float) -> read_cache.RankedGuilds:
        """Rank the user's guilds by their stored state; by what their list says alone when that is too old."""
        trusted = self._trust.trusts_list(user, now)
        current = await self._cache.guilds(user.memberships) if trusted else {}
        heads = {guild_id: views.guild for guild_id, views in current.items()}
        if not trusted:
            heads = {guild_id: guild_views.without_news(guild_id) for guild_id in user.memberships}
        expiries = [self._trust.list_expiry(user), *map(self._trust.channels_expiry, heads.values())]
        ranked = ranking.rank_guilds(
            user.memberships, heads, user.preferences, now=now, weights=self._config.rank_weights
        )

        def encode(position: int) -> Any:  # noqa: ANN401 -- an encoded row
            row = ranked[position]
            guild_id = row.inputs.guild_id
            membership = user.memberships[guild_id]
            if not trusted:
                view = self._viewer.view_without_news(membership, row, position)
            else:
                view = self._viewer.view(membership, current[guild_id], row, position, now)
            return self._encode_guild(view)

        return read_cache.RankedGuilds(
            valid_until=min([now + LIST_AGE, *(at for at in expiries if at > now)]),
            keys=[ranking.sort_key(row) for row in ranked],
            guild_ids=[row.inputs.guild_id for row in ranked],
            fetched={key: at for key, views in current.items() if (at := _oldest_input(user, views))},
            stale={guild_id for guild_id, guild in heads.items() if self._is_stale(guild, now)},
            encode=encode,
        )

    async def list_channels(
        self,
        user_id: int,
        wanted: ChannelFilter,
        *,
        after: tuple[int, ...] | None,
        size: int,
        max_age: float | None = None,
    ) -> Page:
        """
        Return a page of channels that the user may see.

        A page may have fewer rows than *size* although more follow: when its texts are very long, when the filter
        matches few rows, or when it needs many guilds that are not in the cache.

        Args:
            user_id: The user.
            wanted: Filter and order.
            after: Key of the last channel of the previous page.
            size: Most channels to return.
            max_age: Guilds whose channels, or the user's rights in them, are older than this, in seconds, are named in
                place of being returned; None returns all.

        Raises:
            errors.UserNotFound: Nothing is stored of the user.
        """
        outdated: set[int] = set()
        user = self._cache.known_user(user_id) or await self._cache.user(user_id)

        def visible(views: channel_views.ChannelViews) -> Sequence[int] | None:
            now = self._deps.clock()
            view = self._sights.of(user).see(views, now)
            outdated.discard(views.guild.guild_id)
            if self.is_outdated(user, views, max_age, now):
                outdated.add(views.guild.guild_id)
                return ()
            return view.places if view else None

        cut = _Cut(self._cache, wanted, after, size, visible)
        while True:
            page = cut.page(self._shown_ids(user, wanted.guild_id))
            current = await self._cache.check(user, page.used)
            if current.user is user and not current.changed and not page.missing and not self._has_renewed(cut, page):
                break
            user = current.user
            cut.held |= await self._cache.load([*current.changed, *page.missing][:MOST_LOADED])
        looked_at = {key: cut.at_hand(key) for key in page.guild_ids | page.too_old}
        self._cache.views.note(user_id, wanted.guild_id, page.guild_ids)
        now = self._deps.clock()
        stale = sorted(
            key for key, views in looked_at.items() if views is not None and self._is_stale(views.guild, now)
        )
        self._cache.views.refresh(stale)
        return Page(page.rows, page.following, stale, sorted(outdated & page.used.keys()))

    def _is_stale(self, guild: model.Guild, now: float) -> bool:
        return guild.fetched_at is not None and not freshness.is_fresh(guild, now=now, max_age=self._config.max_age)

    def _has_renewed(self, cut: "_Cut", page: "_CutPage") -> bool:
        """Return whether channels that the page hides as too old turned out to be fetched again, without a change."""
        now = self._deps.clock()
        return any(self._trust.trusts_channels(views.guild, now) for key in page.too_old if (views := cut.at_hand(key)))

    def sights(self, user: model.User) -> sights.UserSights:
        """Return what the user may see of guilds, whatever the age of their guild list: see `shown`."""
        return self._sights.of(user)

    def _shown_ids(self, user: model.User, guild_id: int) -> Sequence[int]:
        """Return the user's guilds that may be shown, in order; only *guild_id* if it is not 0."""
        shown = self.shown(user)
        if guild_id:
            return [guild_id] if guild_id in shown else []
        return self._sights.of(user).guild_ids if shown else []


@dataclasses.dataclass(slots=True)
class _CutPage:
    """
    A page, and the guild versions that it was cut from.

    Attributes:
        used: Versions of the guilds that determine the page.
        missing: Guilds that the page needs and that are not in the cache.
        guild_ids: Guilds with a row on the page.
        too_old: Guilds without a row because their channels are too old.
    """

    rows: list[Any] = dataclasses.field(default_factory=list)
    following: tuple[int, ...] | None = None
    used: dict[int, int] = dataclasses.field(default_factory=dict)
    missing: list[int] = dataclasses.field(default_factory=list)
    guild_ids: set[int] = dataclasses.field(default_factory=set)
    too_old: set[int] = dataclasses.field(default_factory=set)


class _Cut:
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
        visible: Callable[[channel_views.ChannelViews], Sequence[int] | None],
    ) -> None:
        self._cache = cache
        self._wanted = wanted
        self._after = after
        self._size = size
        self._visible = visible
        self.held: dict[int, channel_views.ChannelViews] = {}

    def at_hand(self, guild_id: int) -> channel_views.ChannelViews | None:
        """Return a guild held for this page or cached; None when it must be loaded."""
        return self.held.get(guild_id) or self._cache.at_hand(guild_id)

    def page(self, guild_ids: Sequence[int]) -> _CutPage:
        """Return the page of these guilds as they are cached."""
        page = _CutPage()
        rows = self._by_activity(guild_ids, page) if self._wanted.by_activity else self._by_position(guild_ids, page)
        filters = self._wanted.selective
        walked, taken, count = 0, 0, 0
        last: tuple[channel_views.ChannelViews, int] | None = None
        for views, index in rows:
            walked += 1
            full = count >= self._size or (count and taken + views.sizes[index] > PAGE_BYTES)
            if full or walked > MOST_WALKED:
                page.following = self._key(*last) if last else None
                return page
            last = views, index
            if filters and not self._wanted.matches(views.channels[index]):
                continue
            taken += views.sizes[index]
            count += 1
            page.rows.append(views.rows[index])
            page.guild_ids.add(views.guild.guild_id)
        return page

    def _key(self, views: channel_views.ChannelViews, index: int) -> tuple[int, ...]:
        """Return the key after which the page after this channel begins."""
        return _activity(views, index) if self._wanted.by_activity else _position(views, index)

    def _look(self, views: channel_views.ChannelViews, page: _CutPage) -> Sequence[int]:
        """Return the indexes of the channels that the user may see, and note that the page depends on the guild."""
        guild_id = views.guild.guild_id
        page.used[guild_id] = views.version
        indexes = self._visible(views)
        if indexes is None:
            page.too_old.add(guild_id)
        return indexes or ()

    def _by_position(
        self, guild_ids: Sequence[int], page: _CutPage
    ) -> Iterator[tuple[channel_views.ChannelViews, int]]:
        after = self._after
        for guild_id in guild_ids if after is None else guild_ids[bisect.bisect_left(guild_ids, after[0]) :]:
            views = self.at_hand(guild_id)
            if views is None:
                page.missing.append(guild_id)
                if len(page.missing) >= MOST_LOADED:
                    return
                continue
            indexes = self._look(views, page)
            first = 0
            if after is not None and guild_id == after[0]:
                first = bisect.bisect_right(indexes, after[1:], key=lambda index: _position(views, index)[1:])
            for index in indexes[first:]:
                yield views, index

    def _by_activity(
        self, guild_ids: Sequence[int], page: _CutPage
    ) -> Iterator[tuple[channel_views.ChannelViews, int]]:
        lists = []
        for guild_id in guild_ids:
            views = self.at_hand(guild_id)
            if views is None:
                page.missing.append(guild_id)
                continue
            indexes = self._look(views, page)
            lists.append(sorted((_activity(views, index), guild_id, index) for index in indexes))
        for key, guild_id, index in heapq.merge(*lists):
            if self._after is None or key > self._after:
                views = self.at_hand(guild_id)
                if views is not None:
                    yield views, index


def is_outdated(oldest: float | None, max_age: float | None, now: float) -> bool:
    """Return whether something made from inputs as old as *oldest* is older than *max_age* seconds."""
    return max_age is not None and (oldest is None or now - oldest > max_age)


def _oldest_input(user: model.User, views: channel_views.ChannelViews) -> float | None:
    """Return the time of the oldest input of what is shown of a guild; None when one was never fetched."""
    membership = user.memberships[views.guild.guild_id]
    times = [user.listed_at, views.guild.fetched_at]
    if views.needs_roles(membership):
        times.append(membership.roles_at)
    known = [at for at in times if at is not None]
    return min(known) if len(known) == len(times) else None


def _position(views: channel_views.ChannelViews, index: int) -> tuple[int, ...]:
    return views.guild.guild_id, *views.keys[index]


def _activity(views: channel_views.ChannelViews, index: int) -> tuple[int, ...]:
    channel = views.channels[index]
    return -(channel.last_message_id or 0), channel.channel_id
