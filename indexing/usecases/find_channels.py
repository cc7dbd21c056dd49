"""
Finds single guilds and channels of a user, checks many ids at once, and searches by name.

Like a page of `browse`, an answer is made from decoded guilds in the process's cache and then checked: nothing is shown
that a version stored before the call hides. What a user may not see is answered like what does not exist.
"""

import bisect
import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from indexing import errors
from indexing.domain import channel_views, model, name_search, permissions, ports
from indexing.usecases import browse

MISSED_AGE = 1.0
"""Seconds for which a new channel may be missing: each call checks what it shows, and other guilds only so often."""
MOST_CHECKED = 10_000
"""Users whose last check of all guilds is remembered."""
CHANGING = "the user's guilds change faster than they can be read"
MOST_ROUNDS = 10
"""Most times that an answer is made again because something changed meanwhile."""


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """
    Rows that a user may see.

    Attributes:
        rows: Encoded by the functions given to `browse.Browse`.
        missing: Requested ids that are not among the rows: not visible to the user, not existing, or too old.
        outdated: Guilds with rows that were left out because they, or the user's rights, are older than asked for.
    """

    rows: list[Any]
    missing: list[str]
    outdated: list[int]


@dataclasses.dataclass(frozen=True, slots=True)
class _Seen:
    """What a user may see of some guilds, as checked: their channels and the indexes of the visible ones."""

    user: model.User
    guilds: Mapping[int, tuple[channel_views.ChannelViews, Sequence[int]]]
    outdated: Collection[int]


