"""
Guilds whose channels are rows of `channels`, with the document's parts beside them in the guild's head.

Rows are written before the head, whose update is conditional on the fencing token and carries the whole document, so
that head, document and rows agree when a write returns.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import pymongo

from indexing.domain import id_sets, model, permissions, reasons
from indexing.store import database, guilds, schema, writer

ROWS, DOCUMENTS = schema.State.ROWS, schema.State.DOCUMENTS


class RowGuilds(guilds.Guilds):
    """Port `ports.Guilds`. Round trips: those of `guilds.Guilds`, and as many for the rows."""

    def __init__(
        self,
        db: database.Database,
        form: schema.Schema,
        *,
        retention: float = 30 * 86_400.0,
        observe: Callable[[float], None] = lambda _: None,
        announce: writer.Announce = lambda _: None,
    ) -> None:
        super().__init__(db, retention=retention, observe=observe, announce=announce)
        self._channels = db["channels"]
        self._memberships = db["memberships"]
        self._form = form

    async def load(self, guild_ids: Collection[int]) -> dict[int, model.IndexedGuild]:
        """Return those of the guilds that are stored, by id, with their channels."""
        if not guild_ids or await self._form.state() is not ROWS:
            return await super().load(guild_ids)
        heads = await self.get(guild_ids)
        rows = await read_rows(self._channels, {"$in": list(guild_ids)})
        return {guild_id: _indexed(guild, rows.get(guild_id, [])) for guild_id, guild in heads.items()}

    async def versions(self, guild_ids: Collection[int]) -> dict[int, model.GuildVersion]:
        """Return the versions of those of the guilds that are stored, by id."""
        if not guild_ids or await self._form.state() is not ROWS:
            return await super().versions(guild_ids)
        return {
            guild_id: model.GuildVersion(found.version, found.guild.fetched_at, found.guild.schedule.next_at)
            for guild_id, found in (await self.load(guild_ids)).items()
        }

    async def mark_bot_removed(self, guild_ids: Collection[int], now: float) -> None:
        """Note that our bot is not in the guilds; where it was, the channels are hidden, with that reason."""
        if not guild_ids or await self._form.state() is DOCUMENTS:
            await super().mark_bot_removed(guild_ids, now)
            return
        was_in = {"_id": {"$in": list(guild_ids)}, "fetched_at": {"$ne": None}}
        with database.translated():
            found = [row["_id"] for row in await self._guilds.find(was_in, {"_id": 1}).to_list(None)]
        await super().mark_bot_removed(found, now)
        gone = {"gone_at": now, "gone_why": reasons.BOT_REMOVED}
        with database.translated():
            await self._channels.update_many({"guild_id": {"$in": found}, "gone_at": None}, {"$set": gone})

    async def store_channels(self, guild_id: int, listing: model.Listing) -> bool:
        """Store a complete listing and end the lease; returns False and changes nothing when the lease is lost."""
        if await self._form.state() is DOCUMENTS:
            return await super().store_channels(guild_id, listing)
        stored = (await read_rows(self._channels, guild_id)).get(guild_id, [])
        new, changes = _row_changes(stored, listing)
        wanted, update = self._document_statement(guild_id, listing, stored)
        if new or changes:
            if not await self._is_stored(wanted):
                return False
            # A copy may make a fingerprint of its own meanwhile.
            del wanted["fingerprint"]
        await database.insert_new(self._channels, new)
        if changes:
            with database.translated():
                await self._channels.bulk_write(changes, ordered=False)
        if await self._writer.update(wanted, update):
            return True
        if new or changes:
            await self._distrust(guild_id)
        return False

    def _document_statement(
        self, guild_id: int, listing: model.Listing, stored: Iterable[database.Document]
    ) -> tuple[database.Document, database.Document]:
        """Return filter and update of a listing: always the whole document, which may not have been copied yet."""
        listed = {channel.channel_id for channel in listing.channels}
        left = [row for row in stored if row["_id"] not in listed]
        now = {"gone_at": listing.now, "gone_why": reasons.HIDDEN_OR_DELETED}
        _, gone = decode_rows({**row, **now} if row.get("gone_at") is None else row for row in left)
        whole = dataclasses.replace(listing, known=None, gone=gone)
        wanted, _ = self._listing_statement(guild_id, listing)
        _, update = self._listing_statement(guild_id, whole)
        update["$set"] |= copied_at(listing.fence, listing.now)
        return wanted, update

    async def _is_stored(self, wanted: database.Document) -> bool:
        with database.translated():
            return await self._guilds.find_one(wanted, {"_id": 1}) is not None

    async def _distrust(self, guild_id: int) -> None:
        """Have a guild fetched again: a lease lost in the act of writing may have left older rows behind."""
        with database.translated():
            unread = {"$set": {"fetched_at": None}, "$inc": {"version": 1}}
            done = await self._guilds.update_one({"_id": guild_id}, unread)
            if not done.matched_count:
                # Erased meanwhile: nothing else leads to these rows.
                await self._channels.delete_many({"guild_id": guild_id})

    async def _purge_gone(self, before: float) -> int:
        state = await self._form.state()
        # A guild may have no document yet; one that was copied is purged when documents count.
        erased = 0 if state is ROWS else await super()._purge_gone(before)
        if state is DOCUMENTS:
            return erased
        with database.translated():
            channels = await self._channels.delete_many({"gone_at": {"$gt": 0.0, "$lt": before}})
            await self._memberships.delete_many({"left_at": {"$gt": 0.0, "$lt": before}})
        return int(channels.deleted_count)

    async def _erase_empty(self, found: list[database.Document]) -> int:
        if await self._form.state() is DOCUMENTS:
            return await super()._erase_empty(found)
        guild_ids = [row["_id"] for row in found]
        with database.translated():
            some = await self._memberships.distinct("guild_id", {"guild_id": {"$in": guild_ids}})
        empty = sorted(set(guild_ids) - set(some))
        erased = await super()._erase_empty([row for row in found if row["_id"] not in some])
        left = await self.get(empty)
        with database.translated():
            await self._channels.delete_many({"guild_id": {"$in": sorted(set(empty) - left.keys())}})
        return erased


def copied_at(fence: int, fetched_at: float | None) -> database.Document:
    """Return the fields of a head that say which rows its document was made from."""
    return {"migrated_fence": fence, "migrated_at": fetched_at}


async def read_rows(
    channels: database.Collection, guilds: int | database.Document
) -> dict[int, list[database.Document]]:
    """Return the rows of the guilds with this id, or whose ids match, by guild; gone ones included."""
    with database.translated():
        rows = await channels.find({"guild_id": guilds}).to_list(None)
    found: dict[int, list[database.Document]] = {}
    for row in rows:
        found.setdefault(row["guild_id"], []).append(row)
    return found


def decode_rows(rows: Iterable[database.Document]) -> tuple[tuple[model.Channel, ...], tuple[model.GoneChannel, ...]]:
    """Return the channels of one guild by position, then id, and those that are gone, newest last."""
    sets: dict[model.Overwrites, model.Overwrites] = {model.NO_OVERWRITES: model.NO_OVERWRITES}
    channels, gone = [], []
    for row in rows:
        if row.get("gone_at") is None:
            channels.append(_channel(row, sets))
        else:
            gone.append(model.GoneChannel(int(row["_id"]), row["kind"], row["gone_at"], row.get("gone_why") or ""))
    channels.sort(key=lambda channel: (channel.position, channel.channel_id))
    gone.sort(key=lambda row: (row.gone_at, row.channel_id))
    return tuple(channels), tuple(gone)


def _channel(row: database.Document, sets: dict[model.Overwrites, model.Overwrites]) -> model.Channel:
    overwrites = _overwrites(row)
    return model.Channel(
        channel_id=int(row["_id"]),
        guild_id=int(row["guild_id"]),
        kind=row["kind"],
        name=row.get("name", ""),
        topic=row.get("topic"),
        position=row.get("position", 0),
        parent_id=row.get("parent_id"),
        nsfw=row.get("nsfw", False),
        flags=row.get("flags", 0),
        last_message_id=row.get("last_message_id"),
        overwrites=sets.setdefault(overwrites, overwrites),
    )


def _overwrites(row: database.Document) -> model.Overwrites:
    """Return a row's overwrites; the release before stores them as they come, so that they may be unreliable."""
    found = [model.Overwrite(*each) for each in row.get("overwrites") or ()]
    reliable = permissions.are_reliable(found) and row.get("overwrites") is not None
    return model.Overwrites.of(found) if reliable else permissions.sealed(int(row["guild_id"]))


