"""
Guilds in MongoDB, one document each with its channels inside, shared by all users.

A process that fetches a guild holds its lease: a fencing token that only grows, and an expiry time. A listing is one
conditional update: it is stored only if the fencing token and the fingerprint are unchanged since before the request to
Discord, so a process that lost its lease changes nothing, however late its write arrives.

| what | round trips | bytes (23 channels, median) |
|---|---|---|
| first listing, or a changed one | 1 | 2.3 KB |
| a listing with new activity only, or without changes | 1 | 0.4 KB |
| refusal, failure | 1 | 0.2 KB |
"""

import asyncio
import collections
from collections.abc import Callable, Collection, Mapping, Sequence

import pymongo

from indexing.domain import freshness, model, reasons
from indexing.store import database, guild_codec, guild_documents, shards, writer

SCHEMA = 2
UNREAD = {
    "schema": SCHEMA,
    "lease_until": 0.0,
    "fetched_at": None,
    "looked_at": None,
    "next_refresh_at": 0.0,
}
REMOVED = {
    "access": model.Access.NOT_INSTALLED.value,
    "error": reasons.BOT_REMOVED,
    "fetched_at": None,
    "channel_count": 0,
    "newest_message_id": None,
    "next_refresh_at": 0.0,
    "lease_until": 0.0,
}
READABLE = {
    "access": model.Access.INSTALLED.value,
    "error": "",
    "retry_at": 0.0,
    "refusals": 0,
    "refused_at": 0.0,
    "waiting": 0,
}
"""Fields that a complete listing sets, from wherever it comes."""
HEAD = {"channels": 0, "activity": 0, "sight": 0}  # projection without the large fields
SHOWN = {
    "version": 1,
    "fetched_at": 1,
    "access": 1,
    "next_refresh_at": 1,
    "session": 1,
    "live": 1,
}  # Projection for the version check of a cached guild.
FED_STEP = 900.0
"""Seconds by which the refresh of a guild is postponed while the Gateway feeds it."""
SIZE_STEP = 0.2
"""Share by which a guild's size must change to be written: Discord's estimate varies constantly."""
MOST_FENCES = 20_000
"""Guilds whose fencing token a process remembers; beyond that it forgets all of them."""
MANY = 1_000  # most guilds in one query without their channels
FEW = 25
"""Guilds whose channels a purge holds at once, as many as a reader loads: some 60 KB, at the very most 300 MB."""
PURGED = {"access": 1, "channels": 1, "activity": 1, "version": 1}


