"""
What a user is shown of the index: their guilds and channels as stored, never more than they may see.

No call to Discord is made. A page is cut from decoded guilds that the process keeps, then checked: the versions of the
user and of the guilds that the page was cut from are asked for after the page was, one question shared by all pages
that wait. So nothing is shown that a version stored before the page arrived hides. Only what changed is loaded again.

Round trips to MongoDB for a page: 1 (two questions side by side), 2 when something changed or is not in the cache.
"""

import bisect
import dataclasses
import heapq
from collections.abc import Callable, Iterator
from typing import Any

from indexing import settings
from indexing.domain import channel_views, freshness, model, ports, ranking, reasons
from indexing.usecases import read_cache

PAGE_BYTES = 448 << 10
"""Largest page of channels: an answer stays below 512 KiB."""
MOST_WALKED = 5_000
"""Rows that a page with a filter looks at; a page that found fewer than were asked for ends there (AIP-158)."""
MOST_LOADED = 25
"""Guilds that a page loads at once. It holds them until it is done, whether or not the cache has room for them."""
LIST_AGE = 1.0
"""Seconds for which a user's ranked guilds are shown without asking the store about the guilds: a guild's row hides no
channel. The user's own document is checked for each page."""


@dataclasses.dataclass(frozen=True, slots=True)
class GuildView:
    """
    One of a user's guilds.

    Attributes:
        position: 0 is the most important one.
        channel_count: Channels that the user may see, None when the guild was never indexed.
        reason: Why there are no channels, not all, or no news; empty when all is there.
        rank: Why it stands where it stands.
        install_url: Where our bot can be installed, empty when it is there.
    """

    guild: model.Guild
    owner: bool
    position: int
    channel_count: int | None
    stale: bool
    reason: str
    rank: ranking.RankedGuild
    install_url: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class ChannelFilter:
    """Which channels, in which order; an empty value does not filter."""

    guild_id: int = 0
    name_prefix: str = ""
    kinds: tuple[int, ...] = ()
    by_activity: bool = False

    def matches(self, channel: model.Channel) -> bool:
        """Return whether a channel passes."""
        if self.kinds and channel.kind not in self.kinds:
            return False
        return channel.name.casefold().startswith(self.name_prefix.casefold())

    @property
    def selective(self) -> bool:
        """Whether some channels may not pass."""
        return bool(self.kinds or self.name_prefix)


@dataclasses.dataclass(frozen=True, slots=True)
class Page:
    """
    A page of rows.

    Attributes:
        rows: As encoded by the function that `Browse` was given.
        following: Key after which the next page begins; None on the last.
        stale: Guilds among the rows that are old and will be fetched again.
    """

    rows: list[Any]
    following: tuple[Any, ...] | None
    stale: list[int]


