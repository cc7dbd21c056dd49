"""
The channels of a guild as they stand in its document: one msgpack value, and the newest messages beside it.

`channels` is `[format, rows, sets, gone]`: a row is `[id, kind, name, topic, position, parent, nsfw, flags, set]`,
sorted by position, then id; `set` is a place among `sets`, -1 where no overwrite touches VIEW_CHANNEL. A set is the
four packed id lists of `model.Overwrites`. `gone` holds `[id, kind, gone_at, reason]`. `activity` packs the newest
message ids in the order of the rows, so that a listing that brings only activity writes 8 bytes a channel.

Why not sub-documents: docs/decisions/0025. `python -m indexer_service inspect guild ID` prints a document.
"""

import array
import sys
from collections.abc import Sequence
from typing import Any

import msgspec

from indexing.domain import id_sets, model

FORMAT = 1
"""Grows when an older release cannot read what is written; a reader treats a newer format as not indexed."""
MOST_GONE = 500
"""Gone channels that a guild keeps, the newest."""
_ENCODER = msgspec.msgpack.Encoder(enc_hook=int)
_DECODER = msgspec.msgpack.Decoder()


class NewerFormat(Exception):
    """The value was written by a release that this one cannot read."""


def encode(channels: Sequence[model.Channel], gone: Sequence[model.GoneChannel] = ()) -> tuple[bytes, bytes]:
    """Return `channels` and `activity` of a listing; equal overwrites are stored once."""
    ordered = sorted(channels, key=lambda channel: (channel.position, channel.channel_id))
    places: dict[model.Overwrites, int] = {model.NO_OVERWRITES: -1}
    sets: list[list[bytes]] = []
    rows: list[list[object]] = []
    for row in ordered:
        place = places.get(row.overwrites)
        if place is None:
            place = places[row.overwrites] = len(sets)
            kept = row.overwrites
            sets.append([kept.roles_allow, kept.roles_deny, kept.members_allow, kept.members_deny])
        rows.append(
            [
                row.channel_id,
                row.kind,
                row.name,
                row.topic,
                row.position,
                row.parent_id,
                row.nsfw,
                row.flags,
                place,
            ]
        )
    last = [[one.channel_id, one.kind, one.gone_at, one.reason] for one in gone[-MOST_GONE:]]
    return _ENCODER.encode([FORMAT, rows, sets, last]), encode_activity(ordered)


def encode_activity(ordered: Sequence[model.Channel]) -> bytes:
    """Return the newest message ids, 0 for none, of channels in stored order."""
    packed = array.array("q", [row.last_message_id or 0 for row in ordered])
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def decode(
    guild_id: int, channels: bytes, activity: bytes
) -> tuple[tuple[model.Channel, ...], tuple[model.GoneChannel, ...]]:
    """
    Return what `encode` was given.

    Raises:
        NewerFormat: A newer release wrote the value.
    """
    try:
        kind, rows, sets, gone = _DECODER.decode(channels)
    except (msgspec.ValidationError, ValueError) as error:
        raise NewerFormat from error
    if kind > FORMAT:
        raise NewerFormat
    overwrites = [model.Overwrites(*one) for one in sets]
    newest = array.array("q", activity)
    if sys.byteorder == "big":
        newest.byteswap()
    found = tuple(
        model.Channel(
            channel_id,
            guild_id,
            of_kind,
            name,
            topic,
            position,
            parent,
            nsfw,
            flags,
            message or None,
            overwrites[place] if place >= 0 else model.NO_OVERWRITES,
        )
        for (channel_id, of_kind, name, topic, position, parent, nsfw, flags, place), message in zip(
            rows, newest, strict=True
        )
    )
    return found, tuple(model.GoneChannel(*one) for one in gone)


def readable(document: dict[str, Any]) -> dict[str, Any]:
    """Return a guild's document with its packed parts spelled out, for people."""
    shown = {name: value for name, value in document.items() if name not in {"channels", "activity"}}
    if not document.get("channels"):
        return {**shown, "channels": []}
    channels, gone = decode(document["_id"], document["channels"], document["activity"])
    rows = [
        {
            "id": row.channel_id,
            "kind": row.kind,
            "name": row.name,
            "position": row.position,
            "parent_id": row.parent_id,
            "last_message_id": row.last_message_id,
            "overwrites": {
                name: list(id_sets.unpack_ids(getattr(row.overwrites, name)))
                for name in ("roles_allow", "roles_deny", "members_allow", "members_deny")
            },
        }
        for row in channels
    ]
    return {**shown, "channels": rows, "gone": [[one.channel_id, one.gone_at, one.reason] for one in gone]}
