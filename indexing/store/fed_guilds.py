"""
Guilds as the Gateway's feed writes them: the documents of `store.guilds`, with the feed's fields.

`{shard, session, feed_seq, live, epoch, sight}`. A write requires the fencing token that the guild had when it was
loaded, and increments it: a fetch by REST that is under way stores nothing, and neither does a former owner of the
shard. The channels are written only if their structure changed.

| what | round trips |
|---|---|
| a batch of events, any number of guilds | 2: load, one bulk; 3 when some did not match |
"""

import asyncio
import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import msgspec
import pymongo

from indexing import errors
from indexing.domain import feed, feed_ports, freshness, model
from indexing.store import database, guild_codec, guild_documents, guilds, shards, writer

_SIGHT = msgspec.msgpack.Decoder(tuple[int, int, list[tuple[int, int]], list[int]])
_ENCODER = msgspec.msgpack.Encoder(enc_hook=int)
MANY = 200
"""Guilds that are loaded, with their channels, in one query."""
RECENT = 50
"""Guilds among which an audit of a recent change chooses."""


class MongoFedGuilds:
    """Port `feed_ports.FedGuilds`."""

    def __init__(
        self,
        db: database.Database,
        *,
        retention: float = 30 * 86_400.0,
        observe: Callable[[float], None] = lambda _: None,
        announce: writer.Announce = lambda _: None,
    ) -> None:
        self._guilds = db["guilds"]
        self._retention = retention
        self._announce = announce
        self._writer = writer.Writer(self._guilds, observe=observe, interval=0.0, announce=announce)

    async def load(self, guild_ids: Collection[int]) -> Mapping[int, feed.FedGuild]:
        """Return the stored guilds, by id."""
        ids = list(guild_ids)
        found: dict[int, feed.FedGuild] = {}
        for at in range(0, len(ids), MANY):
            rows = await database.find_by_ids(self._guilds, ids[at : at + MANY])
            found |= {row["_id"]: _fed_of(row) for row in rows}
        return found

    async def add(self, guild_ids: Collection[int]) -> None:
        """Store guilds that are missing."""
        first = database.first_version()
        empty = {**guilds.UNREAD, "name": "", "icon": None, "people": None, "version": first, "fence": first}
        access = model.Access.UNKNOWN.value
        await database.insert_new(self._guilds, [{"_id": key, **empty, "access": access} for key in guild_ids])

    async def store(
        self, shard: feed_ports.Shard, changes: Sequence[tuple[feed.FedGuild, feed.FedGuild]], now: float
    ) -> set[int]:
        """Store guilds, each from what it was to what it is; returns those that were stored."""
        statements = [self._statement(shard, before, after, now) for before, after in changes]
        writing = [self._writer.update(wanted, update) for wanted, update in statements]
        applied = await asyncio.gather(*writing, return_exceptions=True)
        for problem in applied:
            if isinstance(problem, BaseException) and not isinstance(problem, errors.DocumentTooLarge):
                raise problem
        return {after.guild.guild_id for (_, after), done in zip(changes, applied, strict=True) if done is True}

    def _statement(
        self, shard: feed_ports.Shard, before: feed.FedGuild, after: feed.FedGuild, now: float
    ) -> tuple[database.Document, database.Document]:
        guild = before.guild
        wanted = {"_id": guild.guild_id, "fence": before.fence, "epoch": {"$not": {"$gt": shard.epoch}}}
        change: database.Document = {
            "shard": shard.key,
            "session": after.session,
            "feed_seq": after.seq,
            "live": after.live,
            "epoch": shard.epoch,
        }
        if after.sight != before.sight and after.sight is not None:
            change["sight"] = _packed_sight(after.sight)
        shown = False
        if after.removed:
            shown = guild.access is not model.Access.NOT_INSTALLED
            change |= guilds.REMOVED | {"oldest_gone_at": now}
        else:
            fields, shown = self._shown_fields(shard, before, after, now)
            change |= fields
        return wanted, {"$set": change, "$inc": {"fence": 1} | ({"version": 1} if shown else {})}

    def _shown_fields(
        self, shard: feed_ports.Shard, before: feed.FedGuild, after: feed.FedGuild, now: float
    ) -> tuple[database.Document, bool]:
        """Return what changed of the guild and its channels, and whether readers see it."""
        change: database.Document = {"lease_until": 0.0}
        old, new = before.guild, after.guild
        shown = (old.name, old.icon) != (new.name, new.icon)
        if shown:
            change |= {"name": new.name, "icon": new.icon}
        if new.member_count != old.member_count:
            change["people"] = new.member_count
        if after.channels is before.channels and not after.created:
            return change, shown
        # What is stored now was true at the session's proof or later; the time of the event is not known.
        change["fetched_at"] = shard.synced_at
        newest = max((row.last_message_id or 0 for row in after.channels), default=0) or None
        change["newest_message_id"] = newest
        if after.created:
            change |= guilds.READABLE
            shown = shown or old.access is not model.Access.INSTALLED or old.fetched_at is None
        schedule = freshness.schedule_after_fetch(old, after.channels, now)
        if schedule.fingerprint == old.schedule.fingerprint:
            ordered = sorted(after.channels, key=lambda row: (row.position, row.channel_id))
            change["activity"] = guild_codec.encode_activity(ordered)
            return change, shown or newest != old.newest_message_id
        oldest = now - self._retention
        gone = [row for row in after.gone if row.gone_at > oldest]
        channels, activity = guild_codec.encode(after.channels, gone)
        change |= {"channels": channels, "activity": activity, "schema": guilds.SCHEMA}
        change |= guilds.scheduled(schedule)
        change["channel_count"] = len(after.channels)
        change["oldest_gone_at"] = min((row.gone_at for row in gone), default=0.0)
        return change, True

    async def mark_removed(self, shard: feed_ports.Shard, present: Collection[int], now: float) -> Sequence[int]:
        """Record that our bot is no longer in the guilds of a shard that are not *present*; returns them."""
        theirs = {"shard": shard.key, "epoch": {"$lte": shard.epoch}, "access": model.Access.INSTALLED.value}
        with database.translated():
            rows = await self._guilds.find(theirs, {"_id": 1}).to_list(None)
        missing = sorted({row["_id"] for row in rows} - set(present))
        change = guilds.REMOVED | {"oldest_gone_at": now, "live": False, "epoch": shard.epoch}
        for at in range(0, len(missing), guilds.MANY):
            with database.translated():
                await self._guilds.update_many(
                    {"_id": {"$in": missing[at : at + guilds.MANY]}, **theirs},
                    {"$set": change, "$inc": {"fence": 1, "version": 1}},
                )
        self._announce(missing)
        return missing

    async def list_fed(self, shard: feed_ports.Shard) -> set[int]:
        """Return the guilds that the shard's session feeds."""
        fed = {"shard": shard.key, "session": shard.session, "live": True}
        with database.translated():
            return {row["_id"] for row in await self._guilds.find(fed, {"_id": 1}).to_list(None)}

    async def pick_for_audit(self, shard: feed_ports.Shard, now: float, *, recent: bool) -> int | None:
        """
        Return the guild of the shard's session whose audit is the longest ago, and note that it is audited now.

        With *recent*, of the `RECENT` guilds that have changed last.
        """
        fed = {"shard": shard.key, "session": shard.session, "live": True}
        with database.translated():
            found = self._guilds.find(fed, {"audited_at": 1})
            if recent:
                found = found.sort("changed_at", pymongo.DESCENDING).limit(RECENT)
            else:
                found = found.sort("audited_at", pymongo.ASCENDING).limit(1)
            rows = await found.to_list(None)
            if not rows:
                return None
            guild_id = int(min(rows, key=lambda row: row.get("audited_at", 0.0))["_id"])
            await self._guilds.update_one({"_id": guild_id}, {"$set": {"audited_at": now}})
        return guild_id


