"""
All guilds of a user at once, as checked a moment ago: to know that something is not among them, and to search them.

A call checks the guilds that it shows. The others are loaded and checked once in MISSED_AGE for all calls about the
user, because a user may have two hundred: so what was added to a guild is found at most that much later.
"""

import asyncio
import dataclasses
from collections.abc import Mapping

from indexing import concurrency, errors
from indexing.domain import channel_views, model, ports
from indexing.usecases import browse

MISSED_AGE = 1.0
"""Seconds for which a new channel may be missing."""
MOST_CHECKED = 10_000
"""Users whose last check is remembered."""
MOST_ROUNDS = 50
"""Most times that an answer is made again because something changed meanwhile."""
CHANGING = "the user's guilds change faster than they can be read"


@dataclasses.dataclass(frozen=True, slots=True)
class WholeUser:
    """
    A user and all of their guilds that may be shown.

    Attributes:
        checked_at: Epoch second at which the check of all versions began.
    """

    user: model.User
    guilds: Mapping[int, channel_views.ChannelViews]
    checked_at: float


class WholeUsers:
    """
    Loads and checks all guilds of users; concurrent requests share one check.

    Args:
        browser: Whose cache of users and guilds is used.
        clock: Returns epoch seconds.
    """

    def __init__(self, browser: browse.Browse, clock: ports.Clock) -> None:
        self._browse = browser
        self._cache = browser.cache
        self._clock = clock
        self._checks = concurrency.Coalescer(self._load_all)
        self._checked: dict[int, tuple[model.User, float, int]] = {}

    def is_recent(self, user: model.User) -> bool:
        """Return whether the guilds of this version of the user were checked lately, and none was dropped since."""
        known, at, evictions = self._checked.get(user.user_id, (None, 0.0, 0))
        return known is user and evictions == self._cache.evictions and 0 <= self._clock() - at < MISSED_AGE

    async def load(self, user_id: int) -> WholeUser:
        """
        Return the user and their guilds, as checked after the call began.

        Raises:
            errors.UserNotFound: Nothing is stored of the user.
        """
        found = (await self._checks.fetch([user_id]))[user_id]
        if isinstance(found, errors.IndexerError):
            raise found
        return found

    async def _load_all(self, user_ids: list[int]) -> Mapping[int, WholeUser | errors.IndexerError]:
        return dict(zip(user_ids, await asyncio.gather(*map(self._try_load, user_ids)), strict=True))

    async def _try_load(self, user_id: int) -> WholeUser | errors.IndexerError:
        """Return an error in place of raising it: it concerns the callers for this user alone."""
        try:
            return await self._load(user_id)
        except errors.IndexerError as problem:
            return problem

    async def _load(self, user_id: int) -> WholeUser:
        user = self._cache.known_user(user_id) or await self._cache.user(user_id)
        held: dict[int, channel_views.ChannelViews] = {}
        # Taken before anything is loaded, because that may drop other guilds of the user.
        evictions = self._cache.evictions
        for _ in range(MOST_ROUNDS):
            began = self._clock()
            views = {key: held.get(key) or self._cache.at_hand(key) for key in self._browse.shown(user)}
            guilds = {key: each for key, each in views.items() if each is not None}
            # A guild that is not stored has version 0 and no channels; it is asked for again by the next check.
            missing = [key for key, each in views.items() if each is None or (not each.version and key not in held)]
            current = await self._cache.check(user, {key: each.version for key, each in guilds.items() if each.version})
            if current.user is user and not current.changed and not missing:
                self._note_checked(user, began, evictions)
                return WholeUser(user, guilds, began)
            user = current.user
            held |= await self._cache.load([*current.changed, *missing])
        raise errors.StoreUnavailable(CHANGING)

    def _note_checked(self, user: model.User, at: float, evictions: int) -> None:
        self._checked.pop(user.user_id, None)
        self._checked[user.user_id] = user, at, evictions
        if len(self._checked) > MOST_CHECKED:
            del self._checked[next(iter(self._checked))]