class Browse:
    """
    Reads what a user may see.

    Args:
        encode_channel, encode_guild: Make of a row what pages are made of; called once for each version.
        monotonic: Seconds that only grow.
    """

    def __init__(
        self,
        deps: ports.Dependencies,
        config: settings.IndexingSettings,
        *,
        encode_channel: Callable[[model.Channel], Any],
        encode_guild: Callable[[GuildView], Any],
        monotonic: Callable[[], float],
    ) -> None:
        self._deps = deps
        self._config = config
        self._cache = read_cache.ReadCache(deps, config, encode_channel, monotonic)
        self._encode_guild = encode_guild

    async def write_views(self) -> None:
        """Write what readers viewed since the last time. Raises errors.StoreUnavailable; that is lost then."""
        await self._cache.views.flush()

    async def list_guilds(self, user_id: int, *, after: tuple[Any, ...] | None, size: int) -> Page:
        """
        Return a page of the user's guilds by rank.

        Args:
            user_id: The user.
            after: Key of the last guild of the page before.
            size: Most guilds to return.

        Raises:
            errors.UserNotFound: Nothing is known of the user.
        """
        user = await self._cache.user(user_id)
        now = self._deps.clock()
        ranked = self._cache.ranked(user)
        if ranked is None or now - ranked.made_at > LIST_AGE:
            ranked = await self._rank(user, now)
            self._cache.keep_ranked(user, ranked)
        first = 0 if after is None else bisect.bisect_right(ranked.keys, after)
        last = min(first + size, len(ranked.keys))
        rows = [ranked.row(place) for place in range(first, last)]
        stale = [guild_id for guild_id in ranked.guild_ids[first:last] if guild_id in ranked.stale]
        self._cache.views.refresh(stale)
        return Page(rows, ranked.keys[last - 1] if last < len(ranked.keys) else None, stale)

    async def _rank(self, user: model.User, now: float) -> read_cache.RankedGuilds:
        """Rank the user's guilds by what is stored of them now."""
        current = await self._cache.guilds(user.memberships)
        heads = {guild_id: views.guild for guild_id, views in current.items()}
        ranked = ranking.rank_guilds(
            user.memberships, heads, user.preferences, now=now, weights=self._config.rank_weights
        )
        trusted = self._is_list_trusted(user, now)
        stale = {
            guild_id
            for guild_id, guild in heads.items()
            if guild.fetched_at is not None and not freshness.is_fresh(guild, now=now, max_age=self._config.max_age)
        }

        def encode(position: int) -> Any:  # noqa: ANN401 -- what pages are made of
            row = ranked[position]
            views = current[row.inputs.guild_id]
            return self._encode_guild(self._guild_view(user, views, row, position, trusted=trusted))

        return read_cache.RankedGuilds(
            made_at=now,
            keys=[ranking.sort_key(row) for row in ranked],
            guild_ids=[row.inputs.guild_id for row in ranked],
            stale=stale,
            encode=encode,
        )

    def _guild_view(
        self,
        user: model.User,
        views: channel_views.ChannelViews,
        rank: ranking.RankedGuild,
        position: int,
        *,
        trusted: bool,
    ) -> GuildView:
        membership, guild = user.memberships[views.guild.guild_id], views.guild
        roles = self._trusted_roles(membership)
        indexed = guild.fetched_at is not None and guild.access is not model.Access.NOT_INSTALLED
        count = None
        if indexed:
            count = len(views.view(membership, roles)) if trusted else 0
        hidden = trusted and roles is None and views.needs_roles(membership)
        stale = not freshness.is_fresh(guild, now=self._deps.clock(), max_age=self._config.max_age)
        reason = _reason(guild, indexed=indexed, hidden=hidden, stale=stale)
        if not trusted:
            reason = reason or reasons.LIST_TOO_OLD
        return GuildView(
            guild=guild,
            owner=membership.owner,
            position=position,
            channel_count=count,
            stale=stale,
            reason=reason,
            rank=rank,
            install_url=_install_url(self._config.install_url, guild),
        )

    async def list_channels(
        self, user_id: int, wanted: ChannelFilter, *, after: tuple[int, ...] | None, size: int
    ) -> Page:
        """
        Return a page of channels that the user may see.

        A page has fewer rows than asked for, and a key to go on from, when its texts are very long, when a filter
        passes few rows, or when it would need many guilds that are not in the cache.

        Args:
            user_id: The user.
            wanted: Filter and order.
            after: Key of the last channel of the page before.
            size: Most channels to return.

        Raises:
            errors.UserNotFound: Nothing is known of the user.
        """
        cut = _Cut(self._cache, wanted, after, size, self._trusted_roles)
        user = self._cache.known_user(user_id)
        if user is None:
            user = await self._cache.user(user_id)
        while True:
            trusted = self._is_list_trusted(user, self._deps.clock())
            page = cut.page(user if trusted else dataclasses.replace(user, memberships={}))
            current = await self._cache.check(user, page.used)
            if current.user is user and not current.changed and not page.missing:
                break
            user = current.user
            cut.held |= await self._cache.load([*current.changed, *page.missing][:MOST_LOADED])
        shown = {key: cut.at_hand(key) for key in page.guild_ids}
        self._cache.views.note(user_id, wanted.guild_id, page.guild_ids)
        stale = sorted(key for key, views in shown.items() if views is not None and self._is_stale(views.guild))
        self._cache.views.refresh(stale)
        return Page(page.rows, page.following, stale)

    def _is_stale(self, guild: model.Guild) -> bool:
        return guild.fetched_at is not None and not freshness.is_fresh(
            guild, now=self._deps.clock(), max_age=self._config.max_age
        )

    def _is_list_trusted(self, user: model.User, now: float) -> bool:
        """Return whether the user's guild list is young enough to say where they are a member, with which rights."""
        return user.listed_at is None or now - user.listed_at < self._config.roles_hard_age

    def _trusted_roles(self, membership: model.Membership) -> tuple[int, ...] | None:
        fresh = freshness.roles_are_fresh(membership, now=self._deps.clock(), max_age=self._config.roles_hard_age)
        return membership.role_ids if fresh else None


@dataclasses.dataclass(slots=True)
class _CutPage:
    """
    What a page was cut from.

    Attributes:
        used: Version of each guild that decided what is on the page.
        missing: Guilds that are not in the cache, without which the page is not whole.
        guild_ids: Guilds with a row on the page.
    """

    rows: list[Any] = dataclasses.field(default_factory=list)
    following: tuple[int, ...] | None = None
    used: dict[int, int] = dataclasses.field(default_factory=dict)
    missing: list[int] = dataclasses.field(default_factory=list)
    guild_ids: set[int] = dataclasses.field(default_factory=set)