class Guilds:
    """
    Port `ports.Guilds`. Round trips: one for each method, 2 for `upsert_guilds` (3 when a guild changed), up to 3 for
    `acquire_lease`.

    With *proofs*, the fetch time of a guild that the Gateway feeds is the moment up to which its session is complete.
    """

    def __init__(
        self,
        db: database.Database,
        *,
        retention: float = 30 * 86_400.0,
        observe: Callable[[float], None] = lambda _: None,
        announce: writer.Announce = lambda _: None,
        proofs: shards.Proofs | None = None,
    ) -> None:
        self._guilds = db["guilds"]
        self._proofs = proofs
        self._rosters = db["rosters"]
        self._retention = retention
        self._announce = announce
        self._writer = writer.Writer(self._guilds, observe=observe, announce=announce)
        self._fences: dict[int, int | None] = {}

    async def get(self, guild_ids: Collection[int]) -> dict[int, model.Guild]:
        """Return the stored guilds, by id, without their channels."""
        proven = await self._read_proofs()
        return self._guilds_of(await database.find_by_ids(self._guilds, guild_ids, HEAD), proven)

    def _guilds_of(self, rows: Collection[database.Document], proven: shards.ProofTable) -> dict[int, model.Guild]:
        if len(self._fences) > MOST_FENCES:
            self._fences.clear()
        self._fences |= {row["_id"]: row.get("fence") for row in rows}
        return {row["_id"]: guild_documents.guild_of(row, proven) for row in rows}

    async def load(self, guild_ids: Collection[int]) -> dict[int, model.IndexedGuild]:
        """Return the stored guilds, by id, with their channels."""
        proven = await self._read_proofs()
        rows = await database.find_by_ids(self._guilds, guild_ids)
        return {row["_id"]: guild_documents.indexed_of(row, proven) for row in rows}

    async def versions(self, guild_ids: Collection[int]) -> dict[int, model.GuildVersion]:
        """Return the versions of the stored guilds, by id."""
        proven = await self._read_proofs()
        rows = await database.find_small(self._guilds, guild_ids, SHOWN)
        return {
            row["_id"]: model.GuildVersion(
                row.get("version", 0), guild_documents.known_at(row, proven), row.get("next_refresh_at", 0.0)
            )
            for row in rows
        }

    async def _read_proofs(self) -> shards.ProofTable:
        """Return until when sessions are complete: before the guilds are read, see `shards.Proofs.read`."""
        return shards.NO_PROOFS if self._proofs is None else await self._proofs.read()

    async def upsert_guilds(
        self, guilds: Sequence[model.UserGuild], installed: Collection[int] | None, *, viewed_at: float | None = None
    ) -> tuple[dict[int, model.Guild], set[int]]:
        """
        Store names, icons and sizes, and which of the guilds have our bot; returns the guilds, and which were new.

        Only changes of what was read are written, and only guilds that others may have written are read again.
        """
        proven = await self._read_proofs()
        ids = [guild.guild_id for guild in guilds]
        before = {row["_id"]: row for row in await database.find_by_ids(self._guilds, ids, HEAD)}
        new, changes, changed = [], [], []
        for guild in guilds:
            old = before.get(guild.guild_id)
            has_bot = None if installed is None else guild.guild_id in installed
            change = _listed(guild, old, has_bot=has_bot)
            if old is None:
                new.append(_unread(guild.guild_id, change, viewed_at))
            elif any(old.get(name) != value for name, value in change.items()):
                as_read = {"_id": guild.guild_id, "version": old.get("version")}
                changes.append(pymongo.UpdateOne(as_read, {"$set": change, "$inc": {"version": 1}}))
                changed.append(guild.guild_id)
        inserted, _ = await asyncio.gather(database.insert_new(self._guilds, new), self._write(changes))
        self._announce([*changed, *(row["_id"] for row in new)])
        for guild_id in changed:
            del before[guild_id]
        before |= {row["_id"]: row for row in new if row["_id"] in inserted}
        if others := [guild_id for guild_id in ids if guild_id not in before]:
            before |= {row["_id"]: row for row in await database.find_by_ids(self._guilds, others, HEAD)}
        return self._guilds_of(before.values(), proven), inserted

    async def _write(self, changes: list[pymongo.UpdateOne]) -> None:
        if changes:
            with database.translated():
                await self._guilds.bulk_write(changes, ordered=False)

    async def mark_bot_removed(self, guild_ids: Collection[int], now: float) -> None:
        """Record that our bot is not in the guilds, unless one changes meanwhile; their stored channels are hidden."""
        if not guild_ids:
            return
        was_in = {"_id": {"$in": list(guild_ids)}, "fetched_at": {"$ne": None, "$not": {"$gt": now}}}
        with database.translated():
            rows = await self._guilds.find(was_in, {"fence": 1, "fetched_at": 1}).to_list(None)
            # A new fencing token, so that a fetch in progress stores nothing.
            update = {"$set": REMOVED | {"oldest_gone_at": now}, "$inc": {"fence": 1, "version": 1}}
            if rows:
                await self._guilds.bulk_write([pymongo.UpdateOne(row, update) for row in rows], ordered=False)
        self._announce([row["_id"] for row in rows])

    async def mark_viewed(self, guild_ids: Collection[int], now: float, *, waiting: Collection[int] = ()) -> None:
        """Record views of guilds, and one user who waits for each time that a guild is in *waiting*."""
        seldom = {"looked_at": {"$not": {"$gt": now - freshness.VIEW_STEP}}}
        views = [
            pymongo.UpdateMany({"_id": {"$in": part}, **seldom}, {"$set": {"looked_at": now}})
            for part in database.in_parts(guild_ids)
        ]
        demand = [
            pymongo.UpdateMany({"_id": {"$in": part}}, {"$inc": {"waiting": count}})
            for count, guilds in _by_count(waiting).items()
            for part in database.in_parts(guilds)
        ]
        if views or demand:
            with database.translated():
                await self._guilds.bulk_write([*views, *demand], ordered=False)

    async def schedule_soon(self, guild_ids: Collection[int], now: float) -> None:
        """Make installed, fetched guilds due at *now*; a guild that is already due does not change."""
        if not guild_ids:
            return
        later = {"next_refresh_at": {"$not": {"$gt": 0.0, "$lte": now}}}
        readable = {"access": model.Access.INSTALLED.value, "fetched_at": {"$ne": None}}
        with database.translated():
            await self._guilds.update_many(
                {"_id": {"$in": list(guild_ids)}, **readable, **later}, {"$set": {"next_refresh_at": now}}
            )

    async def list_due(self, now: float, limit: int) -> list[model.Guild]:
        """Return guilds whose next fetch was due before *now*, most overdue first; those that are fed are postponed."""
        proven = await self._read_proofs()
        with database.translated():
            if proven.feeding:
                fed = {"session": {"$in": sorted(proven.feeding)}, "live": True}
                due = {"next_refresh_at": {"$gt": 0.0, "$lte": now}}
                await self._guilds.update_many(fed | due, {"$set": {"next_refresh_at": now + FED_STEP}})
            found = self._guilds.find({"next_refresh_at": {"$gt": 0.0, "$lte": now}}, HEAD)
            rows = await found.sort("next_refresh_at", pymongo.ASCENDING).limit(limit).to_list(None)
        return [guild_documents.guild_of(row, proven) for row in rows]

    async def acquire_lease(self, guild_id: int, *, now: float, until: float, fetched_before: float) -> int | None:
        """
        Acquire the exclusive lease to fetch a guild; None if it is held or the guild was fetched since.

        One round trip with the fencing token that was read last, three if it has changed since. findAndModify would
        make the embedded server read the whole collection: 13 ms of its CPU with 1,700 guilds instead of 2.
        """
        free = {
            "_id": guild_id,
            "lease_until": {"$not": {"$gt": now, "$lte": now + freshness.LONGEST_LEASE}},
            "fetched_at": {"$not": {"$gt": fetched_before}},
        }
        with database.translated():
            if guild_id in self._fences:
                fence = await self._take_fence(free, until, self._fences.pop(guild_id))
                if fence is not None:
                    return fence
            row = await self._guilds.find_one({"_id": guild_id}, {"fence": 1})
            return None if row is None else await self._take_fence(free, until, row.get("fence"))

    async def _take_fence(self, free: database.Document, until: float, before: int | None) -> int | None:
        fence = int(before or 0) + 1
        update = {"$set": {"lease_until": until, "fence": fence}}
        done = await self._guilds.update_one(free | {"fence": before}, update)
        return fence if done.matched_count else None

    async def store_channels(self, guild_id: int, listing: model.Listing) -> bool:
        """Store a complete listing and end the lease; returns False and changes nothing when the lease is lost."""
        return await self._writer.update(*self._listing_statement(guild_id, listing))

    def _listing_statement(self, guild_id: int, listing: model.Listing) -> tuple[database.Document, database.Document]:
        """Return filter and update of a listing; channels are written only if their structure changed."""
        before = listing.known.schedule.fingerprint if listing.known else ""
        wanted = {"_id": guild_id, "fence": listing.fence, "fingerprint": before or {"$in": ["", None]}}
        ordered = sorted(listing.channels, key=lambda row: (row.position, row.channel_id))
        change: database.Document = {
            **_fetched(listing),
            **scheduled(listing.schedule),
            "lease_until": 0.0,
        }
        if listing.known and before and before == listing.schedule.fingerprint:
            change["activity"] = guild_codec.encode_activity(ordered)
            # A new message has the highest id, so nothing visible changes while the newest message stays the same.
            shown = change["newest_message_id"] != listing.known.newest_message_id or listing.known.fetched_at is None
            shown = shown or listing.known.access is not model.Access.INSTALLED or listing.known.schedule.failures > 0
        else:
            oldest = listing.now - self._retention
            gone = [row for row in listing.gone if row.gone_at > oldest]
            channels, activity = guild_codec.encode(ordered, gone)
            change |= {"channels": channels, "activity": activity, "schema": SCHEMA}
            change["oldest_gone_at"] = min((row.gone_at for row in gone), default=0.0)
            shown = True
        update = {"$set": change} | ({"$inc": {"version": 1}} if shown else {})
        return wanted, update

    async def mark_refused(self, guild_id: int, *, fence: int, error: str, now: float, retry_at: float) -> None:
        """Record and count a lasting refusal and end the lease; the guild is not refreshed any more."""
        change = {"error": error, "retry_at": retry_at, "refused_at": now, "access": model.Access.DENIED.value}
        more = {"refusals": 1, "version": 1}
        await self._end_lease(guild_id, fence, {**change, "next_refresh_at": 0.0, "waiting": 0}, more)

    async def release_lease(self, guild_id: int, *, fence: int, schedule: model.Schedule | None = None) -> None:
        """End the lease without a result, and store a new schedule if given."""
        more = {"version": 1} if schedule and schedule.failures == 1 else None
        await self._end_lease(guild_id, fence, scheduled(schedule) if schedule else {}, more)

    async def purge(self, before: float) -> int:
        """Erase gone channels, and guilds without members that were not viewed since *before*; returns how many."""
        erased = await self._purge_gone(before)
        proven = await self._read_proofs()
        with database.translated():
            unseen: database.Document = {"looked_at": {"$not": {"$gte": before}}}
            if proven.feeding:
                unseen["$nor"] = [{"session": {"$in": sorted(proven.feeding)}, "live": True}]
            rows = await self._guilds.find(unseen, {"version": 1, "looked_at": 1}).to_list(None)
        for at in range(0, len(rows), MANY):
            erased += await self._erase_empty(rows[at : at + MANY])
        return erased

    async def _purge_gone(self, before: float) -> int:
        old = {"oldest_gone_at": {"$gt": 0.0, "$lt": before}}
        with database.translated():
            ids = [row["_id"] for row in await self._guilds.find(old, {"_id": 1}).to_list(None)]
        erased = 0
        for at in range(0, len(ids), FEW):
            with database.translated():
                found = self._guilds.find({"_id": {"$in": ids[at : at + FEW]}}, PURGED)
                parts = [_without_old(row, before) for row in await found.to_list(None)]
            changes = [change for change, _ in parts if change is not None]
            erased += sum(count for _, count in parts)
            if changes:
                with database.translated():
                    await self._guilds.bulk_write(changes, ordered=False)
        return erased

    async def _erase_empty(self, found: list[database.Document]) -> int:
        with database.translated():
            rows = await self._rosters.find(
                {"guild_ids": {"$in": [row["_id"] for row in found]}}, {"guild_ids": 1}
            ).to_list(None)
        some = {guild_id for row in rows for guild_id in row["guild_ids"]}
        return await database.delete_as_read(self._guilds, [row for row in found if row["_id"] not in some])

    async def _end_lease(
        self, guild_id: int, fence: int, change: database.Document, more: Mapping[str, int] | None = None
    ) -> bool:
        update = {"$set": {**change, "lease_until": 0.0}} | ({"$inc": dict(more)} if more else {})
        return await self._writer.update({"_id": guild_id, "fence": fence}, update)


