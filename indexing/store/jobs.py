"""
Jobs in MongoDB, one document each with its guild tasks inside.

A job is owned by one turn at a time: every write names its turn, and is applied only while that turn is current and the
job is active. So redelivered messages, repeated sweeps and processes that resume late change nothing. The writes of one
turn are numbered, so that one which TCP delivers late does not overwrite a newer one of the same turn.

`guilds` is written once: `[[id, name, position], ...]`. `tasks` is a flat map from a guild's id to the changing fields
of its task: `[state, step, attempts, retry_at, reason, channel_count, revision]`. Both are msgpack (decision 25). A
task that is open in an ended job is read as ended with the job's state and reason.

| what | round trips | bytes |
|---|---|---|
| create a job, owned by its first turn if that begins at once | 1 | 0.4 KB |
| begin a turn, with the job and its tasks | 2 | 5.5 KB for 60 tasks |
| changed tasks, the next turn, the end of the job, or several of these | 1 | 60 a task |
"""

import dataclasses
import datetime
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import msgspec
import pymongo
import pymongo.errors

from indexing import errors
from indexing.domain import freshness, job_callers, job_updates, model
from indexing.store import database, writer

TRIES = 3
OVERDUE = 10.0
"""Seconds by which a job is overdue whose wait has been ended; sweeps enqueue what is 5 s overdue."""
SCHEMA = 1
"""Number of the format of `guilds` and `tasks`. A process leaves jobs of a newer one to newer processes."""
HEAD = {"guilds": 0, "tasks": 0}
"""Projection that leaves out the tasks."""
_ENCODER = msgspec.msgpack.Encoder(enc_hook=int)
_GUILDS = msgspec.msgpack.Decoder(list[tuple[int, str, int]])
_TASK = msgspec.msgpack.Decoder(tuple[str, str, int, float, str, int | None, int])


