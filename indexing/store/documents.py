"""Guilds and channels as documents of MongoDB."""

from collections.abc import Sequence
from typing import Any

import pymongo

from indexing.domain import model, reasons
from indexing.store import database

SIZE_STEP = 0.2
"""Share by which a guild's size must change to be written: Discord's estimate moves all the time."""


def named(guild: model.UserGuild, old: database.Document | None, *, has_bot: bool) -> database.Document:
    """Return what a guild's row says after a user has listed it."""
    people = guild.presence_count if guild.presence_count is not None else guild.member_count
    known = (old or {}).get("people")
    if people and known and abs(people - known) < known * SIZE_STEP:
        people = known
    access = model.Access.INSTALLED if has_bot else model.Access.NOT_INSTALLED
    if has_bot and old is not None and old.get("access") == model.Access.DENIED.value:
        access = model.Access.DENIED
    return {"name": guild.name, "icon": guild.icon, "people": people, "access": access.value}


def read(channels: Sequence[model.Channel], now: float) -> database.Document:
    """Return what a guild's row says after a complete listing."""
    newest = max((channel.last_message_id or 0 for channel in channels), default=0)
    return {
        "fetched_at": now,
        "access": model.Access.INSTALLED.value,
        "channel_count": len(channels),
        "newest_message_id": newest or None,
        "error": "",
        "retry_at": 0.0,
        "refusals": 0,
        "refused_at": 0.0,
        "waiting": 0,
    }


def scheduled(schedule: model.Schedule) -> database.Document:
    """Return what a guild's row says of its next reading."""
    return {
        "next_refresh_at": schedule.next_at,
        "interval": schedule.interval,
        "changed_at": schedule.changed_at,
        "fingerprint": schedule.fingerprint,
        "failures": schedule.failures,
    }


def new_channel(channel: model.Channel, fence: int) -> database.Document:
    """Return the row of a channel that was not known."""
    return {"_id": channel.channel_id, **_fields(channel), "fence": fence, "gone_at": None}


def changes(
    stored: Sequence[database.Document], channels: Sequence[model.Channel], fence: int, now: float
) -> list[Any]:
    """Return the writes that turn the rows that are stored into *channels*; what did not change is not written."""
    listed = {channel.channel_id: channel for channel in channels}
    changes: list[Any] = []
    for row in stored:
        channel = listed.get(row["_id"])
        if channel is None:
            fields = {"gone_at": now, "gone_why": reasons.HIDDEN_OR_DELETED}
            differs = row.get("gone_at") is None
        else:
            fields = {**_fields(channel), "gone_at": None}
            differs = any(row.get(name) != value for name, value in fields.items())
        if differs:
            guard = {"_id": row["_id"], "fence": {"$lte": fence}}
            changes.append(pymongo.UpdateOne(guard, {"$set": {**fields, "fence": fence}}))
    return changes


def _fields(channel: model.Channel) -> database.Document:
    return {
        "guild_id": channel.guild_id,
        "kind": channel.kind,
        "name": channel.name,
        "topic": channel.topic,
        "position": channel.position,
        "parent_id": channel.parent_id,
        "nsfw": channel.nsfw,
        "flags": channel.flags,
        "last_message_id": channel.last_message_id,
        "overwrites": [[o.target_id, o.kind, o.allow, o.deny] for o in channel.overwrites],
    }


def channel(row: database.Document) -> model.Channel:
    """Return the channel of a row."""
    return model.Channel(
        channel_id=row["_id"],
        guild_id=row["guild_id"],
        kind=row["kind"],
        name=row.get("name", ""),
        topic=row.get("topic"),
        position=row.get("position", 0),
        parent_id=row.get("parent_id"),
        nsfw=row.get("nsfw", False),
        flags=row.get("flags", 0),
        last_message_id=row.get("last_message_id"),
        overwrites=tuple(model.Overwrite(*overwrite) for overwrite in row.get("overwrites", ())),
    )


def guild(row: database.Document) -> model.Guild:
    """Return the guild of a row."""
    return model.Guild(
        guild_id=row["_id"],
        name=row.get("name", ""),
        icon=row.get("icon"),
        people=row.get("people"),
        access=model.Access(row.get("access", "UNKNOWN")),
        fetched_at=row.get("fetched_at"),
        newest_message_id=row.get("newest_message_id"),
        channel_count=row.get("channel_count", 0),
        error=row.get("error", ""),
        retry_at=row.get("retry_at", 0.0),
        lease_until=row.get("lease_until", 0.0),
        refusals=row.get("refusals", 0),
        refused_at=row.get("refused_at", 0.0),
        looked_at=row.get("looked_at"),
        waiting=row.get("waiting", 0),
        schedule=model.Schedule(
            next_at=row.get("next_refresh_at", 0.0),
            interval=row.get("interval", 0.0),
            changed_at=row.get("changed_at"),
            fingerprint=row.get("fingerprint", ""),
            failures=row.get("failures", 0),
        ),
    )
