"""
What the Gateway says of a guild, and which events a change causes.

Sources: developers/events/gateway-events.mdx (read 2026-08-06) and the change log of 2026-08-12, channel obfuscation:
channels that the bot may not view are sent redacted. When the bot gains sight of a channel, a full CHANNEL_UPDATE is
sent; nothing is sent when it loses sight by a role. CHANNEL_UPDATE is not sent for a new message.
"""

import dataclasses
from collections.abc import Iterator

from devstack.simulator import guilds, payloads, visibility, world

GUILDS = 1 << 0
GUILD_MEMBERS = 1 << 1
"""Intents (developers/events/gateway.mdx, Gateway Intents)."""
OBFUSCATED = 1 << 17
HIDDEN_NAME = "___hidden___"
_ACTIVITY = ("last_message_id",)

Json = payloads.Json


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """One event of a guild; sessions without the intent do not get it."""

    name: str
    data: Json
    intent: int = GUILDS


@dataclasses.dataclass(frozen=True, slots=True)
class GuildView:
    """
    A guild at one moment, as the bot sees it.

    Attributes:
        present: Whether the bot is a member.
        channels: As sent: redacted where the bot may not view them.
        raw: The channels as they are, with whether they are hidden from the bot.
    """

    present: bool
    about: Json
    roles: dict[int, Json]
    channels: dict[int, Json]
    raw: dict[int, tuple[Json, bool]]
    members: dict[int, Json]


def view(simulated: world.World, guild: guilds.Guild) -> GuildView:
    """Return the guild as it is now."""
    seen = {channel.id for channel in visibility.visible_channels(simulated, guild, simulated.bot_id)}
    raw, channels = {}, {}
    for channel in simulated.channels_of(guild):
        full = payloads.channel(channel, guild.id)
        raw[channel.id] = (full, channel.hidden)
        channels[channel.id] = full if channel.id in seen else _redacted(full)
    return GuildView(
        present=guild.has_bot,
        about={"id": str(guild.id), "name": guild.name, "icon": guild.icon, "owner_id": str(guild.owner_id)},
        roles={role.id: _role(role) for role in guild.roles},
        channels=channels,
        raw=raw,
        members=_members(simulated, guild),
    )


def guild_create(simulated: world.World, guild: guilds.Guild, shown: GuildView) -> Json:
    """Return the data of GUILD_CREATE; its channels have no `guild_id`."""
    rows = [{name: value for name, value in row.items() if name != "guild_id"} for row in shown.channels.values()]
    return shown.about | {
        "unavailable": False,
        "large": guild.members > 50,
        "member_count": guild.members,
        "features": guild.features,
        "roles": list(shown.roles.values()),
        "channels": rows,
        "threads": [],
        "members": [_bot_member(simulated, guild)],
    }


def events(simulated: world.World, guild: guilds.Guild, before: GuildView, after: GuildView) -> Iterator[Event]:
    """Yield the events of a change, in Discord's order: guild, roles, channels, members."""
    if not before.present or not after.present:
        if before.present:
            yield Event("GUILD_DELETE", {"id": str(guild.id)})
        elif after.present:
            yield Event("GUILD_CREATE", guild_create(simulated, guild, after))
        return
    whole = after.about | {"roles": list(after.roles.values())}
    if before.about != after.about:
        yield Event("GUILD_UPDATE", whole)
    yield from _role_events(guild, before, after)
    yield from _channel_events(before, after)
    yield from _member_events(guild, before, after)


def _role_events(guild: guilds.Guild, before: GuildView, after: GuildView) -> Iterator[Event]:
    for role_id, role in after.roles.items():
        if role_id not in before.roles:
            yield Event("GUILD_ROLE_CREATE", {"guild_id": str(guild.id), "role": role})
        elif before.roles[role_id] != role:
            yield Event("GUILD_ROLE_UPDATE", {"guild_id": str(guild.id), "role": role})
    for role_id in before.roles.keys() - after.roles.keys():
        yield Event("GUILD_ROLE_DELETE", {"guild_id": str(guild.id), "role_id": str(role_id)})


def _channel_events(before: GuildView, after: GuildView) -> Iterator[Event]:
    for channel_id in before.channels.keys() - after.channels.keys():
        yield Event("CHANNEL_DELETE", before.channels[channel_id])
    for channel_id, row in after.channels.items():
        if channel_id not in before.channels:
            yield Event("CHANNEL_CREATE", row)
            continue
        changed = _structure(before.raw[channel_id]) != _structure(after.raw[channel_id])
        gained = is_redacted(before.channels[channel_id]) and not is_redacted(row)
        if gained or (changed and before.channels[channel_id] != row):
            yield Event("CHANNEL_UPDATE", row)


def _member_events(guild: guilds.Guild, before: GuildView, after: GuildView) -> Iterator[Event]:
    about = {"guild_id": str(guild.id)}
    for user_id in before.members.keys() | after.members.keys():
        old, new = before.members.get(user_id), after.members.get(user_id)
        if new is None:
            yield Event("GUILD_MEMBER_REMOVE", about | {"user": (old or {})["user"]}, GUILD_MEMBERS)
        elif old != new:
            name = "GUILD_MEMBER_ADD" if old is None else "GUILD_MEMBER_UPDATE"
            yield Event(name, about | new, GUILD_MEMBERS)


def is_redacted(row: Json) -> bool:
    """Return whether a channel is sent redacted."""
    return bool(row["flags"] & OBFUSCATED)


def _structure(raw: tuple[Json, bool]) -> tuple[Json, bool]:
    row, hidden = raw
    return {name: value for name, value in row.items() if name not in _ACTIVITY}, hidden


def _redacted(row: Json) -> Json:
    """Return a channel of which only id, type, position and parent are true."""
    return {
        "id": row["id"],
        "type": row["type"],
        "guild_id": row["guild_id"],
        "position": row["position"],
        "parent_id": row["parent_id"],
        "name": HIDDEN_NAME,
        "flags": OBFUSCATED,
        "permission_overwrites": [{"id": row["guild_id"], "type": 0, "allow": "0", "deny": "1024"}],
    }


def _role(role: guilds.Role) -> Json:
    return {"id": str(role.id), "name": role.name, "permissions": str(role.permissions), "managed": role.bot}


def _bot_member(simulated: world.World, guild: guilds.Guild) -> Json:
    roles = [str(role) for role in sorted(guild.bot_roles())]
    return {"user": payloads.user(simulated.bot_id, "indexer", bot=True), "roles": roles}


def member(simulated: world.World, guild: guilds.Guild, user_id: int) -> Json | None:
    """Return a simulated user as a member; None for a user who is none."""
    found = simulated.member(user_id, guild)
    if found is None:
        return None
    shown_user = payloads.user(user_id, simulated.user_name(user_id) or "")
    return payloads.member(found, shown_user, now_ms=simulated.spec.now_ms)


def _members(simulated: world.World, guild: guilds.Guild) -> dict[int, Json]:
    known = {user_id: member(simulated, guild, user_id) for user_id in simulated.user_ids[:MOST_MEMBERS]}
    return {user_id: row for user_id, row in known.items() if row is not None}


MOST_MEMBERS = 200
"""Simulated users whose changes are told as member events: the first ones of a large world."""
