"""
Which channels of a guild a user may see.

Discord's algorithm (developers/topics/permissions.mdx, Permission Overwrites, read 2026-08-06), for VIEW_CHANNEL only:
the owner and administrators see everything. Otherwise the guild-wide permissions apply, then the @everyone overwrite,
then all overwrites of the member's roles together (denies first, so that any allow wins), then the member's own.
Nothing is inherited from categories. A category is visible when one of its channels is; without a visible channel, to
members who may manage channels and view it (decision 31). A public thread is visible when its parent is. A private
thread is visible to the owner and administrators only, because thread members are not stored. Channel listings contain
no threads (developers/resources/guild.mdx, Get Guild Channels): these two rules guard against future listings that do.
A timeout hides nothing (topics/permissions.mdx, Permissions For Timed Out Members).

The guild-wide permissions are part of the user's guild list, so roles matter only where an overwrite names them.
While the role ids are unknown the check fails closed: it shows only channels that are visible with any set of roles.
"""

import dataclasses
from collections.abc import Collection, Iterable, Sequence

from indexing.domain import id_sets, model

ADMINISTRATOR = 1 << 3
MANAGE_CHANNELS = 1 << 4
MANAGE_GUILD = 1 << 5
CAN_INSTALL = ADMINISTRATOR | MANAGE_GUILD
"""Either lets a member add a bot (developers/topics/oauth2.mdx, Bot Users, read 2026-08-06)."""
VIEW_CHANNEL = model.VIEW_CHANNEL
CATEGORY = 4
THREADS = frozenset({10, 11, 12})
PRIVATE_THREAD = 12


def bypasses_overwrites(membership: model.Membership) -> bool:
    """Return whether the user owns or administers the guild, so that overwrites do not apply to them."""
    return membership.owner or bool(membership.permissions & ADMINISTRATOR)


def manages_channels(membership: model.Membership) -> bool:
    """Return whether the user may manage the guild's channels and so sees categories without a visible channel."""
    return bool(membership.permissions & MANAGE_CHANNELS)


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


def visible_places(
    membership: model.Membership, channels: Sequence[model.Channel], roles: Collection[int] | None
) -> list[int]:
    """Return the indexes of the *channels* of a guild that the user may see; see `visible_channels`."""
    if bypasses_overwrites(membership):
        return list(range(len(channels)))
    shown = _visible_ids(membership, channels, WORST_CASE_ROLES if roles is None else _RoleOverwrites(frozenset(roles)))
    return [place for place, channel in enumerate(channels) if channel.channel_id in shown]


def _visible_ids(membership: model.Membership, channels: Iterable[model.Channel], pool: "_RoleOverwrites") -> set[int]:
    rows = {c.channel_id: c for c in channels if c.guild_id == membership.guild_id}
    views: dict[model.Overwrites, bool] = {}
    dependent = THREADS if manages_channels(membership) else THREADS | {CATEGORY}
    shown = set()
    for key, channel in rows.items():
        if channel.kind in dependent:
            continue
        view = views.get(channel.overwrites)
        if view is None:
            view = views[channel.overwrites] = may_view(membership, channel.overwrites, pool)
        if view:
            shown.add(key)
    threads = {key for key, c in rows.items() if c.kind in THREADS - {PRIVATE_THREAD} and c.parent_id in shown}
    parents = {rows[key].parent_id for key in shown}
    return shown | threads | {key for key in parents if key in rows and rows[key].kind == CATEGORY}


@dataclasses.dataclass(frozen=True, slots=True)
class _RoleOverwrites:
    """Applies the role overwrites: of known roles, or of the worst or the best case when the roles are unknown."""

    roles: frozenset[int] | None
    best: bool = False

    def apply(self, view: bool, overwrites: model.Overwrites, everyone: int) -> bool:  # noqa: FBT001 -- the running value
        """Return whether the channel shows after the role overwrites other than @everyone's."""
        if self.roles is not None:
            roles = self.roles - {everyone}
            if any(id_sets.has_id(overwrites.roles_allow, role) for role in roles):
                return True
            return view and not any(id_sets.has_id(overwrites.roles_deny, role) for role in roles)
        allow = set(id_sets.unpack_ids(overwrites.roles_allow)) - {everyone}
        if self.best:
            return view or bool(allow)
        return view and set(id_sets.unpack_ids(overwrites.roles_deny)) - {everyone} <= allow


WORST_CASE_ROLES = _RoleOverwrites(None)
BEST_CASE_ROLES = _RoleOverwrites(None, best=True)


def may_view(membership: model.Membership, overwrites: model.Overwrites, pool: _RoleOverwrites) -> bool:
    """Return whether a member who is neither owner nor administrator sees channels with these overwrites."""
    view = bool(membership.permissions & VIEW_CHANNEL)
    if overwrites is model.NO_OVERWRITES:
        return view
    everyone = membership.guild_id
    if id_sets.has_id(overwrites.roles_allow, everyone):
        view = True
    elif id_sets.has_id(overwrites.roles_deny, everyone):
        view = False
    view = pool.apply(view, overwrites, everyone)
    if id_sets.has_id(overwrites.members_allow, membership.user_id):
        return True
    return view and not id_sets.has_id(overwrites.members_deny, membership.user_id)


def are_reliable(rows: Collection[model.Overwrite]) -> bool:
    """Return whether overwrites name each target once, and none of an unknown kind denies VIEW_CHANNEL."""
    targets = [(row.kind, row.target_id) for row in rows]
    denials = any(row.kind not in model.KNOWN_KINDS and row.deny & VIEW_CHANNEL for row in rows)
    return len(set(targets)) == len(targets) and not denials


def sealed(guild_id: int) -> model.Overwrites:
    """
    Return overwrites that hide a channel from everybody but owners and administrators.

    They deny VIEW_CHANNEL to @everyone and allow it to nobody, so that no role and no overwrite of a member lifts it.
    """
    return model.Overwrites(roles_deny=id_sets.pack_ids([guild_id]))


def at_least_as_strict(one: model.Overwrites, other: model.Overwrites) -> bool:
    """Return whether every member to whom *one* allows the channel is also allowed by *other*, with any roles."""
    return (
        _is_subset(one.roles_allow, other.roles_allow)
        and _is_subset(one.members_allow, other.members_allow)
        and _is_subset(other.roles_deny, one.roles_deny)
        and _is_subset(other.members_deny, one.members_deny)
    )


def _is_subset(packed: bytes, other: bytes) -> bool:
    return set(id_sets.unpack_ids(packed)) <= set(id_sets.unpack_ids(other))
