"""
Discord's documented permission algorithm.

Source: developers/topics/permissions.mdx (read 2026-08-06). Written from that page alone, independently of the
product, so that both sides cannot share a misreading.
"""

import dataclasses
from collections.abc import Collection, Iterable, Mapping

ADMINISTRATOR = 1 << 3
MANAGE_CHANNELS = 1 << 4
VIEW_CHANNEL = 1 << 10
SEND_MESSAGES = 1 << 11
READ_MESSAGE_HISTORY = 1 << 16
CONNECT = 1 << 20
MANAGE_ROLES = 1 << 28

ALL = ((1 << 53) - 1) & ~(1 << 47)
"""All documented bits: 0-46 and 48-52."""

ROLE = 0
MEMBER = 1


@dataclasses.dataclass(slots=True, frozen=True)
class Overwrite:
    """One permission overwrite of a channel; `kind` is ROLE or MEMBER, `id` is the id of the role or the user."""

    id: int
    kind: int
    allow: int
    deny: int


@dataclasses.dataclass(slots=True, frozen=True)
class Viewer:
    """One member of a guild, with everything that decides their permissions."""

    user_id: int
    guild_id: int
    roles: frozenset[int] = frozenset()
    owner: bool = False


def guild_permissions(viewer: Viewer, role_permissions: Mapping[int, int]) -> int:
    """Return the permissions of *viewer* in the guild, without overwrites; @everyone has the guild's id."""
    if viewer.owner:
        return ALL
    granted = role_permissions[viewer.guild_id]
    for role_id in viewer.roles:
        granted |= role_permissions.get(role_id, 0)
    return granted | ALL if granted & ADMINISTRATOR else granted


def channel_permissions(viewer: Viewer, granted: int, overwrites: Iterable[Overwrite]) -> int:
    """Return the permissions of *viewer* in a channel with *overwrites*; *granted* are those in the guild."""
    if granted & ADMINISTRATOR:
        return granted | ALL
    role_allow = role_deny = 0
    everyone = member = None
    for overwrite in overwrites:
        if overwrite.kind == ROLE and overwrite.id == viewer.guild_id:
            everyone = overwrite
        elif overwrite.kind == ROLE and overwrite.id in viewer.roles:
            role_allow |= overwrite.allow
            role_deny |= overwrite.deny
        elif overwrite.kind == MEMBER and overwrite.id == viewer.user_id:
            member = overwrite
    if everyone is not None:
        granted = (granted & ~everyone.deny) | everyone.allow
    granted = (granted & ~role_deny) | role_allow
    if member is not None:
        granted = (granted & ~member.deny) | member.allow
    return granted if granted & VIEW_CHANNEL else 0


def with_parent_categories(seen: Collection[int], parents: Mapping[int, int | None]) -> set[int]:
    """
    Return the channels *seen* with their categories; *parents* maps each channel to its category.

    A category is visible if any child is (change log of 2026-08-12, channel obfuscation).
    """
    visible = set(seen)
    for channel_id in seen:
        parent = parents.get(channel_id)
        if parent is not None:
            visible.add(parent)
    return visible