def _indexed(guild: model.Guild, rows: Iterable[database.Document]) -> model.IndexedGuild:
    channels, gone = decode_rows(rows) if guild.fetched_at is not None else ((), ())
    head = (guild.name, guild.icon, guild.member_count, guild.access, guild.reason)
    shown = (*head, guild.fetched_at is None, guild.schedule.failures > 0, channels)
    return model.IndexedGuild(guild, version_of(shown), channels, gone)


def version_of(shown: object) -> int:
    """Return a version of what has none in rows: another value for anything else that is shown."""
    digest = hashlib.blake2b(repr(shown).encode(), digest_size=7).digest()
    return int.from_bytes(digest, "big") + 1


def _row_changes(
    stored: Sequence[database.Document], listing: model.Listing
) -> tuple[list[database.Document], list[Any]]:
    """Return new rows, and the writes that turn the stored ones into the listing; only changes are written."""
    listed = {channel.channel_id: channel for channel in listing.channels}
    gone = {"gone_at": listing.now, "gone_why": reasons.HIDDEN_OR_DELETED}
    changes: list[Any] = []
    for row in stored:
        channel = listed.pop(row["_id"], None)
        if channel is None:
            change = gone if row.get("gone_at") is None else {}
        else:
            fields = {**_fields(channel), "gone_at": None}
            change = {name: value for name, value in fields.items() if row.get(name) != value}
            if _overwrites(row) == channel.overwrites:
                # The release before stores whole overwrites: what they say about other permissions is kept.
                change.pop("overwrites", None)
        if change:
            guard = {"_id": row["_id"], "fence": {"$lte": listing.fence}}
            changes.append(pymongo.UpdateOne(guard, {"$set": {**change, "fence": listing.fence}}))
    new = [
        {"_id": channel.channel_id, **_fields(channel), "fence": listing.fence, "gone_at": None}
        for channel in listed.values()
    ]
    return new, changes


def _fields(channel: model.Channel) -> database.Document:
    kept = channel.overwrites
    sides = ((kept.roles_allow, 0, 0), (kept.roles_deny, 0, 1), (kept.members_allow, 1, 0), (kept.members_deny, 1, 1))
    bits: dict[tuple[int, int], list[int]] = {}
    for packed, kind, side in sides:
        for target_id in id_sets.unpack_ids(packed):
            bits.setdefault((target_id, kind), [0, 0])[side] = model.VIEW_CHANNEL
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
        "overwrites": [[target_id, kind, *both] for (target_id, kind), both in sorted(bits.items())],
    }