class FindChannels:
    """
    Answers lookups and searches.

    Args:
        browser: Whose cache of users and guilds is used.
        clock: Returns epoch seconds.
    """

    def __init__(self, browser: browse.Browse, clock: ports.Clock) -> None:
        self._browse = browser
        self._cache = browser.cache
        self._clock = clock
        self._checked: dict[int, tuple[model.User, float]] = {}

    async def get_guild(self, user_id: int, guild_id: int, *, max_age: float | None = None) -> Found:
        """
        Return one guild of the user; nothing but its id in `outdated` when it is older than *max_age* seconds.

        Raises:
            errors.UserNotFound: Nothing is stored of the user.
            errors.GuildNotFound: The user is not a member, as far as known.
        """
        user = await self._cache.user(user_id)
        ranked = await self._browse.ranked(user)
        if guild_id not in ranked.guild_ids:
            raise errors.GuildNotFound(guild_id)
        if browse.is_outdated(ranked.fetched.get(guild_id), max_age, self._clock()):
            return Found([], [], [guild_id])
        return Found([ranked.row(ranked.guild_ids.index(guild_id))], [], [])

    async def get_channel(self, user_id: int, channel_id: str, *, max_age: float | None = None) -> Found:
        """
        Return one channel; nothing but its guild's id in `outdated` when it is older than *max_age* seconds.

        Raises:
            errors.UserNotFound: Nothing is stored of the user.
            errors.ChannelNotFound: The user may not see the channel, or it does not exist.
        """
        found = await self.check(user_id, [channel_id], max_age=max_age)
        if not found.rows and not found.outdated:
            raise errors.ChannelNotFound(channel_id)
        return found

    async def check(self, user_id: int, channel_ids: Sequence[str], *, max_age: float | None = None) -> Found:
        """
        Return those of the channels that the user may see, in this order.

        Raises:
            errors.UserNotFound: Nothing is stored of the user.
        """
        wanted = dict.fromkeys(channel_ids)

        def has_wanted(views: channel_views.ChannelViews) -> bool:
            return not wanted.keys().isdisjoint(views.places)

        seen = await self._see(user_id, max_age, has_wanted, has_wanted)
        rows: dict[str, Any] = {}
        outdated = set()
        for guild_id, (views, visible) in seen.guilds.items():
            for channel_id in wanted.keys() & views.places.keys():
                place = views.places[channel_id]
                at = bisect.bisect_left(visible, place)
                if at == len(visible) or visible[at] != place:
                    continue
                if guild_id in seen.outdated:
                    outdated.add(guild_id)
                else:
                    rows[channel_id] = views.rows[place]
        missing = [channel_id for channel_id in wanted if channel_id not in rows]
        shown = {views.guild.guild_id for views, _ in seen.guilds.values()} - outdated
        self._cache.views.note(user_id, 0, shown)
        return Found([rows[channel_id] for channel_id in wanted if channel_id in rows], missing, sorted(outdated))

    async def search(self, user_id: int, query: str, *, limit: int, max_age: float | None = None) -> Found:
        """
        Return the channels whose names match best, at most *limit*; equal matches in the order of the user's guilds.

        Categories are left out.

        Raises:
            errors.UserNotFound: Nothing is stored of the user.
        """
        for _ in range(MOST_ROUNDS):
            seen = await self._see(user_id, max_age, lambda _views: True, lambda _views: False)
            found = await self._search(seen, query, limit)
            current = await self._cache.check(seen.user, {views.guild.guild_id: views.version for views, _ in found})
            if current.user is seen.user and not current.changed:
                self._cache.views.note(user_id, 0, {views.guild.guild_id for views, _ in found})
                return Found([views.rows[place] for views, place in found], [], sorted(seen.outdated))
            await self._cache.load(current.changed)
        raise errors.StoreUnavailable(CHANGING)

    async def _search(self, seen: _Seen, query: str, limit: int) -> list[tuple[channel_views.ChannelViews, int]]:
        """Return the guild and the index of the channels that match best."""
        ranked = await self._browse.ranked(seen.user)
        guilds, places = [], []
        for guild_id in ranked.guild_ids:
            if guild_id not in seen.guilds or guild_id in seen.outdated:
                continue
            views, visible = seen.guilds[guild_id]
            shown = [place for place in visible if views.channels[place].kind != permissions.CATEGORY]
            names = views.folded
            guilds.append(name_search.GuildNames(views.folded_guild, [names[place] for place in shown]))
            places.append((views, shown))
        hits = name_search.search(query, guilds, limit)
        return [(places[hit.guild][0], places[hit.guild][1][hit.place]) for hit in hits]

    async def _see(
        self,
        user_id: int,
        max_age: float | None,
        wants: Callable[[channel_views.ChannelViews], bool],
        checks: Callable[[channel_views.ChannelViews], bool],
    ) -> _Seen:
        """
        Return what the user may see of their guilds that *wants* selects.

        Those that *checks* selects are checked against the store; all of them once in MISSED_AGE.
        """
        user = self._cache.known_user(user_id) or await self._cache.user(user_id)
        held: dict[int, channel_views.ChannelViews] = {}
        for _ in range(MOST_ROUNDS):
            memberships = self._browse.shown(user)
            views = {guild_id: held.get(guild_id) or self._cache.at_hand(guild_id) for guild_id in memberships}
            # A guild that is not stored has version 0 and no channels; it is asked for again by the next call.
            missing = [key for key, each in views.items() if each is None or (not each.version and key not in held)]
            # From time to time a guild without a wanted channel counts too: a channel may have been added to it.
            began, every = self._clock(), self._is_due(user)
            used = {key: each.version for key, each in _present(views) if each.version and (every or checks(each))}
            current = await self._cache.check(user, used)
            if current.user is user and not current.changed and not missing:
                if every:
                    self._note_checked(user, began)
                return self._seen(user, views, max_age, wants)
            user = current.user
            held |= await self._cache.load([*current.changed, *missing])
        raise errors.StoreUnavailable(CHANGING)

    def _is_due(self, user: model.User) -> bool:
        checked, at = self._checked.get(user.user_id, (None, 0.0))
        return checked is not user or not 0 <= self._clock() - at < MISSED_AGE

    def _note_checked(self, user: model.User, at: float) -> None:
        self._checked.pop(user.user_id, None)
        self._checked[user.user_id] = user, at
        if len(self._checked) > MOST_CHECKED:
            del self._checked[next(iter(self._checked))]

    def _seen(
        self,
        user: model.User,
        held: Mapping[int, channel_views.ChannelViews | None],
        max_age: float | None,
        wants: Callable[[channel_views.ChannelViews], bool],
    ) -> _Seen:
        now = self._clock()
        guilds, outdated = {}, set()
        for guild_id, views in _present(held):
            if not wants(views):
                continue
            membership = user.memberships[guild_id]
            visible = self._browse.visible(views, membership)
            if visible is None:
                if max_age is not None:
                    outdated.add(guild_id)
                continue
            guilds[guild_id] = views, visible
            if self._browse.is_outdated(user, views, max_age, now):
                outdated.add(guild_id)
        return _Seen(user, guilds, outdated)


def _present(
    held: Mapping[int, channel_views.ChannelViews | None],
) -> Iterator[tuple[int, channel_views.ChannelViews]]:
    for guild_id, views in held.items():
        if views is not None:
            yield guild_id, views
