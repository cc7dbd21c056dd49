"""
Decodes Discord's JSON into the values of `domain.model`.

Only indexed fields are declared. Unknown fields are ignored, unknown channel types are kept. One odd row never costs
the others (decision 26):

- A row without a readable id, or without another field that cannot be guessed, is left out and counted.
- An optional field of the wrong type, or out of its bounds, counts as missing, unless it could hide something.
- A channel whose overwrites or flags cannot be read whole is sealed: only owners and administrators see it.
- Text that is no valid Unicode is repaired with U+FFFD, and cut at Discord's documented length.

Bounds are in `bounds`. Snowflakes and permissions are decimal strings on the wire (developers/reference.mdx, read
2026-08-06).
"""

import asyncio
import collections
import contextlib
import dataclasses
import re
import time
from collections.abc import Callable, Iterable
from typing import Annotated, Any, TypeVar

import msgspec

from indexing.discord import bounds
from indexing.domain import model, permissions

S = TypeVar("S", bound=msgspec.Struct)
T = TypeVar("T")
Body = bytes | bytearray
Unreadable = collections.Counter[str]
"""Rows that could not be read, by kind: a label of `indexer_discord_unreadable_rows_total`."""
SLICE = 0.005
"""Seconds of decoding after which other tasks of the event loop get a turn."""


class Guild(msgspec.Struct):
    """A partial guild from a user's guild list."""

    id: str
    permissions: str
    name: str | None = None
    icon: Annotated[str, msgspec.Meta(max_length=bounds.MAX_ICON_LENGTH)] | None = None
    owner: bool | None = None
    approximate_member_count: bounds.Count | None = None
    approximate_presence_count: bounds.Count | None = None


class OnlyId(msgspec.Struct):
    """A guild of the bot's list, of which only the id is used."""

    id: str


class MemberUser(msgspec.Struct):
    """A member's user. A number as id is not documented, but may name another user, so it is read."""

    id: str | int


class Overwrite(msgspec.Struct):
    """A permission overwrite; all fields are documented as always present."""

    id: str
    type: bounds.Int32
    allow: str
    deny: str


class Channel(msgspec.Struct):
    """
    A channel of any type.

    `guild_id` is only compared with the guild that was asked for. It and `flags` are kept as they are, because a value
    of the wrong type must not count as missing.
    """

    id: str
    type: bounds.Int32
    guild_id: msgspec.Raw = msgspec.Raw(b"null")
    name: str | None = None
    topic: str | None = None
    position: bounds.Int32 | None = None
    parent_id: str | None = None
    nsfw: bool | None = None
    flags: msgspec.Raw = msgspec.Raw(b"null")
    last_message_id: str | None = None
    permission_overwrites: Annotated[list[Overwrite], msgspec.Meta(max_length=bounds.MAX_OVERWRITES)] | None = None


class Member(msgspec.Struct):
    """A guild member; `user` is documented as optional (developers/resources/guild.mdx)."""

    roles: list[msgspec.Raw]
    user: msgspec.Raw = msgspec.Raw(b"null")


class ErrorBody(msgspec.Struct):
    """
    Discord's error body.

    Attributes:
        code: JSON error code; None when the body has none.
        retry_after: Wait of a 429, in seconds.
    """

    message: str
    code: int | None = None
    retry_after: float | None = None
    is_global: bool = False


