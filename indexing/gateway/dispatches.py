"""
Decodes the Gateway's frames and events; fields that are not used are never decoded.

Shapes are from developers/events/gateway-events.mdx (read 2026-08-06). An event that names its guild but cannot be read
becomes `feed.Unreadable`, so that it costs its guild only.
"""

from typing import Any

import msgspec

from indexing.discord import bounds, payloads
from indexing.domain import feed, model
from indexing.gateway import protocol


class UnreadableFrame(Exception):
    """A frame is not as documented, so that nothing says what was missed."""


class _Frame(msgspec.Struct):
    op: int
    d: msgspec.Raw = msgspec.Raw(b"null")
    s: int | None = None
    t: str | None = None


class _Hello(msgspec.Struct):
    heartbeat_interval: object = None


class _Id(msgspec.Struct):
    id: str


class _Ready(msgspec.Struct):
    session_id: str
    resume_gateway_url: str
    user: _Id
    guilds: list[_Id]


class _Role(msgspec.Struct):
    id: str
    permissions: str


class _Member(msgspec.Struct):
    roles: list[str]
    user: _Id | None = None


class _Guild(msgspec.Struct):
    id: str
    unavailable: bool = False
    name: str = ""
    icon: str | None = None
    owner_id: str = ""
    member_count: int | None = None
    roles: list[_Role] | None = None
    channels: list[msgspec.Raw] = []
    members: list[msgspec.Raw] = []


class _RoleEvent(msgspec.Struct):
    guild_id: str
    role: _Role | None = None
    role_id: str = ""


class _MemberEvent(msgspec.Struct):
    guild_id: str
    user: _Id
    roles: list[str] = []


class _ChannelEvent(msgspec.Struct):
    guild_id: str
    id: str
    type: int = 0


class _OfGuild(msgspec.Struct):
    guild_id: str | None = None
    id: str | None = None


class Chunk(msgspec.Struct):
    """An answer to op 8."""

    guild_id: str
    members: list[_Member] = []
    not_found: list[str | int] = []
    nonce: str | None = None


_FRAME = msgspec.json.Decoder(_Frame)
_HELLO = msgspec.json.Decoder(_Hello)
_READY = msgspec.json.Decoder(_Ready)
_GUILD = msgspec.json.Decoder(_Guild)
_ROLE_EVENT = msgspec.json.Decoder(_RoleEvent)
_MEMBER_EVENT = msgspec.json.Decoder(_MemberEvent)
_MEMBER = msgspec.json.Decoder(_Member)
_CHANNEL_EVENT = msgspec.json.Decoder(_ChannelEvent)
_OF_GUILD = msgspec.json.Decoder(_OfGuild)
_CHUNK = msgspec.json.Decoder(Chunk)
_ANY = msgspec.json.Decoder()
CHUNK = "GUILD_MEMBERS_CHUNK"
OF_MEMBERS = ("GUILD_MEMBER_ADD", "GUILD_MEMBER_REMOVE")
USED = frozenset(
    {
        "GUILD_CREATE",
        "GUILD_UPDATE",
        "GUILD_DELETE",
        "GUILD_ROLE_CREATE",
        "GUILD_ROLE_UPDATE",
        "GUILD_ROLE_DELETE",
        "GUILD_MEMBER_UPDATE",
        *OF_MEMBERS,
        "CHANNEL_CREATE",
        "CHANNEL_UPDATE",
        "CHANNEL_DELETE",
    }
)
"""Events that change what is indexed; all others are dropped by their name."""


def decode_frame(text: bytes) -> protocol.Frame:
    """Return a frame; the data of events stays encoded. Raises UnreadableFrame."""
    try:
        found = _FRAME.decode(text)
        data: Any = found.d
        if found.op == protocol.DISPATCH and found.t == "READY":
            ready = _READY.decode(found.d)
            data = {
                "session_id": ready.session_id,
                "resume_gateway_url": ready.resume_gateway_url,
                "bot_id": int(ready.user.id),
                "guild_ids": [int(guild.id) for guild in ready.guilds],
            }
        elif found.op == protocol.HELLO:
            data = {"heartbeat_interval": 1000 * bounds.heartbeat(_HELLO.decode(found.d).heartbeat_interval)}
        elif found.op != protocol.DISPATCH:
            data = _ANY.decode(found.d)
    except (ValueError, RecursionError) as error:
        raise UnreadableFrame from error
    return protocol.Frame(found.op, data, found.s, found.t)


def encode_frame(send: protocol.Send) -> str:
    """Return a frame to send."""
    return msgspec.json.encode({"op": send.op, "d": send.data}).decode()


def decode_chunk(data: msgspec.Raw) -> tuple[str, dict[int, tuple[int, ...] | None]] | None:
    """Return nonce and role ids by user, None for users who are not members; None when it cannot be read."""
    try:
        found = _CHUNK.decode(data)
        roles: dict[int, tuple[int, ...] | None] = {int(user_id): None for user_id in found.not_found}
        for member in found.members:
            if member.user is not None:
                roles[int(member.user.id)] = _ids(member.roles)
    except (ValueError, RecursionError):
        return None
    return found.nonce or "", roles


