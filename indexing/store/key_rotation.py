"""
Seals every stored credential anew with the first key of the ring, in place, while service and workers run.

Rows are read in order of their ids, some at a time. Each is written only over the very bytes that were read, so a pair
that somebody renewed in between stays as he stored it. What is sealed by the first key already is left alone: whoever
is stopped half-way starts again and finds only what is left. A round in which nothing was to be done ends it.
"""

import dataclasses
from collections.abc import Callable

import pymongo

from indexing.store import credentials, database

BATCH = 200
"""Rows that are read and written at once: some 100 KB."""
ROUNDS = 10
"""Most rounds; each further one is only for what was stored with an older key during the one before."""


@dataclasses.dataclass(slots=True)
class Tally:
    """
    What came of the rows of some batches.

    Attributes:
        seen: Credentials looked at.
        resealed: Of these, sealed anew.
        missed: Changed by somebody else between our reading and writing.
        unreadable: Opened by no key of the ring.
    """

    seen: int = 0
    resealed: int = 0
    missed: int = 0
    unreadable: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """Rows read, in order: users and their sealed pairs."""

    rows: tuple[tuple[int, bytes], ...]


class Rotation:
    """Seals anew. Two round trips for each batch."""

    def __init__(self, database: database.Database, safe: credentials.Vault, *, batch: int = BATCH) -> None:
        self._users = database["users"]
        self._safe = safe
        self._batch = batch

    async def count(self) -> int:
        """Return about how many users there are, by the collection's own count."""
        with database.translated():
            return int(await self._users.estimated_document_count())

    async def run(self, progress: Callable[[Tally], None]) -> Tally:
        """
        Go round until nothing is left to do; returns what was done in all, and what the last round saw.

        Args:
            progress: Told after each batch what the round has done so far.

        Raises:
            errors.StoreUnavailable: Starting again goes on with what is left.
        """
        resealed = 0
        for _ in range(ROUNDS):
            tally = await self._round(progress)
            resealed += tally.resealed
            if not tally.resealed and not tally.missed:
                break
        return dataclasses.replace(tally, resealed=resealed)

    async def _round(self, progress: Callable[[Tally], None]) -> Tally:
        tally, after = Tally(), -1
        while batch := await self.read(after):
            await self.write(batch, tally)
            after = batch.rows[-1][0]
            progress(tally)
        return tally

    async def read(self, after: int) -> Batch | None:
        """Return the next credentials after a user; None when there are no more."""
        wanted = {"_id": {"$gt": after}, "credential": {"$ne": None}}
        with database.translated():
            found = self._users.find(wanted, {"credential": 1}).sort("_id", pymongo.ASCENDING).limit(self._batch)
            rows = await found.to_list(None)
        return Batch(tuple((row["_id"], row["credential"]) for row in rows)) if rows else None

    async def write(self, batch: Batch, tally: Tally) -> None:
        """Seal anew what is not sealed by the first key, and count it."""
        changes = []
        for user_id, sealed in batch.rows:
            tally.seen += 1
            if self._safe.is_newest(sealed):
                continue
            try:
                again = self._safe.seal(user_id, self._safe.open(user_id, sealed))
            except credentials.CannotOpen:
                tally.unreadable += 1
                continue
            changes.append(pymongo.UpdateOne({"_id": user_id, "credential": sealed}, {"$set": {"credential": again}}))
        if changes:
            with database.translated():
                done = await self._users.bulk_write(changes, ordered=False)
            tally.resealed += done.matched_count
            tally.missed += len(changes) - done.matched_count
