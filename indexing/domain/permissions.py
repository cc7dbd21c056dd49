"""
Which channels of a guild a user may see.

Discord's algorithm (developers/topics/permissions.mdx, Permission Overwrites, read 2026-08-06), for VIEW_CHANNEL only:
the owner and administrators see everything. Otherwise the guild-wide permissions apply, then the @everyone overwrite,
then all overwrites of the member's roles together (denies first, so that any allow wins), then the member's own.
Nothing is inherited from categories; a category is visible when one of its channels is. A public thread is visible
when its parent is. A private thread is visible to the owner and administrators only, because thread members are not
stored. Channel listings contain no threads (developers/resources/guild.mdx, Get Guild Channels): these two rules
guard against future listings that do. A timeout hides nothing (topics/permissions.mdx, Permissions For Timed Out
Members).

The guild-wide permissions are part of the user's guild list, so roles matter only where an overwrite names them.
While the role ids are unknown the check fails closed: it shows only channels that are visible with any set of roles.
"""

import dataclasses
from collections.abc import Collection, Iterable

from indexing.domain import model

ADMINISTRATOR = 1 << 3
MANAGE_CHANNELS = 1 << 4
MANAGE_GUILD = 1 << 5
VIEW_CHANNEL = 1 << 10
CATEGORY = 4
THREADS = frozenset({10, 11, 12})
PRIVATE_THREAD = 12
ROLE = 0
MEMBER = 1


def bypasses_overwrites(membership: model.Membership) -> bool:
    """Return whether the user owns or administers the guild, so that overwrites do not apply to them."""
    return membership.owner or bool(membership.permissions & ADMINISTRATOR)


def needs_roles(membership: model.Membership, channels: Iterable[model.Channel]) -> bool:
    """Return whether the user's role ids can change what they see; only then are they worth a call."""
    if bypasses_overwrites(membership):
        return False
    rows = list(channels)
    return _visible_ids(membership, rows, WORST_CASE_ROLES) != _visible_ids(membership, rows, BEST_CASE_ROLES)


def visible_channels(
    membership: model.Membership, channels: Collection[model.Channel], roles: Collection[int] | None
) -> list[model.Channel]:
    """
    Return those of *channels* that the user may see, in the given order.

    Args:
        membership: The user in the guild, with their guild-wide permissions.
        channels: All stored channels of that guild; channels of other guilds are ignored.
        roles: The user's role ids, or None when they are unknown or too old to be trusted.
    """
    if bypasses_overwrites(membership):
        return [c for c in channels if c.guild_id == membership.guild_id]
    shown = _visible_ids(membership, channels, WORST_CASE_ROLES if roles is None else _RoleOverwrites(frozenset(roles)))
    return [c for c in channels if c.channel_id in shown and c.guild_id == membership.guild_id]


def _visible_ids(
    membership: model.Membership, channels: Iterable[model.Channel], role_overwrites: "_RoleOverwrites"
) -> set[int]:
    rows = {c.channel_id: c for c in channels if c.guild_id == membership.guild_id}
    visible = {key for key, c in rows.items() if c.kind not in THREADS and _may_view(membership, c, role_overwrites)}
    threads = {key for key, c in rows.items() if c.kind in THREADS - {PRIVATE_THREAD} and c.parent_id in visible}
    parents = {rows[key].parent_id for key in visible}
    return visible | threads | {key for key in parents if key in rows and rows[key].kind == CATEGORY}


@dataclasses.dataclass(frozen=True, slots=True)
class _RoleOverwrites:
    """Applies the role overwrites: of known roles, or of the worst or the best case when the roles are unknown."""

    roles: frozenset[int] | None
    best: bool = False

    def apply(self, view: bool, overwrites: Collection[model.Overwrite]) -> bool:  # noqa: FBT001 -- the running value
        if self.roles is not None:
            return _apply_overwrites(view, [o for o in overwrites if o.target_id in self.roles])
        if self.best:
            return view or any(o.allow & VIEW_CHANNEL for o in overwrites)
        return view and not any(o.deny & ~o.allow & VIEW_CHANNEL for o in overwrites)


WORST_CASE_ROLES = _RoleOverwrites(None)
BEST_CASE_ROLES = _RoleOverwrites(None, best=True)


def _may_view(membership: model.Membership, channel: model.Channel, role_overwrites: _RoleOverwrites) -> bool:
    roles = [o for o in channel.overwrites if o.kind == ROLE]
    everyone = [o for o in roles if o.target_id == membership.guild_id]
    own = [o for o in channel.overwrites if o.kind == MEMBER and o.target_id == membership.user_id]
    view = _apply_overwrites(bool(membership.permissions & VIEW_CHANNEL), everyone)
    view = role_overwrites.apply(view, [o for o in roles if o.target_id != membership.guild_id])
    return _apply_overwrites(view, own)


def _apply_overwrites(view: bool, overwrites: Collection[model.Overwrite]) -> bool:  # noqa: FBT001 -- the running value
    if any(o.allow & VIEW_CHANNEL for o in overwrites):
        return True
    return view and not any(o.deny & VIEW_CHANNEL for o in overwrites)


def sealed(guild_id: int) -> tuple[model.Overwrite, ...]:
    """
    Return overwrites that hide a channel from everybody but owners and administrators.

    They deny VIEW_CHANNEL to @everyone and allow it to nobody, so that no role and no overwrite of a member lifts it.
    """
    return (model.Overwrite(target_id=guild_id, kind=ROLE, allow=0, deny=VIEW_CHANNEL),)


def at_least_as_strict(one: Iterable[model.Overwrite], other: Iterable[model.Overwrite]) -> bool:
    """Return whether *one* allows the channel to nobody to whom *other* does not, whatever roles they have."""
    one, other = list(one), list(other)
    return _targets(one, "allow") <= _targets(other, "allow") and _targets(one, "deny") >= _targets(other, "deny")


def _targets(overwrites: Iterable[model.Overwrite], side: str) -> set[tuple[int, int]]:
    return {(each.kind, each.target_id) for each in overwrites if getattr(each, side) & VIEW_CHANNEL}
