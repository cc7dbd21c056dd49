"""
Shards of the Gateway in MongoDB, one document each: lease, session, and up to when the session is stored.

Processes are in `feeders`, `{_id: owner, until}`, so that each knows its share of the shards.

`{_id: "3/16", owner, epoch, lease_until, session, url, seq, synced_at, past: [[session, synced_at], …], since, gaps}`

A guild's document names the session that feeds it. How fresh the guild is, is the session's `synced_at`, so one write
keeps all guilds of a shard fresh, and one write ends that. `past` keeps the moments of former sessions: a guild that
was proven until a moment ago is not as old as its last listing.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

import pymongo

from indexing.domain import feed_ports
from indexing.store import database

MOST_PAST = 20
"""Former sessions that a shard keeps."""
NOTICE = 1.0
"""Seconds for which a process relies on the proofs that it has read."""
CURRENT = {"session": 1, "synced_at": 1}
"""Projection of what changes all the time."""
FEEDS_FOR = 150.0
"""Seconds without a proof after which a session counts as silent: three heartbeats of 41 s and their answers."""


class MongoShards:
    """Port `feed_ports.Shards`. One round trip for each method, three for `sign_in`."""

    def __init__(self, db: database.Database) -> None:
        self._shards = db["shards"]
        self._feeders = db["feeders"]

    async def add(self, keys: Collection[str]) -> None:
        """Store shards that are missing."""
        with database.translated():
            known = {row["_id"] for row in await self._shards.find({}, {"_id": 1}).to_list(None)}
        fresh = {"owner": "", "epoch": 0, "lease_until": 0.0, "session": "", "url": "", "seq": 0, "past": []}
        await database.insert_new(self._shards, [{"_id": key, **fresh} for key in keys if key not in known])

    async def list(self) -> list[feed_ports.Shard]:
        """Return all shards."""
        with database.translated():
            return [_shard_of(row) for row in await self._shards.find({}, {"past": 0}).to_list(None)]

    async def acquire(self, key: str, owner: str, *, now: float, until: float) -> feed_ports.Shard | None:
        """Own a shard whose lease has ended; None when it has not."""
        with database.translated():
            row = await self._shards.find_one_and_update(
                {"_id": key, "lease_until": {"$lte": now}},
                {"$set": {"owner": owner, "lease_until": until, "since": now}, "$inc": {"epoch": 1}},
                return_document=pymongo.ReturnDocument.AFTER,
            )
        return _shard_of(row) if row else None

    async def begin_session(self, owned: feed_ports.Shard, began: feed_ports.Shard, cause: str) -> bool:
        """Store a session in place of the one before; returns False for a former owner."""
        change: database.Document = {
            "session": began.session,
            "url": began.url,
            "seq": began.seq,
            "synced_at": began.synced_at,
            "bot_id": began.bot_id,
        }
        update: database.Document = {"$set": change}
        if owned.session and owned.session != began.session:
            past = {"$each": [[owned.session, owned.synced_at]], "$slice": -MOST_PAST}
            update["$push"] = {"past": past}
            update["$inc"] = {f"gaps.{cause}": 1}
        return await self._update(owned, update)

    async def checkpoint(self, owned: feed_ports.Shard, *, seq: int, synced_at: float | None, until: float) -> bool:
        """Store how far the session is stored, and extend the lease; False for a former owner."""
        change: database.Document = {"seq": seq, "lease_until": until}
        if synced_at is not None:
            change["synced_at"] = synced_at
        return await self._update(owned, {"$set": change})

    async def extend(self, owned: feed_ports.Shard, until: float) -> bool:
        """Extend the lease; False for a former owner."""
        return await self._update(owned, {"$set": {"lease_until": until}})

    async def release(self, owned: feed_ports.Shard) -> None:
        """End the lease."""
        await self._update(owned, {"$set": {"lease_until": 0.0}})

    async def sign_in(self, owner: str, *, now: float, until: float) -> int:
        """Note that a process is there until then; returns how many are."""
        with database.translated():
            await self._feeders.update_one({"_id": owner}, {"$set": {"until": until}}, upsert=True)
            await self._feeders.delete_many({"until": {"$lte": now}})
            return int(await self._feeders.count_documents({}))

    async def sign_out(self, owner: str) -> None:
        """Note that a process is leaving."""
        with database.translated():
            await self._feeders.delete_one({"_id": owner})

    async def _update(self, owned: feed_ports.Shard, update: database.Document) -> bool:
        wanted = {"_id": owned.key, "epoch": owned.epoch, "owner": owned.owner}
        with database.translated():
            return bool((await self._shards.update_one(wanted, update)).matched_count)


class Proofs:
    """
    Until when each session is complete; one query, at most once in `NOTICE` seconds, of a few hundred rows.

    Former sessions, most of a shard's document, are read again only when a session has changed: they change with it.
    """

    def __init__(
        self,
        db: database.Database,
        clock: Callable[[], float],
        monotonic: Callable[[], float] = time.monotonic,
        notice: float = NOTICE,
    ) -> None:
        self._shards = db["shards"]
        self._clock = clock
        self._monotonic = monotonic
        self._notice = notice
        self._read_at = float("-inf")
        self._table = ProofTable({}, {})
        self._sessions: dict[str, str] = {}
        self._past: dict[str, float] = {}

    async def read(self) -> "ProofTable":
        """
        Return the proofs.

        They must be read before the guilds: what was stored up to a moment is in every document that is read later.
        """
        began = self._monotonic()
        if began - self._read_at >= self._notice:
            with database.translated():
                rows = await self._shards.find({}, CURRENT).to_list(None)
                if _sessions(rows) != self._sessions:
                    rows = await self._shards.find({}).to_list(None)
                    self._sessions, self._past = _sessions(rows), _past_proofs(rows)
            self._table, self._read_at = proof_table(rows, self._past, self._clock()), began
        return self._table


class ProofTable:
    """
    The proofs of one moment.

    Attributes:
        proven: By session, until when it is complete.
        feeding: By session that is followed now, its shard.
    """

    def __init__(self, proven: Mapping[str, float], feeding: Mapping[str, str]) -> None:
        self.proven = proven
        self.feeding = feeding

    def proven_at(self, row: Mapping[str, Any]) -> float | None:
        """Return until when a guild's document is known to be complete; None when no session feeds it."""
        return self.proven.get(row.get("session", "")) if row.get("live") else None

    def feeding_shard(self, row: Mapping[str, Any]) -> str:
        """Return the shard that feeds a guild now; empty for none."""
        return self.feeding.get(row.get("session", ""), "") if row.get("live") else ""


