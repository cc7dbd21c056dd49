"""
Guilds and channels in MongoDB, shared by all users.

Who fetches a guild holds its lease: a fence number that only grows, and a time. It is checked before anything is
written, and every channel carries the fence of its last writer, so that a writer whose lease was lost changes nothing,
however late its answer comes.

Guilds and channels as documents of MongoDB.
"""

from collections.abc import Collection, Sequence
from typing import Any

import pymongo

from indexing.domain import model, reasons
from indexing.store import database

UNREAD = {"fence": 0, "lease_until": 0.0, "fetched_at": None, "looked_at": None, "next_refresh_at": 0.0}
REMOVED = {
    "access": model.Access.NOT_INSTALLED.value,
    "error": reasons.BOT_REMOVED,
    "fetched_at": None,
    "channel_count": 0,
    "newest_message_id": None,
    "next_refresh_at": 0.0,
    "lease_until": 0.0,
}
LOOK_STEP = 300.0
"""Seconds between two notes that somebody looks at a guild."""
MANY = 1_000
"""Guilds asked about in one query."""


class Guilds:
    """Port `ports.Guilds`. Round trips: one for each method, up to 3 for `named`, 2 to 5 for `store_channels`."""

    def __init__(self, database: database.Database) -> None:
        self._guilds = database["guilds"]
        self._channels = database["channels"]
        self._memberships = database["memberships"]

    async def get(self, guild_ids: Collection[int]) -> dict[int, model.Guild]:
        """Return those of the guilds that are stored, by id."""
        with database.translated():
            rows = await self._guilds.find({"_id": {"$in": list(guild_ids)}}).to_list(None)
        return {row["_id"]: guild_of(row) for row in rows}

    async def upsert_guilds(self, guilds: Sequence[model.UserGuild], installed: Collection[int]) -> None:
        """Store names, icons and sizes, and which of the guilds have our bot. Only changes are written."""
        with database.translated():
            rows = await self._guilds.find({"_id": {"$in": [guild.guild_id for guild in guilds]}}).to_list(None)
        before = {row["_id"]: row for row in rows}
        new, changes = [], []
        for guild in guilds:
            old = before.get(guild.guild_id)
            fields = name_fields(guild, old, has_bot=guild.guild_id in installed)
            if old is None:
                new.append({"_id": guild.guild_id, **UNREAD, **fields})
            elif any(old.get(name) != value for name, value in fields.items()):
                changes.append(pymongo.UpdateOne({"_id": guild.guild_id}, {"$set": fields}))
        await database.insert_new(self._guilds, new)
        if changes:
            with database.translated():
                await self._guilds.bulk_write(changes, ordered=False)

    async def mark_bot_removed(self, guild_ids: Collection[int], now: float) -> None:
        """Note that our bot is not in the guilds; where it was, the channels are hidden, with that cause."""
        was_in = {"_id": {"$in": list(guild_ids)}, "fetched_at": {"$ne": None}}
        with database.translated():
            rows = await self._guilds.find(was_in, {"_id": 1}).to_list(None) if guild_ids else []
            found = {"$in": [row["_id"] for row in rows]}
            if rows:
                # A new fence, so that a reading that is under way changes nothing any more.
                await self._guilds.update_many({"_id": found}, {"$set": REMOVED, "$inc": {"fence": 1}})
                gone = {"gone_at": now, "gone_why": reasons.BOT_REMOVED}
                await self._channels.update_many({"guild_id": found, "gone_at": None}, {"$set": gone})

    async def mark_viewed(self, guild_ids: Collection[int], now: float, *, waiting: Collection[int] = ()) -> None:
        """Note that somebody looks at guilds, and for which of them he waits."""
        seldom = {"looked_at": {"$not": {"$gt": now - LOOK_STEP}}}
        with database.translated():
            if guild_ids:
                await self._guilds.update_many(
                    {"_id": {"$in": list(guild_ids)}, **seldom}, {"$set": {"looked_at": now}}
                )
            if waiting:
                await self._guilds.update_many({"_id": {"$in": list(waiting)}}, {"$inc": {"waiting": 1}})

    async def schedule_soon(self, guild_ids: Collection[int], now: float) -> None:
        """Have the guilds that are read regularly read again at *now*; one that is due already stays as it is."""
        later = {"next_refresh_at": {"$not": {"$gt": 0.0, "$lte": now}}}
        readable = {"access": model.Access.INSTALLED.value, "fetched_at": {"$ne": None}}
        with database.translated():
            if guild_ids:
                await self._guilds.update_many(
                    {"_id": {"$in": list(guild_ids)}, **readable, **later}, {"$set": {"next_refresh_at": now}}
                )

    async def list_due(self, now: float, limit: int) -> list[model.Guild]:
        """Return guilds that should have been read again before *now*, most overdue first."""
        with database.translated():
            found = self._guilds.find({"next_refresh_at": {"$gt": 0.0, "$lte": now}})
            rows = await found.sort("next_refresh_at", 1).limit(limit).to_list(None)
        return [guild_of(row) for row in rows]

    async def acquire_lease(self, guild_id: int, *, now: float, until: float, fetched_before: float) -> int | None:
        """Take the right to fetch a guild alone; None if somebody holds it or it was fetched since."""
        free = {
            "_id": guild_id,
            "lease_until": {"$lte": now},
            "fetched_at": {"$not": {"$gt": fetched_before}},
        }
        with database.translated():
            row = await self._guilds.find_one_and_update(
                free,
                {"$set": {"lease_until": until}, "$inc": {"fence": 1}},
                projection={"fence": 1},
                return_document=pymongo.ReturnDocument.AFTER,
            )
        return int(row["fence"]) if row else None

    async def store_channels(
        self,
        guild_id: int,
        *,
        fence: int,
        channels: Sequence[model.Channel],
        now: float,
        schedule: model.Schedule = model.NEVER_FETCHED,
    ) -> bool:
        """Store a complete listing and end the lease; returns False and changes nothing when the lease is lost."""
        with database.translated():
            stored = await self._channels.find({"guild_id": guild_id}).to_list(None)
        known = {row["_id"] for row in stored}
        new = [new_channel_row(channel, fence) for channel in channels if channel.channel_id not in known]
        changes = channel_changes(stored, channels, fence, now)
        told = listing_fields(channels, now) | schedule_fields(schedule)
        if not new and not changes:
            return await self._end_lease(guild_id, fence, told)
        if not await self._holds(guild_id, fence):
            return False
        await database.insert_new(self._channels, new)
        if await database.write_newest(self._channels, changes) and await self._end_lease(guild_id, fence, told):
            return True
        await self._distrust(guild_id)
        return False

    async def mark_refused(self, guild_id: int, *, fence: int, error: str, now: float, retry_at: float) -> None:
        """Note a lasting refusal, one more in a row, and end the lease; the guild is not read again by itself."""
        change = {"error": error, "retry_at": retry_at, "refused_at": now, "access": model.Access.DENIED.value}
        await self._end_lease(guild_id, fence, {**change, "next_refresh_at": 0.0, "waiting": 0}, {"refusals": 1})

    async def release_lease(self, guild_id: int, *, fence: int, schedule: model.Schedule | None = None) -> None:
        """End the lease without a result; a new schedule says when the guild is read again."""
        await self._end_lease(guild_id, fence, schedule_fields(schedule) if schedule else {})

    async def purge(self, before: float) -> int:
        """Erase channels gone and guilds without members that nobody looked at since a time; returns how many."""
        with database.translated():
            done = await self._channels.delete_many({"gone_at": {"$gt": 0.0, "$lt": before}})
            unseen = {"$or": [{"looked_at": None}, {"looked_at": {"$lt": before}}]}
            rows = await self._guilds.find(unseen, {"_id": 1}).to_list(None)
        erased = int(done.deleted_count)
        for at in range(0, len(rows), MANY):
            erased += await self._erase_empty([row["_id"] for row in rows[at : at + MANY]])
        return erased

    async def _erase_empty(self, guild_ids: list[int]) -> int:
        with database.translated():
            some = await self._memberships.distinct("guild_id", {"guild_id": {"$in": guild_ids}})
            empty = {"$in": sorted(set(guild_ids) - set(some))}
            channels = await self._channels.delete_many({"guild_id": empty})
            guilds = await self._guilds.delete_many({"_id": empty})
        return int(channels.deleted_count + guilds.deleted_count)

    async def list_channels(self, guild_ids: Collection[int]) -> list[model.Channel]:
        """Return the channels of the guilds as of their latest listing, by guild, position, id."""
        with database.translated():
            rows = await self._channels.find({"guild_id": {"$in": list(guild_ids)}, "gone_at": None}).to_list(None)
        found = [channel_of(row) for row in rows]
        return sorted(found, key=lambda c: (c.guild_id, c.position, c.channel_id))

    async def _holds(self, guild_id: int, fence: int) -> bool:
        with database.translated():
            return await self._guilds.find_one({"_id": guild_id, "fence": fence}, {"_id": 1}) is not None

    async def _distrust(self, guild_id: int) -> None:
        """Have a guild read again: a lease that was lost in the act of writing may have left older rows behind."""
        with database.translated():
            done = await self._guilds.update_one({"_id": guild_id}, {"$set": {"fetched_at": None}})
            if not done.matched_count:
                # Erased meanwhile: nobody else would ever find these rows.
                await self._channels.delete_many({"guild_id": guild_id})

    async def _end_lease(
        self, guild_id: int, fence: int, change: database.Document, more: database.Document | None = None
    ) -> bool:
        update = {"$set": {**change, "lease_until": 0.0}} | ({"$inc": more} if more else {})
        with database.translated():
            done = await self._guilds.update_one({"_id": guild_id, "fence": fence}, update)
        return bool(done.matched_count)