class Jobs:
    """Port `ports.Jobs`. Round trips: one for each method, two for a `create_or_join` that joins."""

    def __init__(
        self, db: database.Database, *, retention: float, observe: Callable[[float], None] = lambda _: None
    ) -> None:
        self._jobs = db["jobs"]
        self._retention = retention
        self._writer = writer.Writer(self._jobs, observe=observe)

    async def create_or_join(self, job: model.Job) -> tuple[model.Job, bool]:
        """Store *job* unless its user has an active one; returns the stored one and whether it is new."""
        begun = {"began_at": job.created_at, writer.STEP: 0} if job.turn else {}
        row = {"_id": job.job_id, **self._fields(job), **begun, "guilds": b"", "tasks": {}}
        for _ in range(TRIES):
            try:
                with database.translated():
                    await self._jobs.insert_one(row)
            except pymongo.errors.DuplicateKeyError:
                with database.translated():
                    active = await self._jobs.find_one({"user_id": job.user_id, "active": True}, HEAD)
                if active is not None:
                    return job_of(active), False
            else:
                return job, True
        raise errors.StoreUnavailable("a user's jobs end faster than they can be joined")

    async def add_caller(self, job_id: str, caller: str) -> None:
        """Add a caller that asks for an active job too, up to `job_callers.MOST_CALLERS`."""
        has_room = {"_id": job_id, "active": True, f"callers.{job_callers.MOST_CALLERS - 1}": {"$exists": False}}
        with database.translated():
            await self._jobs.update_one(has_room, {"$addToSet": {"callers": caller}})

    async def get(self, job_id: str) -> model.Job | None:
        """Return a job."""
        with database.translated():
            row = await self._jobs.find_one({"_id": job_id}, HEAD)
        return job_of(row) if row else None

    async def get_many(self, job_ids: Collection[str]) -> dict[str, model.Job]:
        """Return the stored jobs, by id."""
        with database.translated():
            rows = await self._jobs.find({"_id": {"$in": list(job_ids)}}, HEAD).to_list(None)
        return {row["_id"]: job_of(row) for row in rows}

    async def load(self, job_id: str) -> tuple[model.Job, list[model.GuildTask]] | None:
        """Return a job and its tasks by position, as of one moment."""
        with database.translated():
            row = await self._jobs.find_one({"_id": job_id})
        return (job_of(row), tasks_of(row)) if row else None

    async def latest(self, user_id: int) -> model.Job | None:
        """Return the user's active job, else the newest one."""
        with database.translated():
            # The active job first, because the clocks of the machines that created the jobs may differ.
            order = [("active", pymongo.DESCENDING), ("created_at", pymongo.DESCENDING)]
            row = await self._jobs.find_one({"user_id": user_id}, HEAD, sort=order)
        return job_of(row) if row else None

    async def list_for_user(
        self, user_id: int, *, before: float, limit: int
    ) -> list[tuple[model.Job, list[model.GuildTask]]]:
        """Return the user's jobs that were created before a time, newest first, with their tasks."""
        with database.translated():
            found = self._jobs.find({"user_id": user_id, "created_at": {"$lt": before}})
            rows = await found.sort("created_at", pymongo.DESCENDING).limit(limit).to_list(None)
        return [(job_of(row), tasks_of(row)) for row in rows]

    async def begin_turn(
        self, job_id: str, turn: int, *, now: float, until: float
    ) -> tuple[model.Job, list[model.GuildTask]] | None:
        """Own the job as turn + 1, if *turn* is current and the job runs, and return it with its tasks; else None."""
        change = {"turn": turn + 1, "next_turn_at": until, "began_at": now, "waiting_for": "", "waiting_until": 0.0}
        change |= {writer.STEP: 0}
        with database.translated():
            current = {"_id": job_id, "turn": turn, "active": True}
            done = await self._jobs.update_one(current, {"$set": change, "$inc": {"unfinished": 1}})
            # Read after the write: from then on, the turn before changes nothing.
            row = await self._jobs.find_one(current | {"turn": turn + 1}) if done.matched_count else None
        return (job_of(row), tasks_of(row)) if row else None

    async def add_tasks(self, job: model.Job, tasks: Sequence[model.GuildTask]) -> bool:
        """Store the tasks of a job whose guilds are listed; returns False when its turn is not current any more."""
        return await self._update(job, {"listed": True, "attempts": 0, "error": "", **packed_tasks(tasks)})

    async def list_tasks(self, job_id: str) -> list[model.GuildTask]:
        """Return the tasks by position."""
        found = await self.load(job_id)
        return found[1] if found else []

    async def write_tasks(
        self, job: model.Job, tasks: Iterable[model.GuildTask], *, owned_until: float | None = None
    ) -> bool:
        """Store changed tasks; returns False when the job's turn is not current any more."""
        change: database.Document = {f"tasks.{task.guild_id}": _changing(task) for task in tasks}
        if owned_until is not None:
            change["next_turn_at"] = owned_until
        return await self._update(job, change) if change else True

    async def save(self, known: model.Job, changed: model.Job, tasks: Iterable[model.GuildTask] = ()) -> bool:
        """Store the fields in which *changed* differs from *known*, and changed tasks, in one write."""
        before = self._fields(known)
        change = {name: value for name, value in self._fields(changed).items() if value != before[name]}
        change |= {f"tasks.{task.guild_id}": _changing(task) for task in tasks}
        # A turn that ends waits for nothing but this.
        return await self._update(known, change, urgent=True)

    async def postpone(self, job: model.Job, due: float, *, unfinished: int | None = None) -> bool:
        """Change the due time of the next turn, if the job's turn is current; returns whether it was."""
        change: database.Document = {"next_turn_at": due}
        if unfinished is not None:
            change["unfinished"] = unfinished
        # Not in the order of the owner's writes: the sweeper does not own the job.
        return await self._writer.update(_owned(job), {"$set": change})

    async def _update(self, job: model.Job, change: database.Document, *, urgent: bool = False) -> bool:
        return await self._writer.update(_owned(job), {"$set": change}, ordered=True, urgent=urgent)

    async def list_overdue(self, now: float, limit: int) -> list[model.Job]:
        """Return active jobs whose next turn was due before *now*, or is due so late that the clock was set back."""
        with database.translated():
            late = self._jobs.find({"active": True, "next_turn_at": {"$lt": now}}, HEAD)
            rows = await late.sort("next_turn_at", pymongo.ASCENDING).limit(limit).to_list(None)
            far = {"active": True, "next_turn_at": {"$gt": now + freshness.FARTHEST_TURN}}
            rows += await self._jobs.find(far, HEAD).limit(limit - len(rows)).to_list(None) if len(rows) < limit else []
        return [job_of(row) for row in rows]

    def _fields(self, job: model.Job) -> database.Document:
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