def _fed_of(row: database.Document) -> feed.FedGuild:
    indexed = guild_documents.indexed_of(row, shards.NO_PROOFS)
    sight: Any = row.get("sight")
    guild = indexed.guild
    if guild.fetched_at is None:
        # Nothing readable is stored, whatever its fingerprint says.
        guild = dataclasses.replace(guild, schedule=dataclasses.replace(guild.schedule, fingerprint=""))
    return feed.FedGuild(
        guild=guild,
        channels=indexed.channels,
        gone=indexed.gone,
        session=row.get("session", ""),
        seq=row.get("feed_seq", 0),
        live=row.get("live", False),
        epoch=row.get("epoch", 0),
        fence=row.get("fence", 0),
        sight=None if sight is None else _sight_of(sight),
        removed=guild.access is model.Access.NOT_INSTALLED,
    )


def _packed_sight(sight: feed.BotSight) -> bytes:
    roles = sorted(sight.roles.items())
    return _ENCODER.encode([sight.bot_id, sight.owner_id, roles, list(sight.bot_roles)])


def _sight_of(packed: bytes) -> feed.BotSight:
    bot_id, owner_id, roles, bot_roles = _SIGHT.decode(packed)
    return feed.BotSight(bot_id, owner_id, dict(roles), tuple(bot_roles))
