"""
Everything that MongoDB holds of one user, for an erasure.

Nothing is looked for by reading whole collections: each has an index that leads to the user.
"""

import datetime
from collections.abc import Collection

from indexing.store import database

TOMBSTONE_KEPT = datetime.timedelta(days=1)
"""How long a tombstone is kept: far longer than a turn may be queued, or a write delayed."""


NOT_FED = {"live": {"$ne": True}}
"""A guild that the Gateway feeds stays: it is stored because our bot is in it, not because of a user."""


class MongoUserData:
    """Port `ports.UserData`. Round trips: 1 for each method; 2 for `erase_jobs`, 3 for `erase_guilds`, 6 to count."""

    def __init__(self, db: database.Database) -> None:
        self._users = db["users"]
        self._rosters = db["rosters"]
        self._jobs = db["jobs"]
        self._erased = db["erased_jobs"]
        self._requests = db["requests"]
        self._guilds = db["guilds"]

    async def count(self, user_id: int) -> dict[str, int]:
        """Count the documents that go with the user, by collection; guilds that stay are left out."""
        guild_ids = await self.list_guilds(user_id)
        alone = {"$in": sorted(set(guild_ids) - await self._shared(guild_ids, user_id))}
        wanted = (
            (self._users, {"_id": user_id}),
            (self._rosters, {"_id": user_id}),
            (self._jobs, {"user_id": user_id}),
            (self._requests, {"user_id": user_id}),
            (self._guilds, {"_id": alone, **NOT_FED}),
        )
        with database.translated():
            return {collection.name: await collection.count_documents(those) for collection, those in wanted}

    async def erase_user(self, user_id: int) -> None:
        """Erase the document with credential, preferences and rights: from now on nothing of this user begins."""
        await _erase(self._users, {"_id": user_id})

    async def list_jobs(self, user_id: int) -> list[str]:
        """Return the ids of the user's jobs."""
        with database.translated():
            rows = await self._jobs.find({"user_id": user_id}, {"_id": 1}).to_list(None)
        return [row["_id"] for row in rows]

    async def erase_jobs(self, job_ids: Collection[str]) -> None:
        """Erase jobs with their tasks. A tombstone for each is written first."""
        if job_ids:
            until = datetime.datetime.now(tz=datetime.UTC) + TOMBSTONE_KEPT
            await database.insert_new(self._erased, [{"_id": job_id, "expires_at": until} for job_id in job_ids])
            await _erase(self._jobs, {"_id": {"$in": list(job_ids)}})

    async def is_job_erased(self, job_id: str) -> bool:
        """Return whether the job has a tombstone."""
        with database.translated():
            return await self._erased.find_one({"_id": job_id}, {"_id": 1}) is not None

    async def erase_responses(self, user_id: int) -> None:
        """Erase the responses that are kept for requests about the user."""
        await _erase(self._requests, {"user_id": user_id})

    async def list_guilds(self, user_id: int) -> list[int]:
        """Return the guilds that the user is or was a member of."""
        with database.translated():
            row = await self._rosters.find_one({"_id": user_id}, {"guild_ids": 1, "former": 1})
        return [*row["guild_ids"], *row.get("former", ())] if row else []

    async def erase_guilds(self, guild_ids: Collection[int], *, but: int) -> None:
        """
        Erase those of the guilds that have no member who is known *but* this user.

        A guild without its document has no lease, so a fetch under way stores nothing. A user who lists one of them in
        between has their roster written before, and stores the guild again when it is missing (usecases/guild_lists).
        """
        alone = set(guild_ids) - await self._shared(guild_ids, but)
        if alone:
            await _erase(self._guilds, {"_id": {"$in": sorted(alone)}, **NOT_FED})

    async def erase_roster(self, user_id: int) -> None:
        """Erase the roster, last: it says which guilds there are to look at."""
        await _erase(self._rosters, {"_id": user_id})

    async def _shared(self, guild_ids: Collection[int], but: int) -> set[int]:
        wanted = set(guild_ids)
        others = {"guild_ids": {"$in": list(wanted)}, "_id": {"$ne": but}}
        with database.translated():
            rows = await self._rosters.find(others, {"guild_ids": 1}).to_list(None)
        return {guild_id for row in rows for guild_id in row["guild_ids"]} & wanted


async def _erase(collection: database.Collection, wanted: database.Document) -> None:
    with database.translated():
        await collection.delete_many(wanted)
