"""
All that MongoDB holds of one user, for those who erase it.

Nothing is looked for by reading whole collections: each has an index that leads to the user, or to his jobs.
"""

from collections.abc import Collection

from indexing.store import database, guilds

NOTHING_READ = {**guilds.UNREAD, "channel_count": 0, "newest_message_id": None}


class MongoUserData:
    """Port `ports.Remains`. Round trips: 1 for each method; 2 for `erase_jobs`, 5 for `erase_guilds`, 10 to count."""

    def __init__(self, database: database.Database) -> None:
        self._users = database["users"]
        self._memberships = database["memberships"]
        self._jobs = database["jobs"]
        self._units = database["units"]
        self._requests = database["requests"]
        self._guilds = database["guilds"]
        self._channels = database["channels"]

    async def count(self, user_id: int) -> dict[str, int]:
        """Count the documents that go with the user, by collection; guilds and channels that stay are left out."""
        guild_ids = await self.list_guilds(user_id)
        alone = {"$in": sorted(set(guild_ids) - await self._shared(guild_ids, user_id))}
        wanted = (
            (self._users, {"_id": user_id}),
            (self._memberships, {"user_id": user_id}),
            (self._jobs, {"user_id": user_id}),
            (self._units, {"job_id": {"$in": await self.list_jobs(user_id)}}),
            (self._requests, {"user_id": user_id}),
            (self._guilds, {"_id": alone}),
            (self._channels, {"guild_id": alone}),
        )
        with database.translated():
            return {collection.name: await collection.count_documents(those) for collection, those in wanted}

    async def erase_user(self, user_id: int) -> None:
        """Erase the row with credential and preferences: from now on nothing of this user begins."""
        await _erase(self._users, {"_id": user_id})

    async def list_jobs(self, user_id: int) -> list[str]:
        """Return the ids of the user's jobs."""
        with database.translated():
            rows = await self._jobs.find({"user_id": user_id}, {"_id": 1}).to_list(None)
        return [row["_id"] for row in rows]

    async def erase_jobs(self, job_ids: Collection[str]) -> None:
        """Erase jobs and their units: these first, so that who is stopped half-way still finds the jobs."""
        if job_ids:
            await _erase(self._units, {"job_id": {"$in": list(job_ids)}})
            await _erase(self._jobs, {"_id": {"$in": list(job_ids)}})

    async def erase_responses(self, user_id: int) -> None:
        """Erase the answers that are kept for requests about the user."""
        await _erase(self._requests, {"user_id": user_id})

    async def list_guilds(self, user_id: int) -> list[int]:
        """Return the guilds that the user is or was a member of."""
        with database.translated():
            rows = await self._memberships.find({"user_id": user_id}, {"guild_id": 1}).to_list(None)
        return [row["guild_id"] for row in rows]

    async def erase_guilds(self, guild_ids: Collection[int], *, but: int) -> None:
        """
        Erase those of the guilds, and their channels, that have no member who is known *but* this user.

        The guilds first: without its row nobody holds a guild's lease, so that a reading under way stores nothing.
        """
        alone = set(guild_ids) - await self._shared(guild_ids, but)
        if not alone:
            return
        found = {"$in": sorted(alone)}
        with database.translated():
            rows = await self._guilds.find({"_id": found}).to_list(None)
        await _erase(self._guilds, {"_id": found})
        await _erase(self._channels, {"guild_id": found})
        if back := await self._shared(alone, but):
            await self._bring_back([row for row in rows if row["_id"] in back], back)

    async def _bring_back(self, rows: list[database.Document], guild_ids: set[int]) -> None:
        """Store guilds again, unread: who listed them in between found their rows and wrote none."""
        again = [{**row, **NOTHING_READ, "fence": row.get("fence", 0) + 1} for row in rows]
        await database.insert_new(self._guilds, again)
        with database.translated():
            await self._guilds.update_many({"_id": {"$in": sorted(guild_ids)}}, {"$set": {"fetched_at": None}})

    async def erase_memberships(self, user_id: int) -> None:
        """Erase the memberships, last: they say which guilds there are to look at."""
        await _erase(self._memberships, {"user_id": user_id})

    async def _shared(self, guild_ids: Collection[int], but: int) -> set[int]:
        others = {"guild_id": {"$in": list(guild_ids)}, "user_id": {"$ne": but}, "left_at": None}
        with database.translated():
            return set(await self._memberships.distinct("guild_id", others))


async def _erase(collection: database.Collection, wanted: database.Document) -> None:
    with database.translated():
        await collection.delete_many(wanted)
