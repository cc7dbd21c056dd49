"""
Jobs and units in MongoDB.

A job is owned by one turn at a time: every write names the turn it belongs to, and the store takes it only while that
turn is the current one. So redelivered messages, the sweeper and processes that wake up late change nothing.
"""

import dataclasses
import datetime
from collections.abc import Collection, Sequence

import pymongo
import pymongo.errors

from indexing import errors
from indexing.domain import model
from indexing.store import database

TRIES = 3
TASK_FIELDS = tuple(field.name for field in dataclasses.fields(model.GuildTask) if field.name != "reason")
"""Stored under their own names; a reason is stored as "error"."""


class Jobs:
    """Port `ports.Jobs`. Round trips: one for each method, two for a `start` that joins."""

    def __init__(self, database: database.Database, *, retention: float) -> None:
        self._jobs = database["jobs"]
        self._units = database["units"]
        self._retention = retention

    async def create_or_join(self, job: model.Job) -> tuple[model.Job, bool]:
        """Store *job* unless its user has an active one; returns the stored one and whether it is new."""
        for _ in range(TRIES):
            try:
                with database.translated():
                    await self._jobs.insert_one({"_id": job.job_id, **self._document(job)})
            except pymongo.errors.DuplicateKeyError:
                with database.translated():
                    row = await self._jobs.find_one({"user_id": job.user_id, "active": True})
                if row is not None:
                    return _job(row), False
            else:
                return job, True
        raise errors.StoreUnavailable("a user's jobs end faster than they can be joined")

    async def get(self, job_id: str) -> model.Job | None:
        """Return a job."""
        with database.translated():
            row = await self._jobs.find_one({"_id": job_id})
        return _job(row) if row else None

    async def get_many(self, job_ids: Collection[str]) -> dict[str, model.Job]:
        """Return those of the jobs that are stored, by id."""
        with database.translated():
            rows = await self._jobs.find({"_id": {"$in": list(job_ids)}}).to_list(None)
        return {row["_id"]: _job(row) for row in rows}

    async def latest(self, user_id: int) -> model.Job | None:
        """Return the user's active job, else his newest."""
        with database.translated():
            # The active one first, whatever the clocks of the machines that made them say.
            order = [("active", pymongo.DESCENDING), ("created_at", pymongo.DESCENDING)]
            row = await self._jobs.find_one({"user_id": user_id}, sort=order)
        return _job(row) if row else None

    async def list_for_user(self, user_id: int, *, before: float, limit: int) -> list[model.Job]:
        """Return the user's jobs that were created before a time, newest first."""
        with database.translated():
            found = self._jobs.find({"user_id": user_id, "created_at": {"$lt": before}})
            rows = await found.sort("created_at", pymongo.DESCENDING).limit(limit).to_list(None)
        return [_job(row) for row in rows]

    async def begin_turn(self, job_id: str, turn: int, *, now: float, until: float) -> model.Job | None:
        """Own the job as turn + 1, if *turn* is current and the job runs; None otherwise."""
        change = {"turn": turn + 1, "next_turn_at": until, "began_at": now, "waiting_for": "", "waiting_until": 0.0}
        with database.translated():
            row = await self._jobs.find_one_and_update(
                {"_id": job_id, "turn": turn, "active": True},
                {"$set": change, "$inc": {"unfinished": 1}},
                return_document=pymongo.ReturnDocument.AFTER,
            )
        return _job(row) if row else None

    async def add_tasks(self, job: model.Job, units: Sequence[model.GuildTask]) -> bool:
        """Store the units of a job whose guild list is read."""
        await database.insert_new(self._units, [{"_id": _key(job, unit), **self._row(job, unit)} for unit in units])
        return await self.save(dataclasses.replace(job, listed=True))

    async def list_tasks(self, job_id: str) -> list[model.GuildTask]:
        """Return the units by position."""
        with database.translated():
            rows = await self._units.find({"job_id": job_id}).to_list(None)
        return sorted((_task(row) for row in rows), key=lambda unit: unit.position)

    async def write_tasks(self, job: model.Job, units: Sequence[model.GuildTask]) -> bool:
        """Store changed units; returns False when some were left alone: rows that are newer, or erased."""
        # No upsert: what was erased with its user must not come back by a turn that still runs.
        changes = [
            pymongo.UpdateOne(
                {"_id": _key(job, unit), "revision": {"$lt": unit.revision}}, {"$set": self._row(job, unit)}
            )
            for unit in units
        ]
        if not changes:
            return True
        with database.translated():
            done = await self._units.bulk_write(changes, ordered=False)
        return bool(done.matched_count == len(changes))

    async def save(self, job: model.Job) -> bool:
        """Store the job's fields if its turn is still current; returns whether it was."""
        with database.translated():
            done = await self._jobs.update_one(
                {"_id": job.job_id, "turn": job.turn, "active": True}, {"$set": self._document(job)}
            )
        return bool(done.matched_count)

    async def list_overdue(self, now: float, limit: int) -> list[model.Job]:
        """Return running jobs whose next turn should have begun before *now*, most overdue first."""
        with database.translated():
            late = self._jobs.find({"active": True, "next_turn_at": {"$lt": now}})
            rows = await late.sort("next_turn_at", pymongo.ASCENDING).limit(limit).to_list(None)
        return [_job(row) for row in rows]

    def _row(self, job: model.Job, unit: model.GuildTask) -> database.Document:
        row = dataclasses.asdict(unit)
        # Release 0.1 does not read a row without a score; nothing else does.
        row |= {"error": row.pop("reason"), "score": 0.0}
        return {**row, "job_id": job.job_id, "expires_at": self._expiry(job.created_at)}

    def _document(self, job: model.Job) -> database.Document:
        row = dataclasses.asdict(job)
        del row["job_id"]
        row["error"] = row.pop("reason")
        return {
            **row,
            "state": job.state.value,
            "active": not job.state.terminal,
            "expires_at": self._expiry(job.created_at) if job.state.terminal else None,
        }

    def _expiry(self, created_at: float) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(created_at + self._retention, tz=datetime.UTC)


def _key(job: model.Job, unit: model.GuildTask) -> str:
    return f"{job.job_id}:{unit.guild_id}"


def _job(row: database.Document) -> model.Job:
    return model.Job(
        job_id=row["_id"],
        user_id=row["user_id"],
        state=model.JobState(row["state"]),
        force=row.get("force", False),
        turn=row["turn"],
        next_turn_at=row["next_turn_at"],
        listed=row.get("listed", False),
        attempts=row.get("attempts", 0),
        reason=row.get("error", ""),
        created_at=row["created_at"],
        finished_at=row.get("finished_at"),
        waiting_for=row.get("waiting_for", ""),
        waiting_until=row.get("waiting_until", 0.0),
        waited_for=row.get("waited_for", ""),
        unfinished=row.get("unfinished", 0),
    )


def _task(row: database.Document) -> model.GuildTask:
    fields = {name: row[name] for name in TASK_FIELDS if name in row}
    state, step = model.TaskState(row["state"]), model.Step(row["step"])
    return model.GuildTask(**{**fields, "state": state, "step": step, "reason": row["error"]})