def decode_event(
    name: str, data: msgspec.Raw, bot_id: int, unreadable: payloads.Unreadable
) -> feed.Event | feed.MemberChanged | None:
    """
    Return the event; None for one that changes nothing here.

    Raises:
        UnreadableFrame: It does not even say which guild it is about.
    """
    if name not in USED:
        return None
    try:
        return _event(name, data, bot_id, unreadable)
    except (ValueError, RecursionError):
        unreadable["event"] += 1
        if name in OF_MEMBERS:
            # Nothing of the guild follows from it.
            return None
        return feed.Unreadable(_guild_of(name, data))


def _event(
    name: str, data: msgspec.Raw, bot_id: int, unreadable: payloads.Unreadable
) -> feed.Event | feed.MemberChanged | None:
    if name.startswith("CHANNEL_"):
        return _channel_event(name, data, unreadable)
    if name.startswith("GUILD_ROLE_"):
        found = _ROLE_EVENT.decode(data)
        if found.role is None:
            return feed.RoleChanged(int(found.guild_id), int(found.role_id), None)
        return feed.RoleChanged(int(found.guild_id), int(found.role.id), _bits(found.role))
    if name.startswith("GUILD_MEMBER_"):
        return _member_event(name, _MEMBER_EVENT.decode(data), bot_id)
    return _guild_event(name, _GUILD.decode(data), bot_id, unreadable)


def _guild_event(name: str, guild: _Guild, bot_id: int, unreadable: payloads.Unreadable) -> feed.Event:
    guild_id = _snowflake(guild.id)
    if guild.unavailable:
        return feed.GuildUnavailable(guild_id)
    if name == "GUILD_DELETE":
        return feed.BotRemoved(guild_id)
    guild_name = guild.name[: bounds.MAX_NAME_LENGTH]
    if name == "GUILD_UPDATE":
        return feed.GuildChanged(guild_id, guild_name, guild.icon, int(guild.owner_id), _roles(guild))
    channels = tuple(payloads.read_channels(guild.channels, guild_id, unreadable))
    return feed.GuildCreated(guild_id, guild_name, guild.icon, guild.member_count, channels, _sight(guild, bot_id))


def _member_event(name: str, member: _MemberEvent, bot_id: int) -> feed.Event | feed.MemberChanged | None:
    guild_id, user_id = _snowflake(member.guild_id), _snowflake(member.user.id)
    if user_id == bot_id:
        # Its joining and leaving are events of the guild.
        return feed.BotRolesChanged(guild_id, _ids(member.roles)) if name == "GUILD_MEMBER_UPDATE" else None
    left = name == "GUILD_MEMBER_REMOVE"
    return feed.MemberChanged(guild_id, user_id, None if left else tuple(sorted(_ids(member.roles))))


def _channel_event(name: str, data: msgspec.Raw, unreadable: payloads.Unreadable) -> feed.Event:
    found = _CHANNEL_EVENT.decode(data)
    guild_id = _snowflake(found.guild_id)
    if name == "CHANNEL_DELETE":
        return feed.ChannelDeleted(guild_id, _snowflake(found.id), found.type)
    rows: list[model.Channel] = payloads.read_channels([data], guild_id, unreadable)
    if not rows:
        raise ValueError(name)
    return feed.ChannelChanged(guild_id, rows[0])


def _sight(guild: _Guild, bot_id: int) -> feed.BotSight | None:
    """Return what decides the bot's view; None when its own member or a role is missing."""
    roles = _roles(guild)
    for raw in guild.members:
        try:
            member = _MEMBER.decode(raw)
        except ValueError:
            continue
        if roles is not None and member.user is not None and member.user.id == str(bot_id):
            return feed.BotSight(bot_id, int(guild.owner_id), roles, _ids(member.roles))
    return None


def _roles(guild: _Guild) -> dict[int, int] | None:
    if guild.roles is None:
        return None
    return {int(role.id): _bits(role) & feed.KEPT_BITS for role in guild.roles}


def _bits(role: _Role) -> int:
    bits = bounds.permissions(role.permissions)
    if bits is None:
        raise ValueError(role.id)
    return bits


def _ids(texts: list[str]) -> tuple[int, ...]:
    return tuple(_snowflake(text) for text in texts)


def _snowflake(text: str) -> int:
    found = bounds.snowflake(text)
    if found is None:
        raise ValueError(text)
    return found


def _guild_of(name: str, data: msgspec.Raw) -> int:
    try:
        found = _OF_GUILD.decode(data)
        text = found.id if name in {"GUILD_CREATE", "GUILD_UPDATE", "GUILD_DELETE"} else found.guild_id
        return _snowflake(text or "")
    except (ValueError, RecursionError) as error:
        raise UnreadableFrame from error