def _unread(guild_id: int, listed: database.Document, viewed_at: float | None) -> database.Document:
    """Return the document of a new guild, with a view and a user who waits if it was viewed and has our bot."""
    first = database.first_version()
    row = {"_id": guild_id, **UNREAD, **listed, "version": first, "fence": first}
    if viewed_at is not None and listed["access"] != model.Access.NOT_INSTALLED.value:
        row |= {"looked_at": viewed_at, "waiting": 1}
    return row


def _by_count(guild_ids: Collection[int]) -> dict[int, list[int]]:
    """Return the guilds by how often they occur."""
    found: dict[int, list[int]] = {}
    for guild_id, count in collections.Counter(guild_ids).items():
        found.setdefault(count, []).append(guild_id)
    return found


def _without_old(row: database.Document, before: float) -> tuple[pymongo.UpdateOne | None, int]:
    """Return the update that erases what went before a moment, and how many channels it erases; None for no update."""
    try:
        packed = row.get("channels")
        channels, gone = guild_codec.decode(row["_id"], packed, row["activity"]) if packed else ((), ())
    except guild_codec.NewerFormat:
        return None, 0
    left = [one for one in gone if one.gone_at >= before]
    erased = len(gone) - len(left)
    fields: database.Document = {"oldest_gone_at": min((one.gone_at for one in left), default=0.0)}
    if row.get("access") == model.Access.NOT_INSTALLED.value:
        erased += len(channels) + len(left)
        fields = {"channels": b"", "activity": b"", "oldest_gone_at": 0.0, "fingerprint": ""}
    elif packed:
        fields["channels"], _ = guild_codec.encode(channels, left)
    # A change of the channels or of the access makes another version.
    return pymongo.UpdateOne({"_id": row["_id"], "version": row.get("version")}, {"$set": fields}), erased


