"""
All that MongoDB holds of one user, for those who erase it.

Nothing is looked for by reading whole collections: each has an index that leads to the user, or to his jobs.
"""

from collections.abc import Collection

from indexing.store import guilds, mongo

NOTHING_READ = {**guilds.UNREAD, "channel_count": 0, "newest_message_id": None}


class Remains:
    """Port `ports.Remains`. Round trips: one for each method, three for `erase_jobs`, five for `erase_guilds`."""

    def __init__(self, database: mongo.Database) -> None:
        self._users = database["users"]
        self._memberships = database["memberships"]
        self._jobs = database["jobs"]
        self._units = database["units"]
        self._requests = database["requests"]
        self._guilds = database["guilds"]
        self._channels = database["channels"]

    async def erase_user(self, user_id: int) -> int:
        """Erase the row with credential and preferences: from now on nothing of this user begins."""
        return await _erased(self._users, {"_id": user_id})

    async def jobs(self, user_id: int) -> list[str]:
        """Return the ids of the user's jobs."""
        with mongo.translated():
            rows = await self._jobs.find({"user_id": user_id}, {"_id": 1}).to_list(None)
        return [row["_id"] for row in rows]

    async def erase_jobs(self, job_ids: Collection[str]) -> dict[str, int]:
        """Erase jobs and their units: these first, so that who is stopped half-way still finds the jobs."""
        units = {"job_id": {"$in": list(job_ids)}}
        if not job_ids:
            return {}
        before = await _erased(self._units, units)
        jobs = await _erased(self._jobs, {"_id": {"$in": list(job_ids)}})
        # Once more, for those that came in between.
        return {"jobs": jobs, "units": before + await _erased(self._units, units)}

    async def erase_answers(self, user_id: int) -> int:
        """Erase the answers that are kept for requests about the user."""
        return await _erased(self._requests, {"user_id": user_id})

    async def guilds(self, user_id: int) -> list[int]:
        """Return the guilds that the user is or was a member of."""
        with mongo.translated():
            rows = await self._memberships.find({"user_id": user_id}, {"guild_id": 1}).to_list(None)
        return [row["guild_id"] for row in rows]

    async def erase_guilds(self, guild_ids: Collection[int], *, but: int) -> dict[str, int]:
        """
        Erase those of the guilds, and their channels, that have no member who is known *but* this user.

        The guilds first: without its row nobody holds a guild's lease, so that a reading under way stores nothing.
        """
        alone = set(guild_ids) - await self._shared(guild_ids, but)
        if not alone:
            return {}
        found = {"$in": sorted(alone)}
        with mongo.translated():
            rows = await self._guilds.find({"_id": found}).to_list(None)
        erased = await _erased(self._guilds, {"_id": found})
        channels = await _erased(self._channels, {"guild_id": found})
        back = await self._shared(alone, but)
        # Who listed a guild in between found its row and wrote none: he must not be left without it.
        again = [{**row, **NOTHING_READ, "fence": row.get("fence", 0) + 1} for row in rows if row["_id"] in back]
        if back:
            await mongo.insert_new(self._guilds, again)
            with mongo.translated():
                await self._guilds.update_many({"_id": {"$in": sorted(back)}}, {"$set": {"fetched_at": None}})
        return {"guilds": erased - len(again), "channels": channels}

    async def erase_memberships(self, user_id: int) -> int:
        """Erase the memberships, last: they say which guilds there are to look at."""
        return await _erased(self._memberships, {"user_id": user_id})

    async def _shared(self, guild_ids: Collection[int], but: int) -> set[int]:
        others = {"guild_id": {"$in": list(guild_ids)}, "user_id": {"$ne": but}, "left_at": None}
        with mongo.translated():
            return set(await self._memberships.distinct("guild_id", others))


async def _erased(collection: mongo.Collection, wanted: mongo.Document) -> int:
    with mongo.translated():
        done = await collection.delete_many(wanted)
    return int(done.deleted_count)
