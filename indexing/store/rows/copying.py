"""
Copies rows into documents while readers and workers run.

A copy is guarded by what every other writer of the same document changes, and repeated when it missed: a guild's by
fencing token and fetch moment, a user's by version and list moment, a job's by the mark of its last write. Of a guild
task the greater revision counts. So a document that is as its rows are is left alone, and a newer one is never undone.
"""

import abc
from collections.abc import Collection
from typing import Any

import pymongo

from indexing import errors
from indexing.domain import freshness, id_sets, model
from indexing.store import database, guild_codec, guilds, jobs, tombstones, users
from indexing.store.rows import channels, memberships, units

TRIES = 10
"""Attempts for one batch: each repeats only what another process changed within the milliseconds of a copy."""
_RUNNING = {"state": model.JobState.RUNNING.value}


class OldRelease(Exception):
    """A process of the release before still writes."""


class Walk(abc.ABC):
    """
    What is done to all documents of a collection, batch by batch.

    Attributes:
        name: The collection.
        batch: Documents that are worked on at once.
    """

    name: str
    batch: int

    def __init__(self, db: database.Database) -> None:
        self._walked = db[self.name]

    async def count(self) -> int:
        """Return about how many documents there are, by the collection's own count."""
        with database.translated():
            return int(await self._walked.estimated_document_count())

    async def next_ids(self, after: Any) -> list[Any]:  # noqa: ANN401 -- an integer, or a job's id
        """Return the next ids after one; after None the first."""
        wanted = {} if after is None else {"_id": {"$gt": after}}
        with database.translated():
            found = self._walked.find(wanted, {"_id": 1}).sort("_id", pymongo.ASCENDING).limit(self.batch)
            return [row["_id"] for row in await found.to_list(None)]

    @abc.abstractmethod
    async def copy(self, ids: Collection[Any]) -> int:
        """Copy what differs; returns how many documents were written. Raises errors.StoreUnavailable: call again."""


class Copier(Walk):
    """Copies the rows of one kind of aggregate."""

    async def copy(self, ids: Collection[Any]) -> int:
        """Copy what differs, until nothing does; returns how many documents were written."""
        copied = 0
        ids = set(ids)
        for _ in range(TRIES):
            changes = await self._changes(ids)
            if not changes:
                return copied
            with database.translated():
                done = await self._walked.bulk_write(list(changes.values()), ordered=False)
            copied += done.matched_count
            ids = set(changes)
        raise errors.StoreUnavailable(f"{len(ids)} {self.name} change faster than they can be copied")

    @abc.abstractmethod
    async def _changes(self, ids: Collection[Any]) -> dict[Any, Any]:
        """Return the update of each document that differs from its rows, by id."""


def _between(ids: Collection[Any]) -> database.Document:
    """Return the condition of a batch, which is a part of a walk: a range is one scan of an index."""
    return {"$gte": min(ids), "$lte": max(ids)}


class GuildCopier(Copier):
    """
    Copies channels.

    Attributes:
        old_since: Raise `OldRelease` for what the release before has fetched since; None to copy it.
    """

    name = "guilds"
    batch = 100
    old_since: float | None = None

    def __init__(self, db: database.Database) -> None:
        super().__init__(db)
        self._channels = db["channels"]

    async def _changes(self, ids: Collection[int]) -> dict[int, Any]:
        fields = {"fence": 1, "fetched_at": 1, "fingerprint": 1, "migrated_fence": 1, "migrated_at": 1}
        with database.translated():
            heads = await self._walked.find({"_id": _between(ids)}, fields).to_list(None)
        wanted = [head for head in heads if head["_id"] in ids and not _is_copied(head)]
        if not wanted:
            return {}
        self._refuse_old_release(wanted)
        rows = await channels.read_rows(self._channels, _between([head["_id"] for head in wanted]))
        return {head["_id"]: _guild_update(head, rows.get(head["_id"], [])) for head in wanted}

    def _refuse_old_release(self, heads: list[database.Document]) -> None:
        """A listing of this release says in the same write that it is in the document; one of the other cannot."""
        if self.old_since is None:
            return
        for head in heads:
            fetched_at = head.get("fetched_at") or 0.0
            if fetched_at > self.old_since and fetched_at != head.get("migrated_at"):
                raise OldRelease(f"a process of the release before has fetched guild {head['_id']} since the start")


def _is_copied(head: database.Document) -> bool:
    as_now = channels.copied_at(head.get("fence", 0), head.get("fetched_at"))
    return "migrated_fence" in head and all(head.get(name) == value for name, value in as_now.items())


def _guild_update(head: database.Document, rows: list[database.Document]) -> pymongo.UpdateOne:
    fetched_at = head.get("fetched_at")
    change: database.Document = {"schema": guilds.SCHEMA, **channels.copied_at(head.get("fence", 0), fetched_at)}
    listed, gone = channels.decode_rows(rows)
    kept = gone[-guild_codec.MOST_GONE :]
    change["channels"], change["activity"] = guild_codec.encode(listed, kept)
    change["oldest_gone_at"] = min((row.gone_at for row in kept), default=0.0)
    if head.get("fingerprint"):
        # The release before makes its own of more than is kept.
        change["fingerprint"] = freshness.fingerprint(listed)
    as_read = {"_id": head["_id"], "fence": head.get("fence"), "fetched_at": fetched_at}
    return pymongo.UpdateOne(as_read, {"$set": change, "$inc": {"version": 1}})