_ROWS = msgspec.json.Decoder(list[msgspec.Raw] | None)
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_MEMBER = msgspec.json.Decoder(Member)
_ID = msgspec.json.Decoder(str | int)
"""A number is not documented, but readable: an overwrite may deny that role."""
_MEMBER_USER = msgspec.json.Decoder(MemberUser)
_ANY = msgspec.json.Decoder()
_KINDS: tuple[type[msgspec.Struct], ...] = (Guild, OnlyId, Channel)
_WHOLE: dict[type[msgspec.Struct], msgspec.json.Decoder[Any]] = {kind: msgspec.json.Decoder(kind) for kind in _KINDS}
_FIELDS: dict[type[msgspec.Struct], dict[str, msgspec.json.Decoder[Any]]] = {
    kind: {field.name: msgspec.json.Decoder(field.type) for field in msgspec.structs.fields(kind)} for kind in _KINDS
}
_FLAGS = re.compile(rb'"?(-?[0-9]{1,30})"?')
"""An integer; a decimal string is not documented, but readable."""
_CONTROL = re.compile(rb"[\x00-\x1f]")
_BLANKED = b" " * 32 + bytes(range(32, 256))
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
"""One escape, or a whole surrogate pair; the group is half a pair."""


def decode_guilds(body: Body, unreadable: Unreadable | None = None) -> list[model.UserGuild]:
    """Return the guilds of a user's list. Raises ValueError when the body is no such list."""
    seen = Unreadable() if unreadable is None else unreadable
    found: dict[int, model.UserGuild] = {}
    for raw in _parse(_split, body):
        guild = _user_guild(raw)
        if guild is None:
            seen["guild"] += 1
        elif guild.guild_id in found:
            seen["duplicate"] += 1
            found[guild.guild_id] = _common_rights(found[guild.guild_id], guild)
        else:
            found[guild.guild_id] = guild
    return list(found.values())


def decode_guild_ids(body: Body, unreadable: Unreadable | None = None) -> list[int]:
    """Return the ids of a page of the bot's guilds. Raises ValueError when the body is no such list."""
    found: dict[int, None] = {}
    for raw in _parse(_split, body):
        row = _read_row(OnlyId, raw)
        guild_id = None if row is None else bounds.snowflake(row.id)
        if guild_id is not None:
            found[guild_id] = None
        elif unreadable is not None:
            unreadable["bot_guild"] += 1
    return list(found)


def decode_channels(body: Body, guild_id: int, unreadable: Unreadable | None = None) -> list[model.Channel]:
    """Return the channels of a list, including redacted ones. Raises ValueError when the body is no such list."""
    listing = _Listing(guild_id, Unreadable() if unreadable is None else unreadable)
    for raw in _parse(_split, body):
        listing.add(raw)
    return listing.channels


def read_channels(rows: Iterable[msgspec.Raw], guild_id: int, unreadable: Unreadable) -> list[model.Channel]:
    """Return the channels of rows that are split already; those that cannot be read are left out and counted."""
    listing = _Listing(guild_id, unreadable)
    for raw in rows:
        listing.add(raw)
    return listing.channels


async def decode_channels_in_slices(body: Body, guild_id: int, unreadable: Unreadable) -> list[model.Channel]:
    """Do what `decode_channels` does, but give other tasks a turn every few milliseconds."""
    try:
        rows = _split(body)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        rows = _split(await asyncio.to_thread(repair, body))
    listing = _Listing(guild_id, unreadable)
    began = time.monotonic()
    for raw in rows:
        listing.add(raw)
        if time.monotonic() - began > SLICE:
            await asyncio.sleep(0)
            began = time.monotonic()
    return listing.channels


def decode_member(body: Body, unreadable: Unreadable | None = None) -> tuple[int | None, tuple[int, ...]]:
    """
    Return a member's user id, None when it is not named, and role ids.

    Raises:
        ValueError: It is no member, or one of the roles cannot be read: an overwrite may deny that role.
    """
    member = _parse(_MEMBER.decode, body)
    named = _value(_MEMBER_USER, member.user)
    user_id = None if named is None else bounds.snowflake(str(named.id))
    if user_id is None and unreadable is not None:
        unreadable["member"] += 1
    found: dict[int, None] = {}
    for raw in member.roles:
        role = bounds.snowflake(str(_value(_ID, raw) or ""))
        if role is None:
            raise ValueError("a role cannot be read")
        found[role] = None
    return user_id, tuple(found)


