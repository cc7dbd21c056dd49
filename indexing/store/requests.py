"""Answers to requests that may be repeated, by request id, for 24 hours."""

import dataclasses
import datetime

import pymongo.errors

from indexing import ports
from indexing.store import mongo

KEPT = datetime.timedelta(hours=24)


class Requests:
    """Port `ports.Requests`. One round trip for each method."""

    def __init__(self, database: mongo.Database) -> None:
        self._requests = database["requests"]

    async def find(self, key: str) -> ports.Answered | None:
        """Return what was answered under this key."""
        with mongo.translated():
            row = await self._requests.find_one({"_id": key})
        return ports.Answered(bytes(row["fingerprint"]), bytes(row["response"])) if row else None

    async def store(self, key: str, answered: ports.Answered, now: float) -> None:
        """Keep an answer; of two at once the first stays."""
        expires_at = datetime.datetime.fromtimestamp(now, tz=datetime.UTC) + KEPT
        row = {"_id": key, **dataclasses.asdict(answered), "expires_at": expires_at}
        try:
            with mongo.translated():
                await self._requests.insert_one(row)
        except pymongo.errors.DuplicateKeyError:
            return