class UserCopier(Copier):
    """Copies memberships, and adds to rosters: one that names too many guilds is harmless, too few is not."""

    name = "users"
    batch = 500

    def __init__(self, db: database.Database) -> None:
        super().__init__(db)
        self._memberships = db["memberships"]
        self._rosters = db["rosters"]

    async def copy(self, ids: Collection[int]) -> int:
        """Copy what differs; returns how many documents were written."""
        copied = await super().copy(ids)
        await self._add_to_rosters(set(ids))
        return copied

    async def _changes(self, ids: Collection[int]) -> dict[int, Any]:
        with database.translated():
            rows = await self._walked.find({"_id": _between(ids)}, users.INDEX).to_list(None)
        members = await memberships.read_memberships(self._memberships, _between(ids))
        return {
            row["_id"]: _user_update(row, members.get(row["_id"], {}))
            for row in rows
            if row["_id"] in ids
            and not tombstones.is_tombstone(row)
            and users.user_of(row).memberships != members.get(row["_id"], {})
        }

    async def _add_to_rosters(self, ids: Collection[int]) -> None:
        wanted = {"user_id": _between(ids)}
        with database.translated():
            rows = await self._memberships.find(wanted, {"user_id": 1, "guild_id": 1, "left_at": 1}).to_list(None)
            known = await self._rosters.find({"_id": _between(ids)}).to_list(None)
        before = {row["_id"]: {name: set(row.get(name, ())) for name in ("guild_ids", "former")} for row in known}
        missing: dict[int, dict[str, set[int]]] = {}
        for row in rows:
            name = "guild_ids" if row.get("left_at") is None else "former"
            if row["user_id"] in ids and row["guild_id"] not in before.get(row["user_id"], {}).get(name, ()):
                missing.setdefault(row["user_id"], {"guild_ids": set(), "former": set()})[name].add(row["guild_id"])
        if missing:
            changes = [
                pymongo.UpdateOne(
                    {"_id": user_id},
                    {"$addToSet": {name: {"$each": sorted(ids)} for name, ids in each.items()}},
                    upsert=True,
                )
                for user_id, each in missing.items()
            ]
            with database.translated():
                await self._rosters.bulk_write(changes, ordered=False)


def _user_update(row: database.Document, members: dict[int, model.Membership]) -> pymongo.UpdateOne:
    ordered = sorted(members.items())
    rights = [(guild_id, member.owner, member.permissions) for guild_id, member in ordered]
    change: database.Document = users.rights_fields(rights)
    change["roles_changed_at"] = {str(guild_id): member.roles_changed_at for guild_id, member in ordered}
    change["roles_at"] = {str(key): member.roles_at for key, member in ordered if member.roles_at is not None}
    change["looked_at"] = {
        str(key): member.last_viewed_at for key, member in ordered if member.last_viewed_at is not None
    }
    change["role_ids"] = {
        str(key): id_sets.pack_ids(member.role_ids) for key, member in ordered if member.role_ids is not None
    }
    as_read = {"_id": row["_id"], "version": row.get("version"), "listed_at": row.get("listed_at")}
    return pymongo.UpdateOne(as_read, {"$set": change, "$inc": {"version": 1}})


class RosterCleaner(Walk):
    """Erases rosters of unknown users: the previous release erases a user without their roster."""

    name = "rosters"
    batch = 500

    def __init__(self, db: database.Database) -> None:
        super().__init__(db)
        self._users = db["users"]

    async def copy(self, ids: Collection[int]) -> int:
        """Erase; returns how many."""
        with database.translated():
            rows = await self._users.find({"_id": _between(ids)}, {"_id": 1}).to_list(None)
            unknown = sorted(set(ids) - {row["_id"] for row in rows})
            if unknown:
                await self._walked.delete_many({"_id": {"$in": unknown}})
        return len(unknown)


class JobCopier(Copier):
    """Copies guild tasks of running and ended jobs."""

    name = "jobs"
    batch = 100

    def __init__(self, db: database.Database) -> None:
        super().__init__(db)
        self._units = db["units"]

    async def _changes(self, ids: Collection[str]) -> dict[str, Any]:
        fields = {"schema": 1, "guilds": 1, "tasks": 1, "by": 1, "turn": 1}
        with database.translated():
            rows = await self._walked.find({"_id": _between(ids)}, fields).to_list(None)
        tasks = await units.read_units(self._units, _between(ids))
        updates = {
            row["_id"]: _job_update(row, tasks[row["_id"]]) for row in rows if row["_id"] in ids and row["_id"] in tasks
        }
        return {job_id: update for job_id, update in updates.items() if update is not None}


def _job_update(row: database.Document, in_rows: list[model.GuildTask]) -> pymongo.UpdateOne | None:
    packed = jobs.packed_tasks(in_rows)
    known = {**packed["tasks"], **(row.get("tasks") or {})}
    in_document = jobs.tasks_of({**row, **_RUNNING, **packed, "tasks": known})
    newest = [max(pair, key=lambda task: task.revision) for pair in zip(in_rows, in_document, strict=True)]
    change = jobs.packed_tasks(newest)
    if all(row.get(name) == value for name, value in change.items()):
        return None
    return pymongo.UpdateOne({"_id": row["_id"], "by": row.get("by")}, {"$set": change})