def decode_error(body: Body) -> ErrorBody | None:
    """Return Discord's error body, or None when the body is not Discord's."""
    fields = decode_object(body)
    message = fields.get("message")
    if not isinstance(message, str):
        return None
    return ErrorBody(
        message,
        code=bounds.error_code(fields.get("code")),
        retry_after=bounds.wait(fields.get("retry_after")),
        is_global=fields.get("global") is True,
    )


def decode_object(body: Body) -> dict[str, object]:
    """Return the fields of a JSON object, None for one that cannot be read; empty when the body is no object."""
    try:
        fields = _parse(_OBJECT.decode, body)
    except (ValueError, RecursionError):
        return {}
    return {name: _value(_ANY, raw) for name, raw in fields.items()}


def repair(body: Body) -> Body:
    """
    Return *body* with text that JSON or Unicode forbids replaced; JSON that is broken otherwise stays broken.

    Half a surrogate pair becomes U+FFFD, whose escape is as long: a bytearray is changed in place. A raw control
    character becomes a blank.
    """
    text = bytearray(body) if isinstance(body, bytes) else body
    for place in [match.start() for match in _ESCAPE.finditer(text) if match[1]]:
        text[place : place + 6] = b"\\ufffd"
    return text.translate(_BLANKED) if _CONTROL.search(text) else text


def _parse(decode: Callable[[Body], T], body: Body) -> T:
    """Decode a body, repaired if it is not valid as it is."""
    try:
        return decode(body)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        return decode(repair(body))


def _split(body: Body) -> list[msgspec.Raw]:
    """Return the rows of a list, which may be null, as views into the body."""
    if len(body) > bounds.MAX_ROW_BYTES and body.count(b",") > bounds.MAX_COMMAS:
        raise ValueError("too many values")
    rows = _ROWS.decode(body) or []
    if rows and not any(bytes(memoryview(raw)[:1]) == b"{" for raw in rows):
        raise ValueError("no row is an object")
    return rows


def _read_row(kind: type[S], raw: msgspec.Raw) -> S | None:
    """Decode a row; field by field when it is not as documented. None when a required field cannot be read."""
    whole: msgspec.json.Decoder[S] = _WHOLE[kind]
    view = memoryview(raw)
    if len(view) > bounds.MAX_ROW_BYTES:
        return None
    try:
        return whole.decode(view)
    except (ValueError, RecursionError):
        pass
    try:
        given = _OBJECT.decode(view)
        fields = {name: _value(decoder, given[name]) for name, decoder in _FIELDS[kind].items() if name in given}
        return kind(**{name: value for name, value in fields.items() if value is not None})
    except (ValueError, TypeError, RecursionError):
        return None


def _value(decoder: msgspec.json.Decoder[T], raw: msgspec.Raw) -> T | None:
    """Decode a value, with U+FFFD for bytes that are not UTF-8; None when it is not of the decoder's type."""
    with contextlib.suppress(ValueError, RecursionError):
        try:
            return decoder.decode(raw)
        except UnicodeDecodeError:
            return decoder.decode(bytes(memoryview(raw)).decode("utf-8", "replace"))
    return None


def _user_guild(raw: msgspec.Raw) -> model.UserGuild | None:
    row = _read_row(Guild, raw)
    guild_id = None if row is None else bounds.snowflake(row.id)
    granted = None if row is None else bounds.permissions(row.permissions)
    if row is None or guild_id is None or granted is None:
        return None
    return model.UserGuild(
        guild_id=guild_id,
        name=(row.name or "")[: bounds.MAX_NAME_LENGTH],
        icon=row.icon,
        owner=bool(row.owner),
        permissions=granted,
        member_count=row.approximate_member_count,
        presence_count=row.approximate_presence_count,
    )


def _common_rights(one: model.UserGuild, other: model.UserGuild) -> model.UserGuild:
    """Return a guild that is listed twice, with the rights that both rows give; owners and administrators have all."""
    if other.owner or (other.permissions & permissions.ADMINISTRATOR and not one.owner):
        granted = one.permissions
    elif one.owner or one.permissions & permissions.ADMINISTRATOR:
        granted = other.permissions
    else:
        granted = one.permissions & other.permissions
    return dataclasses.replace(one, owner=one.owner and other.owner, permissions=granted)


