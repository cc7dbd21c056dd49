"""
What users may see of single guilds, kept between calls.

A sight is made from one version of the user and one of the guild, and holds until one of the inputs becomes too old.
It says nothing about whether these versions are still the stored ones: every call checks that.
"""

import collections
import dataclasses
import functools

from indexing.domain import channel_views, model, permissions, trust

MOST_SIGHTS = 50_000
"""Most guilds of all users together whose sights are kept: some 200 bytes each, 1 KB where the guild changed since."""


@dataclasses.dataclass(frozen=True, slots=True)
class Sight:
    """
    What a user may see of one version of a guild.

    Attributes:
        guild: The guild as it was then; it is another object when the guild was fetched again without a change.
        view: None when the channels are too old to be shown.
        valid_until: Epoch second at which an input becomes too old.
    """

    guild: model.Guild
    view: channel_views.View | None
    valid_until: float


class UserSights:
    """What one version of a user may see."""

    def __init__(self, user: model.User, trusted: trust.Trust) -> None:
        self.user = user
        self._trust = trusted
        self._sights: dict[int, Sight] = {}

    @functools.cached_property
    def guild_ids(self) -> list[int]:
        """The user's guilds in ascending order."""
        return sorted(self.user.memberships)

    def see(self, views: channel_views.ChannelViews, now: float) -> channel_views.View | None:
        """Return what the user, who must be a member, may see of a guild; None when its channels are too old."""
        guild = views.guild
        sight = self._sights.get(guild.guild_id)
        if sight is None or sight.guild is not guild or now >= sight.valid_until:
            sight = self._sights[guild.guild_id] = self._look(views, self.user.memberships[guild.guild_id], now)
        return sight.view

    def _look(self, views: channel_views.ChannelViews, membership: model.Membership, now: float) -> Sight:
        hidden = self._trust.hides_channels(views.guild, membership, now)
        view = None if hidden else views.look(membership, self._trust.trusted_roles(membership, now))
        valid_until = float("inf")
        if not permissions.bypasses_overwrites(membership):
            expiries = (self._trust.channels_expiry(views.guild), self._trust.roles_expiry(membership))
            valid_until = min((at for at in expiries if at > now), default=valid_until)
        return Sight(views.guild, view, valid_until)


class Sights:
    """The sights of the users who read most recently."""

    def __init__(self, trusted: trust.Trust) -> None:
        self._trust = trusted
        self._users: collections.OrderedDict[int, UserSights] = collections.OrderedDict()
        self._guilds = 0

    def of(self, user: model.User) -> UserSights:
        """Return the sights of this version of a user."""
        found = self._users.get(user.user_id)
        if found is None or found.user is not user:
            self._drop(user.user_id)
            found = self._users[user.user_id] = UserSights(user, self._trust)
            self._guilds += len(user.memberships)
            while self._guilds > MOST_SIGHTS and len(self._users) > 1:
                self._drop(next(iter(self._users)))
        self._users.move_to_end(user.user_id)
        return found

    def _drop(self, user_id: int) -> None:
        dropped = self._users.pop(user_id, None)
        if dropped is not None:
            self._guilds -= len(dropped.user.memberships)
