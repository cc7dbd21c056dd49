"""Answers to requests that may be repeated, by request id, for 24 hours."""

import dataclasses
import datetime

import pymongo.errors

from indexing.domain import ports
from indexing.store import database

KEPT = datetime.timedelta(hours=24)


class MongoIdempotencyStore:
    """Port `ports.Requests`. One round trip for each method, two to store an answer about a user."""

    def __init__(self, database: database.Database) -> None:
        self._requests = database["requests"]
        self._users = database["users"]

    async def find(self, key: str) -> ports.StoredResponse | None:
        """Return what was answered under this key."""
        with database.translated():
            row = await self._requests.find_one({"_id": key})
        return (
            ports.StoredResponse(bytes(row["fingerprint"]), bytes(row["response"]), row.get("user_id")) if row else None
        )

    async def store(self, key: str, answered: ports.StoredResponse, now: float) -> None:
        """Keep an answer; of two at once the first stays, and one about a user of whom nothing is known is not kept."""
        expires_at = datetime.datetime.fromtimestamp(now, tz=datetime.UTC) + KEPT
        row = {"_id": key, **dataclasses.asdict(answered), "expires_at": expires_at}
        with database.translated():
            try:
                await self._requests.insert_one(row)
            except pymongo.errors.DuplicateKeyError:
                return
            about = {"_id": answered.user_id}
            if answered.user_id is not None and not await self._users.find_one(about, {"_id": 1}):
                # He was erased while he was answered; looked at afterwards, so that it is seen whoever was first.
                await self._requests.delete_one({"_id": key})