def _listed(guild: model.UserGuild, old: database.Document | None, *, has_bot: bool | None) -> database.Document:
    """Return the fields that a user's guild list sets in a guild's document."""
    people = guild.presence_count if guild.presence_count is not None else guild.member_count
    known = (old or {}).get("people")
    if people and known and abs(people - known) < known * SIZE_STEP:
        people = known
    before = (old or {}).get("access", model.Access.UNKNOWN.value)
    access = model.Access.INSTALLED.value if has_bot else model.Access.NOT_INSTALLED.value
    if has_bot is None or (has_bot and before == model.Access.DENIED.value):
        access = before
    return {"name": guild.name, "icon": guild.icon, "people": people, "access": access}


def _fetched(listing: model.Listing) -> database.Document:
    """Return the fields that a complete listing sets in a guild's document."""
    return {
        **READABLE,
        "fetched_at": listing.now,
        "channel_count": len(listing.channels),
        "newest_message_id": listing.newest_message_id,
    }


def scheduled(schedule: model.Schedule) -> database.Document:
    """Return the fields that hold a schedule."""
    return {
        "next_refresh_at": schedule.next_at,
        "interval": schedule.interval,
        "changed_at": schedule.changed_at,
        "fingerprint": schedule.fingerprint,
        "failures": schedule.failures,
    }
