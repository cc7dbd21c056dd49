"""
How long each input of a visibility decision is trusted.

Every input carries the time at which it was requested from Discord. Without that time, or beyond its age, it counts as
too old, and a decision falls back to what is certain without it:

| input | age | too old |
|---|---|---|
| the guild list: memberships, ownership, guild-wide permissions | `roles_hard_age` | no channels, and nothing new |
| role ids | `roles_hard_age` | only channels that are visible with any roles |
| a guild's channels and overwrites | `channels_hard_age`, 0 after a 403 | owners and administrators only |
"""

from indexing import settings
from indexing.domain import model, permissions, reasons


class Trust:
    """Judges the inputs of a visibility decision by their age. Times are epoch seconds."""

    def __init__(self, config: settings.IndexingSettings) -> None:
        self._roles_age = config.roles_hard_age
        self._channels_age = config.channels_hard_age

    def trusts_list(self, user: model.User, now: float) -> bool:
        """Return whether the user's guild list still says where they are a member, and with which rights."""
        return user.listed_at is not None and now - user.listed_at < self._roles_age

    def trusted_roles(self, membership: model.Membership, now: float) -> tuple[int, ...] | None:
        """Return the user's role ids; None when they are unknown or too old."""
        at = membership.roles_at
        return membership.role_ids if at is not None and now - at < self._roles_age else None

    def trusts_channels(self, guild: model.Guild, now: float) -> bool:
        """Return whether the guild's stored channels and overwrites still apply."""
        refused = guild.access is model.Access.DENIED and guild.reason == reasons.NO_ACCESS
        return not refused and self.trusts_fetch(guild.fetched_at, now)

    def trusts_fetch(self, fetched_at: float | None, now: float) -> bool:
        """Return whether channels that were requested then still apply, as far as their age is concerned."""
        return fetched_at is not None and now - fetched_at < self._channels_age

    def hides_channels(self, guild: model.Guild, membership: model.Membership, now: float) -> bool:
        """Return whether all channels of the guild are hidden from a member because of their age."""
        return not self.trusts_channels(guild, now) and not permissions.bypasses_overwrites(membership)

    def list_expiry(self, user: model.User) -> float:
        """Return when the user's guild list becomes too old; minus infinity when it has no time."""
        return float("-inf") if user.listed_at is None else user.listed_at + self._roles_age

    def channels_expiry(self, guild: model.Guild) -> float:
        """Return when the guild's channels become too old; minus infinity when they have no time."""
        return float("-inf") if guild.fetched_at is None else guild.fetched_at + self._channels_age

    def roles_expiry(self, membership: model.Membership) -> float:
        """Return when the user's role ids become too old; minus infinity when they are unknown."""
        return float("-inf") if membership.roles_at is None else membership.roles_at + self._roles_age