NO_PROOFS = ProofTable({}, {})


def _sessions(rows: Collection[Mapping[str, Any]]) -> dict[str, str]:
    return {row["_id"]: row.get("session", "") for row in rows}


def _past_proofs(rows: Collection[Mapping[str, Any]]) -> dict[str, float]:
    return {session: at for row in rows for session, at in row.get("past", ()) if at is not None}


def proof_table(rows: Collection[Mapping[str, Any]], past: Mapping[str, float], now: float) -> ProofTable:
    """Return the proofs of the shards' documents, and of former sessions."""
    proven = dict(past)
    feeding: dict[str, str] = {}
    for row in rows:
        if row.get("session") and row.get("synced_at") is not None:
            proven[row["session"]] = row["synced_at"]
            if now - row["synced_at"] < FEEDS_FOR:
                feeding[row["session"]] = row["_id"]
    return ProofTable(proven, feeding)


@dataclasses.dataclass(frozen=True, slots=True)
class FeedStats:
    """
    The state of the feed.

    Attributes:
        oldest_proof: Age of the oldest proof in seconds; infinite for a shard without a session.
        fed: Guilds that are fed now; `known` is the number of all guilds of the shards.
    """

    shards: int
    unowned: int
    oldest_proof: float
    fed: int
    known: int


async def read_feed_stats(db: database.Database, now: float) -> FeedStats:
    """Return the state of the feed; zeros when it was never used."""
    with database.translated():
        rows = await db["shards"].find({}).to_list(None)
    if not rows:
        return FeedStats(0, 0, 0.0, 0, 0)
    ages = [now - row["synced_at"] if row.get("synced_at") is not None else math.inf for row in rows]
    theirs = {"shard": {"$gt": ""}}
    feeding = sorted(proof_table(rows, {}, now).feeding)
    with database.translated():
        known = await db["guilds"].count_documents({**theirs, "access": "INSTALLED"})
        fed = await db["guilds"].count_documents({**theirs, "live": True, "session": {"$in": feeding}})
    return FeedStats(len(rows), sum(row["lease_until"] <= now for row in rows), max(ages), fed, known)


def _shard_of(row: database.Document) -> feed_ports.Shard:
    return feed_ports.Shard(
        key=row["_id"],
        owner=row.get("owner", ""),
        epoch=row.get("epoch", 0),
        lease_until=row.get("lease_until", 0.0),
        session=row.get("session", ""),
        url=row.get("url", ""),
        seq=row.get("seq", 0),
        synced_at=row.get("synced_at"),
        bot_id=row.get("bot_id", 0),
    )
