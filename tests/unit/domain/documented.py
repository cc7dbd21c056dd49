"""
Discord's permission algorithm as its documentation prints it, over whole permission bit sets.

Written from developers/topics/permissions.mdx (read 2026-08-06) and from nothing else, section by section; the names
of functions and steps are the page's own. Two things that the page leaves open are settled by its prose: overwrites are
told apart by their type as well as by their id, and ALL is every permission that the page lists.
"""

import dataclasses
from collections.abc import Mapping

ADMINISTRATOR = 1 << 3
MANAGE_CHANNELS = 1 << 4
VIEW_CHANNEL = 1 << 10
READ_MESSAGE_HISTORY = 1 << 16
MANAGE_THREADS = 1 << 34
ALL = sum(1 << bit for bit in range(53) if bit != 47)
"""Section Bitwise Permission Flags: bits 0 to 46 and 48 to 52."""
NONE = 0
GUILD_CATEGORY, PUBLIC_THREADS, PRIVATE_THREAD = 4, {10, 11}, 12


@dataclasses.dataclass(frozen=True, slots=True)
class Overwrite:
    """A channel's overwrite."""

    id: int
    type: int
    allow: int
    deny: int


@dataclasses.dataclass(frozen=True, slots=True)
class Channel:
    """A channel with its overwrites."""

    id: int
    type: int
    parent_id: int | None
    overwrites: tuple[Overwrite, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Guild:
    """A guild; `roles` are permissions by role id, the guild's own id is that of @everyone."""

    id: int
    owner_id: int
    roles: Mapping[int, int]
    channels: tuple[Channel, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """A member."""

    user_id: int
    roles: frozenset[int]
    timed_out: bool = False


def compute_base_permissions(member: Member, guild: Guild) -> int:
    """Section Permission Hierarchy and the first half of the pseudocode."""
    if guild.owner_id == member.user_id:
        return ALL
    permissions = guild.roles[guild.id]
    for role in member.roles:
        permissions |= guild.roles[role]
    if permissions & ADMINISTRATOR == ADMINISTRATOR:
        return ALL
    return permissions


def compute_overwrites(base_permissions: int, member: Member, guild: Guild, channel: Channel) -> int:
    """Section Permission Overwrites, the second half of the pseudocode."""
    if base_permissions & ADMINISTRATOR == ADMINISTRATOR:
        return ALL
    permissions = base_permissions
    role_overwrites = {one.id: one for one in channel.overwrites if one.type == 0}
    member_overwrites = {one.id: one for one in channel.overwrites if one.type == 1}
    overwrite_everyone = role_overwrites.get(guild.id)
    if overwrite_everyone:
        permissions &= ~overwrite_everyone.deny
        permissions |= overwrite_everyone.allow
    allow = NONE
    deny = NONE
    for role_id in member.roles:
        overwrite_role = role_overwrites.get(role_id)
        if overwrite_role:
            allow |= overwrite_role.allow
            deny |= overwrite_role.deny
    permissions &= ~deny
    permissions |= allow
    overwrite_member = member_overwrites.get(member.user_id)
    if overwrite_member:
        permissions &= ~overwrite_member.deny
        permissions |= overwrite_member.allow
    return permissions


def compute_permissions(member: Member, guild: Guild, channel: Channel) -> int:
    """All of it, with the sections Permissions For Timed Out Members and Implicit Permissions."""
    base_permissions = compute_base_permissions(member, guild)
    permissions = compute_overwrites(base_permissions, member, guild, channel)
    if member.timed_out and not base_permissions & ADMINISTRATOR:
        permissions &= VIEW_CHANNEL | READ_MESSAGE_HISTORY
    if not permissions & VIEW_CHANNEL:
        return NONE
    return permissions


def shown(member: Member, guild: Guild) -> set[int]:
    """
    Return the ids of the channels that the member's client shows.

    Sections Inherited Permissions (threads: by their parent; a private one to those who may manage threads there, here
    nobody is invited to one) and Permission Syncing (a category gives nothing away to its channels). A category is
    viewable if any of its channels is (change log of 2026-08-12). Without one the clients show it only to those who may
    view it and manage the guild's channels, which no page says (decision 31).
    """
    manages = compute_base_permissions(member, guild) & MANAGE_CHANNELS
    by_id = {channel.id: channel for channel in guild.channels}
    found = set()
    for channel in guild.channels:
        if channel.type in PUBLIC_THREADS or channel.type == PRIVATE_THREAD:
            parent = by_id.get(channel.parent_id or 0)
            permissions = compute_permissions(member, guild, parent) if parent else NONE
            needed = MANAGE_THREADS if channel.type == PRIVATE_THREAD else VIEW_CHANNEL
        else:
            permissions, needed = compute_permissions(member, guild, channel), VIEW_CHANNEL
            if channel.type == GUILD_CATEGORY and not manages:
                continue
        if permissions & needed:
            found.add(channel.id)
    for channel in guild.channels:
        parent = by_id.get(channel.parent_id or 0)
        if channel.id in found and parent is not None and parent.type == GUILD_CATEGORY:
            found.add(parent.id)
    return found
