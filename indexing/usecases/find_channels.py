"""
Finds single guilds and channels of a user, and checks many ids at once.

Like a page of `browse`, an answer is made from decoded guilds in the process's cache and then checked: nothing is shown
that a version stored before the call hides. What a user may not see is answered like what does not exist.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from indexing import errors
from indexing.domain import channel_views, model, ports
from indexing.usecases import browse, whole_user


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


Placed = Mapping[int, tuple[channel_views.ChannelViews, list[str]]]
"""Requested channels by guild, whether the user may see them or not."""


class FindChannels:
    """
    Answers lookups.

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
        user = self._cache.known_user(user_id) or await self._cache.user(user_id)
        held: dict[int, channel_views.ChannelViews] = {}
        for _ in range(whole_user.MOST_ROUNDS):
            placed, complete = self._place(user, wanted, held)
            if not complete and not held and not self._whole.is_recent(user):
                loaded = await self._whole.load(user_id)
                user, held = loaded.user, dict(loaded.guilds)
                placed, _ = self._place(user, wanted, held)
            current = await self._cache.check(user, {key: views.version for key, (views, _) in placed.items()})
            if current.user is user and not current.changed:
                return self._found(user, wanted, placed, max_age)
            user = current.user
            if held or current.changed:
                held |= await self._cache.load(current.changed)
        raise errors.StoreUnavailable(whole_user.CHANGING)

    def _place(
        self, user: model.User, channel_ids: Iterable[str], held: Mapping[int, channel_views.ChannelViews]
    ) -> tuple[Placed, bool]:
        """Return the channels by guild of the user, and whether all were found in one."""
        shown, guild_of, complete = self._browse.shown(user), self._cache.guild_of, True
        if held:
            # Guilds that the cache has no room for, or has in another version.
            rest = [(key, views) for key, views in held.items() if self._cache.at_hand(key) is not views]
            if besides := {channel_id: key for key, views in rest for channel_id in views.places}:
                guild_of = {**guild_of, **besides}
        placed: dict[int, tuple[channel_views.ChannelViews, list[str]]] = {}
        for channel_id in channel_ids:
            guild_id = guild_of.get(channel_id)
            if guild_id is None:
                complete = False
            elif (known := placed.get(guild_id)) is not None:
                known[1].append(channel_id)
            elif guild_id in shown and (views := held.get(guild_id) or self._cache.at_hand(guild_id)) is not None:
                placed[guild_id] = views, [channel_id]
            else:
                complete = False
        return placed, complete

    def _found(self, user: model.User, wanted: Mapping[str, None], placed: Placed, max_age: float | None) -> Found:
        """Return the rows of the channels that the user may see."""
        now, sights = self._clock(), self._browse.sights(user)
        rows: dict[str, Any] = {}
        outdated = []
        for guild_id, (views, channel_ids) in placed.items():
            view = sights.see(views, now)
            if view is None:
                continue
            places, shown = views.places, view.shown
            if max_age is not None and self._browse.is_outdated(user, views, max_age, now):
                if any((place := places.get(key)) is not None and shown[place] for key in channel_ids):
                    outdated.append(guild_id)
                continue
            encoded = views.rows
            for key in channel_ids:
                place = places.get(key)
                if place is not None and shown[place]:
                    rows[key] = encoded[place]
        self._cache.views.note(user.user_id, 0, placed.keys() - outdated)
        missing = [key for key in wanted if key not in rows]
        return Found([rows[key] for key in wanted if key in rows], missing, sorted(outdated))
