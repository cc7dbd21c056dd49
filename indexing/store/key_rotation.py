"""
Reseals every stored credential with the first key of the ring, in place, while service and workers run.

Documents are read in batches, in order of their ids. Each write is conditional on the bytes that were read, so a pair
that was renewed meanwhile is kept. Credentials sealed with the first key are skipped, so a rotation that is interrupted
can be run again and only processes the rest. It ends with a round that changes nothing.
"""

import dataclasses
from collections.abc import Callable

import pymongo

from indexing.store import credentials, database

BATCH = 200
"""Documents that are read and written at once: some 100 KB."""
FIELDS = ("credential", f"{credentials.UNPROVEN}.credential")
"""The sealed pairs of a user's document: the one in use, and a newer one that is not proven yet."""
ROUNDS = 10
"""Most rounds; each further round reseals what was stored with an older key during the previous one."""


@dataclasses.dataclass(slots=True)
class Tally:
    """
    Counts of processed credentials.

    Attributes:
        seen: Credentials read.
        resealed: Credentials resealed.
        missed: Credentials changed by another process between read and write.
        unreadable: Credentials that no key of the ring opens.
    """

    seen: int = 0
    resealed: int = 0
    missed: int = 0
    unreadable: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """User ids, the fields of their sealed pairs, and the pairs; in order of the ids."""

    rows: tuple[tuple[int, str, bytes], ...]


class Rotation:
    """Reseals credentials. Two round trips for each batch."""

    def __init__(self, database: database.Database, safe: credentials.Vault, *, batch: int = BATCH) -> None:
        self._users = database["users"]
        self._safe = safe
        self._batch = batch

    async def count(self) -> int:
        """Return the estimated number of users."""
        with database.translated():
            return int(await self._users.estimated_document_count())

    async def run(self, progress: Callable[[Tally], None]) -> Tally:
        """
        Run rounds until one changes nothing; returns the counts of the last round, with `resealed` of all rounds.

        Args:
            progress: Called after each batch with the counts of the round.

        Raises:
            errors.StoreUnavailable: Run again to process the rest.
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
        wanted = {"_id": {"$gt": after}, "$or": [{field: {"$ne": None}} for field in FIELDS]}
        with database.translated():
            found = self._users.find(wanted, FIELDS).sort("_id", pymongo.ASCENDING).limit(self._batch)
            rows = await found.to_list(None)
        pairs = ((row["_id"], field, _sealed(row, field)) for row in rows for field in FIELDS)
        return Batch(tuple((user_id, field, sealed) for user_id, field, sealed in pairs if sealed)) if rows else None

    async def write(self, batch: Batch, tally: Tally) -> None:
        """Reseal what is not sealed with the first key, and count it."""
        changes = []
        for user_id, field, sealed in batch.rows:
            tally.seen += 1
            if self._safe.is_newest(sealed):
                continue
            try:
                again = self._safe.seal(user_id, self._safe.open(user_id, sealed))
            except credentials.CannotOpen:
                tally.unreadable += 1
                continue
            changes.append(pymongo.UpdateOne({"_id": user_id, field: sealed}, {"$set": {field: again}}))
        if changes:
            with database.translated():
                done = await self._users.bulk_write(changes, ordered=False)
            tally.resealed += done.matched_count
            tally.missed += len(changes) - done.matched_count


def _sealed(row: database.Document, field: str) -> bytes | None:
    slot, _, name = field.rpartition(".")
    inner = row.get(slot) or {} if slot else row
    sealed: bytes | None = inner.get(name)
    return sealed