class _Listing:
    """The channels of a guild, each once, in the order of the list."""

    def __init__(self, guild_id: int, unreadable: Unreadable) -> None:
        self._guild_id = guild_id
        self._unreadable = unreadable
        self._found: dict[int, model.Channel] = {}

    @property
    def channels(self) -> list[model.Channel]:
        return list(self._found.values())

    def add(self, raw: msgspec.Raw) -> None:
        """Add a row. One that cannot be read, or that names another guild, is left out and counted."""
        row = _read_row(Channel, raw)
        channel_id = None if row is None else bounds.snowflake(row.id)
        if row is None or channel_id is None or not _names_only(row.guild_id, self._guild_id):
            self._unreadable["channel"] += 1
            return
        channel = self._channel(channel_id, row)
        if channel.redacted:
            self._unreadable["redacted"] += 1
        before = self._found.get(channel_id)
        if before is not None:
            self._unreadable["duplicate"] += 1
            channel = self._stricter(before, channel)
        self._found[channel_id] = channel

    def _channel(self, channel_id: int, row: Channel) -> model.Channel:
        overwrites, flags = _overwrites(row), _flags(row.flags)
        if overwrites is None or flags is None:
            self._unreadable["overwrites"] += 1
            overwrites = self._sealed
        return model.Channel(
            channel_id=channel_id,
            guild_id=self._guild_id,
            kind=row.type,
            name=(row.name or "")[: bounds.MAX_NAME_LENGTH],
            topic=row.topic and row.topic[: bounds.MAX_TOPIC_LENGTH],
            position=row.position or 0,
            parent_id=bounds.snowflake(row.parent_id or ""),
            nsfw=bool(row.nsfw),
            flags=(flags or 0) & bounds.INT64,
            last_message_id=bounds.snowflake(row.last_message_id or ""),
            overwrites=overwrites,
        )

    @property
    def _sealed(self) -> model.Overwrites:
        return permissions.sealed(self._guild_id)

    def _stricter(self, one: model.Channel, other: model.Channel) -> model.Channel:
        """Return a channel that is listed twice, as the stricter row has it; sealed where neither is stricter."""
        if one.redacted or other.redacted:
            return one if one.redacted else other
        if one.kind == other.kind:
            parent = one.parent_id if one.parent_id == other.parent_id else None
            for row, than in ((one, other), (other, one)):
                if permissions.at_least_as_strict(row.overwrites, than.overwrites):
                    return dataclasses.replace(row, parent_id=parent)
        return dataclasses.replace(one, parent_id=None, overwrites=self._sealed)


def _names_only(guild: msgspec.Raw, guild_id: int) -> bool:
    """Return whether a row's `guild_id` is missing, null, or that of the guild."""
    return bytes(memoryview(guild)) in {b"null", b'"%d"' % guild_id, b"%d" % guild_id}


def _flags(raw: msgspec.Raw) -> int | None:
    """Return a channel's flags, 0 when they are missing or null; None when they cannot be read."""
    given = bytes(memoryview(raw))
    found = _FLAGS.fullmatch(given)
    return int(found[1]) if found else 0 if given == b"null" else None


def _overwrites(row: Channel) -> model.Overwrites | None:
    """Return a channel's overwrites; None when they cannot be read whole, so that nothing may rely on them."""
    if row.permission_overwrites is None:
        return model.NO_OVERWRITES if row.type in permissions.THREADS else None
    found = []
    for each in row.permission_overwrites:
        target = bounds.snowflake(each.id)
        allow, deny = bounds.permissions(each.allow), bounds.permissions(each.deny)
        if target is None or allow is None or deny is None:
            return None
        found.append(model.Overwrite(target, each.type, allow, deny))
    return model.Overwrites.of(found) if permissions.are_reliable(found) else None