class _Cut:
    """
    Cuts one page from what is in the cache; called again after a change was loaded.

    Attributes:
        held: Guilds that were loaded for this page.
    """

    def __init__(
        self,
        cache: read_cache.ReadCache,
        wanted: ChannelFilter,
        after: tuple[int, ...] | None,
        size: int,
        roles_of: Callable[[model.Membership], tuple[int, ...] | None],
    ) -> None:
        self._cache = cache
        self._wanted = wanted
        self._after = after
        self._size = size
        self._roles_of = roles_of
        self.held: dict[int, channel_views.ChannelViews] = {}

    def at_hand(self, guild_id: int) -> channel_views.ChannelViews | None:
        """Return a guild without asking for it; None when it must be loaded."""
        return self.held.get(guild_id) or self._cache.at_hand(guild_id)

    def page(self, user: model.User) -> _CutPage:
        """Return the page as of what is cached now."""
        page = _CutPage()
        rows = self._by_activity(user, page) if self._wanted.by_activity else self._by_position(user, page)
        walked, taken = 0, 0
        last: tuple[int, ...] | None = None
        for key, views, place in rows:
            walked += 1
            full = len(page.rows) >= self._size or (page.rows and taken + views.sizes[place] > PAGE_BYTES)
            if full or walked > MOST_WALKED:
                page.following = last
                return page
            last = key
            if self._wanted.selective and not self._wanted.matches(views.channels[place]):
                continue
            taken += views.sizes[place]
            page.rows.append(views.rows[place])
            page.guild_ids.add(views.guild.guild_id)
        return page

    def _guild_ids(self, user: model.User) -> list[int]:
        if self._wanted.guild_id:
            return [self._wanted.guild_id] if self._wanted.guild_id in user.memberships else []
        return sorted(user.memberships)

    def _by_position(
        self, user: model.User, page: _CutPage
    ) -> Iterator[tuple[tuple[int, ...], channel_views.ChannelViews, int]]:
        after = self._after
        for guild_id in self._guild_ids(user):
            if after is not None and guild_id < after[0]:
                continue
            views = self.at_hand(guild_id)
            if views is None:
                page.missing.append(guild_id)
                if len(page.missing) >= MOST_LOADED:
                    return
                continue
            page.used[guild_id] = views.version
            membership = user.memberships[guild_id]
            places = views.view(membership, self._roles_of(membership))
            first = 0
            if after is not None and guild_id == after[0]:
                first = bisect.bisect_right(places, after[1:], key=lambda place: _position(views, place)[1:])
            for place in places[first:]:
                yield _position(views, place), views, place

    def _by_activity(
        self, user: model.User, page: _CutPage
    ) -> Iterator[tuple[tuple[int, ...], channel_views.ChannelViews, int]]:
        lists = []
        for guild_id in self._guild_ids(user):
            views = self.at_hand(guild_id)
            if views is None:
                page.missing.append(guild_id)
                continue
            page.used[guild_id] = views.version
            membership = user.memberships[guild_id]
            places = views.view(membership, self._roles_of(membership))
            lists.append(sorted((_activity(views, place), guild_id, place) for place in places))
        for key, guild_id, place in heapq.merge(*lists):
            if self._after is None or key > self._after:
                views = self.at_hand(guild_id)
                if views is not None:
                    yield key, views, place


def _position(views: channel_views.ChannelViews, place: int) -> tuple[int, ...]:
    channel = views.channels[place]
    return channel.guild_id, channel.position, channel.channel_id


def _activity(views: channel_views.ChannelViews, place: int) -> tuple[int, ...]:
    channel = views.channels[place]
    return -(channel.last_message_id or 0), channel.channel_id


def _reason(guild: model.Guild, *, indexed: bool, hidden: bool, stale: bool) -> str:
    if guild.access is model.Access.NOT_INSTALLED:
        return reasons.BOT_REMOVED if guild.reason == reasons.BOT_REMOVED else reasons.BOT_NOT_INSTALLED
    if guild.access is model.Access.DENIED:
        return guild.reason or reasons.NO_ACCESS
    if not indexed:
        return reasons.NOT_INDEXED_YET
    if stale and guild.schedule.failures:
        return reasons.GUILD_UNAVAILABLE
    return reasons.ROLES_UNKNOWN if hidden else ""


def _install_url(template: str, guild: model.Guild) -> str:
    """Return the link for one guild (developers/topics/oauth2.mdx, Bot Authorization Flow, read 2026-08-06)."""
    if not template or guild.access is not model.Access.NOT_INSTALLED:
        return ""
    return f"{template}&guild_id={guild.guild_id}&disable_guild_select=true"
