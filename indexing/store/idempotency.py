"""Responses to requests that may be repeated, by request id, kept for 24 hours."""

import dataclasses
import datetime
from collections.abc import Sequence

import pymongo.errors

from indexing.domain import ports
from indexing.store import database, tombstones

KEPT = datetime.timedelta(hours=24)


class MongoIdempotencyStore:
    """Port `ports.IdempotencyStore`. One round trip for each method, two to store a response about a user."""

    def __init__(self, database: database.Database) -> None:
        self._requests = database["requests"]
        self._users = database["users"]

    async def find(self, keys: Sequence[str]) -> ports.StoredResponse | None:
        """Return the response stored under the first of these keys that has one."""
        with database.translated():
            rows = await self._requests.find({"_id": {"$in": list(keys)}}).to_list(None)
        row = min(rows, key=lambda found: keys.index(found["_id"]), default=None)
        return (
            ports.StoredResponse(bytes(row["fingerprint"]), bytes(row["response"]), row.get("user_id")) if row else None
        )

    async def store(self, key: str, answered: ports.StoredResponse, now: float) -> None:
        """Store a response; the first of two wins, and one that concerns an unknown user is not stored."""
        expires_at = datetime.datetime.fromtimestamp(now, tz=datetime.UTC) + KEPT
        row = {"_id": key, **dataclasses.asdict(answered), "expires_at": expires_at}
        with database.translated():
            try:
                await self._requests.insert_one(row)
            except pymongo.errors.DuplicateKeyError:
                return
            if answered.user_id is None:
                return
            user = await self._users.find_one({"_id": answered.user_id}, tombstones.FIELDS)
            if user is None or tombstones.is_tombstone(user):
                # The user was erased meanwhile. Checked after the insert, so that one of the two always sees the other.
                await self._requests.delete_one({"_id": key})
