"""
Decodes Discord's JSON into the values of `domain.model`.

Only indexed fields are declared. Unknown fields are ignored, missing optional fields get defaults, and unknown channel
types are kept. Snowflakes and permissions are decimal strings on the wire (developers/reference.mdx, read 2026-08-06).
"""

import re
from typing import Annotated

import msgspec

from indexing.domain import model

INT64 = (1 << 63) - 1
Int64 = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=INT64)]
"""Larger numbers do not fit into the store."""
Int32 = Annotated[int, msgspec.Meta(ge=-(1 << 31), le=(1 << 31) - 1)]
"""Larger numbers do not fit into a message of the API."""
MAX_OVERWRITES = 5_000
"""Discord allows 1,000 (error 30060, topics/opcodes-and-status-codes.mdx); a MongoDB document holds
some 200,000."""
MAX_NAME_LENGTH, MAX_TOPIC_LENGTH = 1_000, 16_384
"""Characters that are kept; the rest is cut, so that every row fits into a message of the API.
Discord allows 100 and 4,096 (developers/resources/channel.mdx, read 2026-08-06)."""
DECIMAL = re.compile(r"[0-9]+")
"""int() also accepts signs, blanks, underscores and other digits, and -1 would have every permission bit set."""


class Guild(msgspec.Struct):
    """A partial guild from the user's guild list."""

    id: str
    name: str = ""
    icon: str | None = None
    owner: bool = False
    permissions: str = "0"
    approximate_member_count: Int64 | None = None
    approximate_presence_count: Int64 | None = None


class Overwrite(msgspec.Struct):
    """A permission overwrite."""

    id: str
    type: Int32
    allow: str = "0"
    deny: str = "0"


class Channel(msgspec.Struct):
    """A channel of any type."""

    id: str
    type: Int32
    name: str | None = None
    topic: str | None = None
    position: Int32 = 0
    parent_id: str | None = None
    nsfw: bool = False
    flags: int = 0
    last_message_id: str | None = None
    permission_overwrites: Annotated[list[Overwrite], msgspec.Meta(max_length=MAX_OVERWRITES)] | None = None


class Member(msgspec.Struct):
    """A guild member."""

    roles: list[str]


class ErrorBody(msgspec.Struct):
    """Discord's error body; a 429 has `retry_after`, in seconds, and `global`."""

    message: str
    code: int = 0
    retry_after: float | None = None
    is_global: bool = msgspec.field(default=False, name="global")


_GUILDS = msgspec.json.Decoder(list[Guild] | None)
_CHANNELS = msgspec.json.Decoder(list[Channel] | None)
_MEMBER = msgspec.json.Decoder(Member)
_ERROR = msgspec.json.Decoder(ErrorBody)


def decode_guilds(body: bytes) -> list[model.UserGuild]:
    """Return the guilds of a list. Raises ValueError on anything else."""
    return [
        model.UserGuild(
            guild_id=_snowflake(guild.id),
            name=guild.name[:MAX_NAME_LENGTH],
            icon=guild.icon,
            owner=guild.owner,
            permissions=_permissions(guild.permissions),
            member_count=guild.approximate_member_count,
            presence_count=guild.approximate_presence_count,
        )
        for guild in _GUILDS.decode(body) or []
    ]


def decode_channels(body: bytes, guild_id: int) -> list[model.Channel]:
    """Return the channels of a list, including redacted ones. Raises ValueError on anything else."""
    return [_channel(row, guild_id) for row in _CHANNELS.decode(body) or []]


def decode_roles(body: bytes) -> tuple[int, ...]:
    """Return a member's role ids. Raises ValueError on anything else."""
    return tuple(_snowflake(role) for role in _MEMBER.decode(body).roles)


def decode_error(body: bytes) -> ErrorBody | None:
    """Return Discord's error body, or None when the body is not Discord's."""
    try:
        return _ERROR.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _channel(row: Channel, guild_id: int) -> model.Channel:
    return model.Channel(
        channel_id=_snowflake(row.id),
        guild_id=guild_id,
        kind=row.type,
        name=(row.name or "")[:MAX_NAME_LENGTH],
        topic=row.topic and row.topic[:MAX_TOPIC_LENGTH],
        position=row.position,
        parent_id=_snowflake(row.parent_id) if row.parent_id else None,
        nsfw=row.nsfw,
        flags=row.flags & INT64,
        last_message_id=_snowflake(row.last_message_id) if row.last_message_id else None,
        overwrites=model.Overwrites.of(
            model.Overwrite(_snowflake(o.id), o.type, _permissions(o.allow), _permissions(o.deny))
            for o in row.permission_overwrites or ()
        ),
    )


def _snowflake(text: str) -> int:
    number = _decimal(text)
    if not 0 < number <= INT64:
        raise ValueError("not a snowflake")
    return number


def _permissions(text: str) -> int:
    # On the wire, permissions have any number of bits. The store's integers have 63 bits; Discord uses 53.
    return _decimal(text) & INT64


def _decimal(text: str) -> int:
    if not DECIMAL.fullmatch(text):
        raise ValueError("not a decimal number")
    return int(text)
