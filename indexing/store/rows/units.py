"""
Jobs whose guild tasks are rows of `units`, with the document's parts beside them in the job's document.

The document is written first: its update is conditional on the turn and decides. A task's row is written only if it has
no greater revision, as in the release before.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import pymongo

from indexing.domain import model
from indexing.store import database, jobs, schema

ROWS, DOCUMENTS = schema.State.ROWS, schema.State.DOCUMENTS


class RowJobs(jobs.Jobs):
    """Port `ports.Jobs`. Round trips: those of `jobs.Jobs`, and 1 for the rows."""

    def __init__(
        self,
        db: database.Database,
        form: schema.Schema,
        *,
        retention: float,
        observe: Callable[[float], None] = lambda _: None,
    ) -> None:
        super().__init__(db, retention=retention, observe=observe)
        self._units = db["units"]
        self._form = form

    async def load(self, job_id: str) -> tuple[model.Job, list[model.GuildTask]] | None:
        """Return a job and its tasks by position."""
        if await self._form.state() is not ROWS:
            return await super().load(job_id)
        with database.translated():
            row = await self._jobs.find_one({"_id": job_id}, jobs.HEAD)
        return (await self._with_rows([row]))[0] if row else None

    async def list_for_user(
        self, user_id: int, *, before: float, limit: int
    ) -> list[tuple[model.Job, list[model.GuildTask]]]:
        """Return the user's jobs that were created before a time, newest first, with their tasks."""
        if await self._form.state() is not ROWS:
            return await super().list_for_user(user_id, before=before, limit=limit)
        with database.translated():
            found = self._jobs.find({"user_id": user_id, "created_at": {"$lt": before}}, jobs.HEAD)
            rows = await found.sort("created_at", pymongo.DESCENDING).limit(limit).to_list(None)
        return await self._with_rows(rows)

    async def begin_turn(
        self, job_id: str, turn: int, *, now: float, until: float
    ) -> tuple[model.Job, list[model.GuildTask]] | None:
        """Own the job as turn + 1, if *turn* is current and the job runs, and return it with its tasks; else None."""
        owned = await super().begin_turn(job_id, turn, now=now, until=until)
        if owned is None or await self._form.state() is not ROWS:
            return owned
        return owned[0], (await read_units(self._units, job_id)).get(job_id, [])

    async def _with_rows(self, rows: list[database.Document]) -> list[tuple[model.Job, list[model.GuildTask]]]:
        tasks = await read_units(self._units, {"$in": [row["_id"] for row in rows]})
        whole = ({**row, **jobs.packed_tasks(tasks.get(row["_id"], []))} for row in rows)
        return [(jobs.job_of(row), jobs.tasks_of(row)) for row in whole]

    async def add_tasks(self, job: model.Job, tasks: Sequence[model.GuildTask]) -> bool:
        """Store the tasks of a job whose guild list is read; returns False when its turn is not current any more."""
        if await self._form.state() is not DOCUMENTS:
            owned = {"_id": job.job_id, "turn": job.turn, "active": True}
            with database.translated():
                if await self._jobs.find_one(owned, {"_id": 1}) is None:
                    return False
            # First, because a job that is listed and has no rows would end at once.
            await database.insert_new(self._units, [{"_id": _key(job, task), **self._row(job, task)} for task in tasks])
        return await super().add_tasks(job, tasks)

    async def write_tasks(
        self, job: model.Job, tasks: Iterable[model.GuildTask], *, owned_until: float | None = None
    ) -> bool:
        """Store changed tasks; returns False when the job's turn is not current any more."""
        changed = list(tasks)
        return await super().write_tasks(job, changed, owned_until=owned_until) and await self._write_rows(job, changed)

    async def save(self, known: model.Job, changed: model.Job, tasks: Iterable[model.GuildTask] = ()) -> bool:
        """Store the fields in which *changed* differs from *known*, and changed tasks."""
        rows = list(tasks)
        return await super().save(known, changed, rows) and await self._write_rows(known, rows)

    async def _write_rows(self, job: model.Job, tasks: list[model.GuildTask]) -> bool:
        if tasks and await self._form.state() is not DOCUMENTS:
            # No upsert: what was erased with its user must not come back by a turn that still runs.
            changes = [
                pymongo.UpdateOne(
                    {"_id": _key(job, task), "revision": {"$lte": task.revision}}, {"$set": self._row(job, task)}
                )
                for task in tasks
            ]
            with database.translated():
                await self._units.bulk_write(changes, ordered=False)
        return True

    def _row(self, job: model.Job, task: model.GuildTask) -> database.Document:
        row = dataclasses.asdict(task)
        # The release before reads "error", and release 0.1 no row without a score.
        row |= {"error": row.pop("reason"), "score": 0.0}
        return {**row, "job_id": job.job_id, "expires_at": self._expiry(job.created_at)}


def _key(job: model.Job, task: model.GuildTask) -> str:
    return f"{job.job_id}:{task.guild_id}"


async def read_units(units: database.Collection, jobs: str | database.Document) -> dict[str, list[model.GuildTask]]:
    """Return the tasks of the jobs with this id, or whose ids match, by job and position."""
    with database.translated():
        rows = await units.find({"job_id": jobs}).to_list(None)
    found: dict[str, list[model.GuildTask]] = {}
    for row in sorted(rows, key=lambda row: row["position"]):
        found.setdefault(row["job_id"], []).append(_task(row))
    return found


def _task(row: database.Document) -> model.GuildTask:
    return model.GuildTask(
        guild_id=int(row["guild_id"]),
        name=row["name"],
        state=model.TaskState(row["state"]),
        step=model.Step(row["step"]),
        position=row["position"],
        attempts=row["attempts"],
        retry_at=row["retry_at"],
        reason=row["error"],
        channel_count=row["channel_count"],
        revision=int(row["revision"]),
    )