async def end_waits(
    db: database.Database, budgets: Collection[str], now: float, *, began_before: float | None = None
) -> int:
    """
    Make the jobs overdue that wait for one of *budgets* beyond *now*; returns how many. A sweep enqueues them.

    With *began_before*, only those whose last turn began before it.
    """
    waiting: database.Document = {"active": True, "waiting_for": {"$in": list(budgets)}, "next_turn_at": {"$gt": now}}
    if began_before is not None:
        waiting["began_at"] = {"$lt": began_before}
    with database.translated():
        ended = await db["jobs"].update_many(waiting, {"$set": {"next_turn_at": now - OVERDUE}})
    return int(ended.modified_count)


def _owned(job: model.Job) -> database.Document:
    return {"_id": job.job_id, "turn": job.turn, "active": True}


def packed_tasks(tasks: Sequence[model.GuildTask]) -> database.Document:
    """Return the fields of a document that hold a job's tasks."""
    guilds = [[task.guild_id, task.name, task.position] for task in tasks]
    return {
        "schema": SCHEMA,
        "guilds": _ENCODER.encode(guilds),
        "tasks": {str(task.guild_id): _changing(task) for task in tasks},
    }


def _changing(task: model.GuildTask) -> bytes:
    return _ENCODER.encode(
        [
            task.state.value,
            task.step.value,
            task.attempts,
            task.retry_at,
            task.reason,
            task.channel_count,
            task.revision,
        ]
    )


def job_of(row: database.Document) -> model.Job:
    """Return the job of a document."""
    return model.Job(
        job_id=row["_id"],
        user_id=int(row["user_id"]),
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
        cancelled_by=row.get("cancelled_by", ""),
        callers=tuple(row.get("callers", ())),
    )


def tasks_of(row: database.Document) -> list[model.GuildTask]:
    """Return the tasks of a whole document by position; in an ended job, none is open."""
    packed: Any = row.get("guilds")
    if not packed:
        return []
    if row.get("schema", SCHEMA) > SCHEMA:
        raise errors.StoreUnavailable("a newer release has stored the tasks of this job")
    tasks = row["tasks"]
    found = []
    for guild_id, name, position in sorted(_GUILDS.decode(packed), key=lambda guild: guild[2]):
        state, step, attempts, retry_at, reason, channel_count, revision = _TASK.decode(tasks[str(guild_id)])
        found.append(
            model.GuildTask(
                guild_id=guild_id,
                name=name,
                state=model.TaskState(state),
                step=model.Step(step),
                position=position,
                attempts=attempts,
                retry_at=retry_at,
                reason=reason,
                channel_count=channel_count,
                revision=revision,
            )
        )
    job_state = model.JobState(row["state"])
    return [_closed(task, job_state, row) for task in found] if job_state.terminal else found


def _closed(task: model.GuildTask, state: model.JobState, row: database.Document) -> model.GuildTask:
    """Return the task of an ended job: an open task ended with the job."""
    if task.state.terminal:
        return task
    ended = model.TaskState.CANCELLED if state is model.JobState.CANCELLED else model.TaskState.FAILED
    revision = max(task.revision + 1, job_updates.revision_of(row["turn"], job_updates.LAST_STEPS))
    return dataclasses.replace(
        task, state=ended, reason=row.get("error") or errors.IndexerError.reason, retry_at=0.0, revision=revision
    )
