"""
Everything that MongoDB holds of one user, for an erasure.

Nothing is looked for by reading whole collections: each has an index that leads to the user.
"""

import contextlib
import datetime
from collections.abc import Collection

import pymongo
import pymongo.errors

from indexing import errors
from indexing.store import database, tombstones

MOST_TRIES = 20
"""Attempts to erase a user's document, each of which lost a race against another write of it."""


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
            (self._rosters, {"_id": user_id, "guild_ids": {"$ne": None}}),
            (self._jobs, {"user_id": user_id}),
            (self._requests, {"user_id": user_id}),
            (self._guilds, {"_id": alone, **NOT_FED}),
        )
        with database.translated():
            row = await self._users.find_one({"_id": user_id}, tombstones.FIELDS)
            counts = {collection.name: await collection.count_documents(those) for collection, those in wanted}
        return {self._users.name: int(row is not None and not tombstones.is_tombstone(row)), **counts}

    async def erase_user(self, user_id: int) -> None:
        """
        Erase the document with credential, preferences and rights: from now on nothing of this user begins.

        A tombstone replaces it. A copy of the write that is delivered late erases no user who has returned.
        """
        for _ in range(MOST_TRIES):
            with database.translated():
                row = await self._users.find_one({"_id": user_id}, tombstones.FIELDS)
            left = tombstones.of_user(row)
            try:
                with database.translated():
                    if row is None:
                        await self._users.insert_one({"_id": user_id, **left})
                        return
                    wanted = {"_id": user_id, "version": row.get("version")}
                    if (await self._users.replace_one(wanted, left)).matched_count:
                        return
            except pymongo.errors.DuplicateKeyError:
                continue
        raise errors.StoreUnavailable("the user's data changes too fast to be erased; try again")

    async def purge(self) -> int:
        """Delete the tombstones of users who were erased more than a day ago; returns how many documents."""
        before = datetime.datetime.now(tz=datetime.UTC) - tombstones.KEPT
        with database.translated():
            old = {"erased_at": {"$lt": before}, "erased": {"$gt": 0}}
            rows = await self._users.find(old, tombstones.FIELDS).to_list(None)
        left = [row for row in rows if tombstones.is_tombstone(row)]
        if not left:
            return 0
        rosters = [pymongo.DeleteOne({"_id": row["_id"], "erased": row["erased"], "guild_ids": None}) for row in left]
        users = [pymongo.DeleteOne({"_id": row["_id"], "version": row["version"]}) for row in left]
        with database.translated():
            done = await self._rosters.bulk_write(rosters, ordered=False)
            deleted = int(done.deleted_count)
            return deleted + int((await self._users.bulk_write(users, ordered=False)).deleted_count)

    async def list_jobs(self, user_id: int) -> list[str]:
        """Return the ids of the user's jobs."""
        with database.translated():
            rows = await self._jobs.find({"user_id": user_id}, {"_id": 1}).to_list(None)
        return [row["_id"] for row in rows]

    async def erase_jobs(self, job_ids: Collection[str]) -> None:
        """Erase jobs with their tasks. A tombstone for each is written first."""
        if job_ids:
            until = datetime.datetime.now(tz=datetime.UTC) + tombstones.KEPT
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
        return [*row.get("guild_ids", ()), *row.get("former", ())] if row else []

    async def erase_guilds(self, guild_ids: Collection[int], *, but: int) -> None:
        """
        Erase those of the guilds that have no member who is known *but* this user.

        A guild without its document has no lease, so a fetch under way stores nothing. A user who lists one of them in
        between has their roster written before, and stores the guild again when it is missing (usecases/guild_lists).
        """
        wanted = {"_id": {"$in": list(guild_ids)}, **NOT_FED}
        with database.translated():
            found = await self._guilds.find(wanted, {"version": 1, "looked_at": 1}).to_list(None)
        shared = await self._shared(guild_ids, but)
        await database.delete_as_read(self._guilds, [row for row in found if row["_id"] not in shared])

    async def erase_roster(self, user_id: int) -> None:
        """
        Erase the roster, last: it says which guilds there are to look at.

        What is left names the erasure, so that no list from before it recreates the roster.
        """
        with database.translated():
            row = await self._users.find_one({"_id": user_id}, tombstones.FIELDS)
        erased = (row or {}).get("erased")
        if erased is None:
            with database.translated():
                found = await self._rosters.find({"_id": user_id}, {"mark": 1}).to_list(None)
            await database.delete_as_read(self._rosters, found)
            return
        change = {"$set": {"erased": erased}, "$unset": dict.fromkeys(("guild_ids", "former", "mark"), "")}
        with contextlib.suppress(pymongo.errors.DuplicateKeyError), database.translated():
            await self._rosters.update_one({"_id": user_id, "erased": {"$ne": erased}}, change, upsert=True)

    async def _shared(self, guild_ids: Collection[int], but: int) -> set[int]:
        wanted = set(guild_ids)
        others = {"guild_ids": {"$in": list(wanted)}, "_id": {"$ne": but}}
        with database.translated():
            rows = await self._rosters.find(others, {"guild_ids": 1}).to_list(None)
        return {guild_id for row in rows for guild_id in row["guild_ids"]} & wanted


async def _erase(collection: database.Collection, wanted: database.Document) -> None:
    with database.translated():
        await collection.delete_many(wanted)
