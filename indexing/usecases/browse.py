"""
Lists a user's stored guilds and channels, limited to what the user may see.

No call to Discord is made. A page is cut from decoded guilds in the process's cache, then checked: the versions of the
user and of the page's guilds are fetched after the page was requested, with one query shared by all waiting pages. So a
page shows nothing that a version stored before the request hides. Only what changed is loaded again.

Round trips to MongoDB for a page: 1 (two concurrent queries), 2 when something changed or is not in the cache.
"""

import asyncio
import bisect
import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from indexing import concurrency, settings
from indexing.domain import channel_views, freshness, model, ports, ranking, trust
from indexing.usecases import guild_views, page_cut, read_cache, sights

LIST_AGE = 1.0
"""Seconds for which a user's ranked guilds are shown without a check of the guilds' versions: no channel depends on it.
The user's own document is checked for each page."""
RENEW_AGE = 0.7 * LIST_AGE
"""Age at which they are ranked again in the background, so that no call waits while the user goes on reading."""


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
        observe_ages: Called with the ages in seconds of the listed guilds that were ever fetched.
    """

    def __init__(  # noqa: PLR0913 -- keywords but two
        self,
        deps: ports.Dependencies,
        config: settings.IndexingSettings,
        *,
        encode_channel: Callable[[model.Channel], Any],
        encode_guild: Callable[[guild_views.GuildView], Any],
        monotonic: Callable[[], float],
        observe_ages: Callable[[Collection[float]], None] = lambda _: None,
    ) -> None:
        self._observe_ages = observe_ages
        self._deps = deps
        self._config = config
        self._cache = read_cache.ReadCache(deps, config, encode_channel, monotonic)
        self._encode_guild = encode_guild
        self._trust = trust.Trust(config)
        self._sights = sights.Sights(self._trust)
        self._ranking: dict[int, tuple[model.User, asyncio.Task[read_cache.RankedGuilds]]] = {}
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
        if not user.shown_memberships(now):
            return await self._rank(dataclasses.replace(user, memberships={}), now)
        ranked = self._cache.ranked(user)
        if ranked is None or now >= ranked.valid_until:
            return await asyncio.shield(self._start_ranking(user))
        if now >= ranked.renew_at:
            self._start_ranking(user)
        return ranked

    def order(self, user: model.User, guilds: Mapping[int, channel_views.ChannelViews]) -> list[int]:
        """Return the user's guilds in order, by the state of *guilds*, which the caller has checked."""
        now, ranked = self._deps.clock(), self._cache.ranked(user)
        if ranked is not None and now < ranked.valid_until:
            return ranked.guild_ids
        heads = {guild_id: views.guild for guild_id, views in guilds.items() if views.version > 0}
        return [row.inputs.guild_id for row in self._rank_heads(user, heads, now)]

    def _rank_heads(self, user: model.User, heads: Mapping[int, model.Guild], now: float) -> list[ranking.RankedGuild]:
        weights = self._config.rank_weights
        return ranking.rank_guilds(user.memberships, heads, user.preferences, now=now, weights=weights)

    def _start_ranking(self, user: model.User) -> "asyncio.Task[read_cache.RankedGuilds]":
        """Return the task that ranks this version of the user's guilds, one for all who wait."""
        ranked_user, task = self._ranking.get(user.user_id, (None, None))
        if task is None or ranked_user is not user:
            task = concurrency.spawn_shared(self._rank_and_keep(user))
            self._ranking[user.user_id] = user, task
        return task

    async def _rank_and_keep(self, user: model.User) -> read_cache.RankedGuilds:
        try:
            ranked = await self._rank(user, self._deps.clock())
            self._cache.keep_ranked(user, ranked)
            return ranked
        finally:
            if self._ranking[user.user_id][0] is user:
                del self._ranking[user.user_id]

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
        guild_ids, outdated = ranked.guild_ids[first:last], list[int]()
        if max_age is not None:
            outdated = [key for key in guild_ids if is_outdated(ranked.fetched.get(key), max_age, now)]
        rows = [ranked.row(place) for place, key in enumerate(guild_ids, first) if key not in outdated]
        stale = [guild_id for guild_id in guild_ids if guild_id in ranked.stale]
        self._cache.views.refresh(stale)
        times = ranked.channels_fetched
        self._observe_ages([max(0.0, now - times[key]) for key in guild_ids if key in times and key not in outdated])
        return Page(rows, ranked.keys[last - 1] if last < len(ranked.keys) else None, stale, outdated)

    async def _rank(self, user: model.User, now: float) -> read_cache.RankedGuilds:
        """Rank the user's guilds by their stored state; by what their list says alone when that is too old."""
        trusted = self._trust.trusts_list(user, now)
        current = await self._cache.guilds(user.memberships) if trusted else {}
        heads = {guild_id: views.guild for guild_id, views in current.items()}
        if not trusted:
            heads = {guild_id: guild_views.without_news(guild_id) for guild_id in user.memberships}
        expiries = [self._trust.list_expiry(user), *map(self._trust.channels_expiry, heads.values())]
        ranked = self._rank_heads(user, heads, now)

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
            renew_at=now + RENEW_AGE,
            valid_until=min([now + LIST_AGE, *(at for at in expiries if at > now)]),
            keys=[ranking.sort_key(row) for row in ranked],
            guild_ids=[row.inputs.guild_id for row in ranked],
            fetched={key: at for key, views in current.items() if (at := _oldest_input(user, views))},
            channels_fetched={key: at for key, guild in heads.items() if (at := guild.fetched_at)},
            stale={guild_id for guild_id, guild in heads.items() if self._is_stale(guild, now)},
            encode=encode,
        )

    async def list_channels(
        self,
        user_id: int,
        wanted: page_cut.ChannelFilter,
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
        user = self._cache.known_user(user_id) or await self._cache.user(user_id)
        cut = page_cut.PageCut(self._cache, wanted, after, size)
        while True:
            outdated = set[int]()
            guild_ids = self._shown_ids(user, wanted.guild_id)
            page = cut.page(guild_ids, self._viewer_of(user, max_age, outdated))
            used = {key: views.version for key, views in page.used.items()}
            # A caller who asks for a second page usually asks for the next ones too.
            following = guild_ids[bisect.bisect_left(guild_ids, after[0]) :] if after else ()
            current = await self._cache.check(user, used, following)
            if current.user is user and not current.changed and not page.missing and not self._has_renewed(page):
                break
            user = current.user
            cut.held |= await self._cache.load([*current.changed, *page.missing][: page_cut.MOST_LOADED])
        self._cache.views.note(user_id, wanted.guild_id, page.guild_ids)
        now = self._deps.clock()
        stale = sorted(key for key in page.guild_ids | page.too_old if self._is_stale(page.used[key].guild, now))
        self._cache.views.refresh(stale)
        return Page(page.rows, page.following, stale, sorted(outdated))

    def _viewer_of(self, user: model.User, max_age: float | None, outdated: set[int]) -> page_cut.See:
        """Return what looks at guilds as the user; it adds those that are older than *max_age* to *outdated*."""
        seen, now = self._sights.of(user), self._deps.clock()

        def see(views: channel_views.ChannelViews) -> channel_views.View | None:
            view = seen.see(views, now)
            if max_age is not None and self.is_outdated(user, views, max_age, now):
                outdated.add(views.guild.guild_id)
                return page_cut.NOTHING
            return view

        return see

    def _is_stale(self, guild: model.Guild, now: float) -> bool:
        return guild.fetched_at is not None and not freshness.is_fresh(guild, now=now, max_age=self._config.max_age)

    def _has_renewed(self, page: page_cut.CutPage) -> bool:
        """Return whether channels that the page hides as too old turned out to be fetched again, without a change."""
        now = self._deps.clock()
        return any(self._trust.trusts_channels(page.used[key].guild, now) for key in page.too_old)

    def sights(self, user: model.User) -> sights.UserSights:
        """Return what the user may see of guilds, whatever the age of their guild list: see `shown`."""
        return self._sights.of(user)

    def _shown_ids(self, user: model.User, guild_id: int) -> Sequence[int]:
        """Return the user's guilds that may be shown, in order; only *guild_id* if it is not 0."""
        shown = self.shown(user)
        if guild_id:
            return [guild_id] if guild_id in shown else []
        return self._sights.of(user).guild_ids if shown else []


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
