"""Everything that MongoDB holds of one user in both forms, for an erasure: rows stay until they are dropped."""

from collections.abc import Collection

from indexing.store import database, erasure, guilds, schema

UNREAD = {**guilds.UNREAD, "channel_count": 0, "newest_message_id": None}


class RowUserData(erasure.MongoUserData):
    """Port `ports.UserData`. Round trips: those of `erasure.MongoUserData`, and 1 for each collection of rows."""

    def __init__(self, db: database.Database, form: schema.Schema) -> None:
        super().__init__(db)
        self._memberships = db["memberships"]
        self._units = db["units"]
        self._channels = db["channels"]
        self._form = form

    async def count(self, user_id: int) -> dict[str, int]:
        """Count the documents that go with the user, by collection; guilds and channels that stay are left out."""
        counts = await super().count(user_id)
        guild_ids = await self.list_guilds(user_id)
        alone = sorted(set(guild_ids) - await self._shared(guild_ids, user_id))
        wanted = (
            (self._memberships, {"user_id": user_id}),
            (self._units, {"job_id": {"$in": await self.list_jobs(user_id)}}),
            (self._channels, {"guild_id": {"$in": alone}}),
        )
        with database.translated():
            return counts | {collection.name: await collection.count_documents(those) for collection, those in wanted}

    async def erase_jobs(self, job_ids: Collection[str]) -> None:
        """Erase jobs and their tasks: these first, because the jobs lead to them."""
        if job_ids:
            await _delete(self._units, {"job_id": {"$in": list(job_ids)}})
        await super().erase_jobs(job_ids)

    async def list_guilds(self, user_id: int) -> list[int]:
        """Return the guilds that the user is or was a member of."""
        listed = await super().list_guilds(user_id)
        with database.translated():
            rows = await self._memberships.find({"user_id": user_id}, {"guild_id": 1}).to_list(None)
        return sorted({*listed, *(row["guild_id"] for row in rows)})

    async def erase_guilds(self, guild_ids: Collection[int], *, but: int) -> None:
        """
        Erase those of the guilds, and their channels, that have no member who is known *but* this user.

        A user of the release before who lists one of them in between stores no guild that they found, so that it is
        stored again, unread.
        """
        alone = set(guild_ids) - await self._shared(guild_ids, but)
        found = {"$in": sorted(alone)}
        with database.translated():
            heads = await self._guilds.find({"_id": found}).to_list(None) if alone else []
        await super().erase_guilds(alone, but=but)
        if not alone:
            return
        await _delete(self._channels, {"guild_id": found})
        if back := await self._shared(alone, but):
            again = [{**head, **UNREAD, "fence": head.get("fence", 0) + 1} for head in heads if head["_id"] in back]
            await database.insert_new(self._guilds, again)
            with database.translated():
                await self._guilds.update_many(
                    {"_id": {"$in": sorted(back)}}, {"$set": {"fetched_at": None}, "$inc": {"version": 1}}
                )

    async def erase_roster(self, user_id: int) -> None:
        """Erase roster and memberships, last: they say which guilds there are to look at."""
        await super().erase_roster(user_id)
        await _delete(self._memberships, {"user_id": user_id})

    async def _shared(self, guild_ids: Collection[int], but: int) -> set[int]:
        state = await self._form.state()
        shared = set() if state is schema.State.ROWS else await super()._shared(guild_ids, but)
        if state is schema.State.DOCUMENTS:
            return shared
        others = {"guild_id": {"$in": list(guild_ids)}, "user_id": {"$ne": but}, "left_at": None}
        with database.translated():
            return shared | set(await self._memberships.distinct("guild_id", others))


async def _delete(collection: database.Collection, wanted: database.Document) -> None:
    with database.translated():
        await collection.delete_many(wanted)