SIZE_STEP = 0.2
"""Share by which a guild's size must change to be written: Discord's estimate moves all the time."""


def name_fields(guild: model.UserGuild, old: database.Document | None, *, has_bot: bool) -> database.Document:
    """Return what a guild's row says after a user has listed it."""
    people = guild.presence_count if guild.presence_count is not None else guild.member_count
    known = (old or {}).get("people")
    if people and known and abs(people - known) < known * SIZE_STEP:
        people = known
    access = model.Access.INSTALLED if has_bot else model.Access.NOT_INSTALLED
    if has_bot and old is not None and old.get("access") == model.Access.DENIED.value:
        access = model.Access.DENIED
    return {"name": guild.name, "icon": guild.icon, "people": people, "access": access.value}


def listing_fields(channels: Sequence[model.Channel], now: float) -> database.Document:
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


def schedule_fields(schedule: model.Schedule) -> database.Document:
    """Return what a guild's row says of its next reading."""
    return {
        "next_refresh_at": schedule.next_at,
        "interval": schedule.interval,
        "changed_at": schedule.changed_at,
        "fingerprint": schedule.fingerprint,
        "failures": schedule.failures,
    }


def new_channel_row(channel: model.Channel, fence: int) -> database.Document:
    """Return the row of a channel that was not known."""
    return {"_id": channel.channel_id, **_fields(channel), "fence": fence, "gone_at": None}


def channel_changes(
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


def channel_of(row: database.Document) -> model.Channel:
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


def guild_of(row: database.Document) -> model.Guild:
    """Return the guild of a row."""
    return model.Guild(
        guild_id=row["_id"],
        name=row.get("name", ""),
        icon=row.get("icon"),
        member_count=row.get("people"),
        access=model.Access(row.get("access", "UNKNOWN")),
        fetched_at=row.get("fetched_at"),
        newest_message_id=row.get("newest_message_id"),
        channel_count=row.get("channel_count", 0),
        reason=row.get("error", ""),
        retry_at=row.get("retry_at", 0.0),
        lease_until=row.get("lease_until", 0.0),
        refusals=row.get("refusals", 0),
        refused_at=row.get("refused_at", 0.0),
        last_viewed_at=row.get("looked_at"),
        demand=row.get("waiting", 0),
        schedule=model.Schedule(
            next_at=row.get("next_refresh_at", 0.0),
            interval=row.get("interval", 0.0),
            changed_at=row.get("changed_at"),
            fingerprint=row.get("fingerprint", ""),
            failures=row.get("failures", 0),
        ),
    )
