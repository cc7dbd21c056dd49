"""
Guilds and channels in MongoDB, shared by all users.

Who fetches a guild holds its lease: a fence number that only grows, and a time. It is checked before anything is
written, and every channel carries the fence of its last writer, so that a writer whose lease was lost changes nothing,
however late its answer comes.
"""

from collections.abc import Collection, Sequence
from typing import Any

import pymongo

from indexing import model
from indexing.store import mongo

UNREAD = {"fence": 0, "lease_until": 0.0, "fetched_at": None}
SIZE_STEP = 0.2
"""Share by which a guild's size must change to be written: Discord's estimate moves all the time."""


class Guilds:
    """Port `ports.Guilds`. Round trips: one for each method, up to three for `named`, five for `store_channels`."""

    def __init__(self, database: mongo.Database) -> None:
        self._guilds = database["guilds"]
        self._channels = database["channels"]

    async def get(self, guild_ids: Collection[int]) -> dict[int, model.Guild]:
        """Return those of the guilds that are stored, by id."""
        with mongo.translated():
            rows = await self._guilds.find({"_id": {"$in": list(guild_ids)}}).to_list(None)
        return {row["_id"]: _guild(row) for row in rows}

    async def named(self, guilds: Sequence[model.UserGuild], installed: Collection[int]) -> None:
        """Store names, icons and sizes, and which of the guilds have our bot. Only changes are written."""
        with mongo.translated():
            rows = await self._guilds.find({"_id": {"$in": [guild.guild_id for guild in guilds]}}).to_list(None)
        before = {row["_id"]: row for row in rows}
        new, changes = [], []
        for guild in guilds:
            old = before.get(guild.guild_id)
            fields = _named(guild, old, has_bot=guild.guild_id in installed)
            if old is None:
                new.append({"_id": guild.guild_id, **UNREAD, **fields})
            elif any(old.get(name) != value for name, value in fields.items()):
                changes.append(pymongo.UpdateOne({"_id": guild.guild_id}, {"$set": fields}))
        await mongo.insert_new(self._guilds, new)
        if changes:
            with mongo.translated():
                await self._guilds.bulk_write(changes, ordered=False)

    async def lease(self, guild_id: int, *, now: float, until: float, fetched_before: float) -> int | None:
        """Take the right to fetch a guild alone; None if somebody holds it or it was fetched since."""
        free = {
            "_id": guild_id,
            "lease_until": {"$lte": now},
            "$or": [{"fetched_at": None}, {"fetched_at": {"$lte": fetched_before}}],
        }
        with mongo.translated():
            row = await self._guilds.find_one_and_update(
                free,
                {"$set": {"lease_until": until}, "$inc": {"fence": 1}},
                projection={"fence": 1},
                return_document=pymongo.ReturnDocument.AFTER,
            )
        return int(row["fence"]) if row else None

    async def store_channels(self, guild_id: int, *, fence: int, channels: Sequence[model.Channel], now: float) -> bool:
        """Store a complete listing and end the lease; returns False and changes nothing when the lease is lost."""
        if not await self._holds(guild_id, fence):
            return False
        with mongo.translated():
            stored = await self._channels.find({"guild_id": guild_id}).to_list(None)
        known = {row["_id"] for row in stored}
        new = [_row(channel, fence) for channel in channels if channel.channel_id not in known]
        await mongo.insert_new(self._channels, new)
        written = await mongo.write_newest(self._channels, _changes(stored, channels, fence, now))
        if written and await self._end_lease(guild_id, fence, _read(channels, now)):
            return True
        await self._distrust(guild_id)
        return False

    async def refused(self, guild_id: int, *, fence: int, error: str, retry_at: float) -> None:
        """Note a lasting refusal and end the lease."""
        change = {"error": error, "retry_at": retry_at, "access": model.Access.DENIED.value}
        await self._end_lease(guild_id, fence, change)

    async def release(self, guild_id: int, *, fence: int) -> None:
        """End the lease without a result."""
        await self._end_lease(guild_id, fence, {})

    async def channels(self, guild_ids: Collection[int]) -> list[model.Channel]:
        """Return the channels of the guilds as of their latest listing, by guild, position, id."""
        with mongo.translated():
            rows = await self._channels.find({"guild_id": {"$in": list(guild_ids)}, "gone_at": None}).to_list(None)
        found = [_channel(row) for row in rows]
        return sorted(found, key=lambda c: (c.guild_id, c.position, c.channel_id))

    async def _holds(self, guild_id: int, fence: int) -> bool:
        with mongo.translated():
            return await self._guilds.find_one({"_id": guild_id, "fence": fence}, {"_id": 1}) is not None

    async def _distrust(self, guild_id: int) -> None:
        """Have a guild read again: a lease that was lost in the act of writing may have left older rows behind."""
        with mongo.translated():
            await self._guilds.update_one({"_id": guild_id}, {"$set": {"fetched_at": None}})

    async def _end_lease(self, guild_id: int, fence: int, change: mongo.Document) -> bool:
        with mongo.translated():
            done = await self._guilds.update_one(
                {"_id": guild_id, "fence": fence}, {"$set": {**change, "lease_until": 0.0}}
            )
        return bool(done.matched_count)


def _named(guild: model.UserGuild, old: mongo.Document | None, *, has_bot: bool) -> mongo.Document:
    people = guild.presence_count if guild.presence_count is not None else guild.member_count
    known = (old or {}).get("people")
    if people and known and abs(people - known) < known * SIZE_STEP:
        people = known
    access = model.Access.INSTALLED if has_bot else model.Access.NOT_INSTALLED
    if has_bot and old is not None and old.get("access") == model.Access.DENIED.value:
        access = model.Access.DENIED
    return {"name": guild.name, "icon": guild.icon, "people": people, "access": access.value}


def _read(channels: Sequence[model.Channel], now: float) -> mongo.Document:
    """Return what a guild's row says after a complete listing."""
    newest = max((channel.last_message_id or 0 for channel in channels), default=0)
    return {
        "fetched_at": now,
        "access": model.Access.INSTALLED.value,
        "channel_count": len(channels),
        "newest_message_id": newest or None,
        "error": "",
        "retry_at": 0.0,
    }


def _row(channel: model.Channel, fence: int) -> mongo.Document:
    return {"_id": channel.channel_id, **_fields(channel), "fence": fence, "gone_at": None}


def _changes(stored: Sequence[mongo.Document], channels: Sequence[model.Channel], fence: int, now: float) -> list[Any]:
    """Return the writes that turn the rows that are stored into *channels*; what did not change is not written."""
    listed = {channel.channel_id: channel for channel in channels}
    changes: list[Any] = []
    for row in stored:
        channel = listed.get(row["_id"])
        if channel is None:
            fields = {"gone_at": now, "gone_why": "HIDDEN_OR_DELETED"}
            differs = row.get("gone_at") is None
        else:
            fields = {**_fields(channel), "gone_at": None}
            differs = any(row.get(name) != value for name, value in fields.items())
        if differs:
            guard = {"_id": row["_id"], "fence": {"$lte": fence}}
            changes.append(pymongo.UpdateOne(guard, {"$set": {**fields, "fence": fence}}))
    return changes


def _fields(channel: model.Channel) -> mongo.Document:
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


def _channel(row: mongo.Document) -> model.Channel:
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


def _guild(row: mongo.Document) -> model.Guild:
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
    )
