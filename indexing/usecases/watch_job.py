"""
Watch a job: a snapshot of its guild tasks, then changes, then its end.

Tasks are sent whole, with a revision that only grows: the latest wins and duplicates are harmless. The watcher
subscribes before it reads the snapshot from the store, so no change is lost between the two. A slow watcher gets
fewer, merged updates instead of a growing queue.
"""

import dataclasses
from collections.abc import AsyncGenerator, Callable, Sequence

from indexing import concurrency, errors
from indexing.domain import id_sets, job_updates, model, ports
from indexing.usecases import memberships

TOKEN_TOO_OLD = "TOKEN_TOO_OLD"  # noqa: S105 -- a reason, not a secret
EVENTS_LOST = "EVENTS_LOST"
NO_GUILDS = id_sets.pack_ids(())
BATCH_WINDOW = 0.1
"""Seconds for which a check waits for others, so that one query checks the jobs of many watchers."""


@dataclasses.dataclass(frozen=True, slots=True)
class Snapshot:
    """All tasks of the job; `reason` says why a resuming watcher gets a snapshot."""

    job: model.Job
    tally: job_updates.Tally
    tasks: tuple[model.GuildTask, ...]
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class Changed:
    """The changes since the last message; `job_changed` says whether the job's own fields changed, its tally aside."""

    update: job_updates.JobUpdate
    job_changed: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Heartbeat:
    """Nothing changed for a while."""

    at: float


@dataclasses.dataclass(frozen=True, slots=True)
class Ended:
    """The job has ended."""

    job: model.Job
    tally: job_updates.Tally


@dataclasses.dataclass(frozen=True, slots=True)
class Disconnecting:
    """This process ends the stream; the watcher resumes elsewhere from its position."""

    reason: str


Message = Snapshot | Changed | Heartbeat | Ended | Disconnecting


@dataclasses.dataclass(frozen=True, slots=True)
class WatchOptions:
    """
    Options of a watcher.

    Attributes:
        after: Position to resume from; None requests a snapshot.
        heartbeat: Seconds of silence after which a heartbeat is sent.
        disconnect_reason: Returns why the stream must end now; empty when it may continue.
    """

    after: str | None
    heartbeat: float
    disconnect_reason: Callable[[], str]


class JobWatcher:
    """Watches jobs."""

    def __init__(self, deps: ports.Dependencies) -> None:
        self._deps = deps
        self._memberships = memberships.Memberships(deps)
        self._checks = concurrency.Coalescer(self._check_jobs, linger=BATCH_WINDOW)

    async def find_job(self, *, job_id: str = "", user_id: int = 0) -> model.Job:
        """
        Return the job by its id, or the user's active or newest one.

        Raises:
            errors.JobNotFound: There is none.
        """
        job = await (self._deps.jobs.get(job_id) if job_id else self._deps.jobs.latest(user_id))
        if job is None:
            raise errors.JobNotFound(job_id or f"of user {user_id}")
        return job

    async def count_tasks(self, job: model.Job) -> job_updates.Tally:
        """Count the job's guilds by state."""
        return job_updates.tally_of(await self._deps.jobs.list_tasks(job.job_id))

    async def list_jobs(self, user_id: int, *, before: float, limit: int) -> list[tuple[model.Job, job_updates.Tally]]:
        """Return the user's jobs that were created before a time, newest first, with their tallies."""
        jobs = await self._deps.jobs.list_for_user(user_id, before=before, limit=limit)
        return [(job, job_updates.tally_of(tasks)) for job, tasks in jobs]

    async def wait_until_ended(self, job: model.Job, seconds: float) -> model.Job:
        """Return the job when it has ended, or as it is after *seconds*."""
        deadline = self._deps.clock() + seconds
        subscription = await self._deps.events.subscribe(
            job.job_id, await self._deps.events.get_last_position(job.job_id)
        )
        try:
            current = await self.find_job(job_id=job.job_id)
            while not current.state.terminal:
                update = await subscription.next(max(0.0, deadline - self._deps.clock()))
                if update is None:
                    return await self.find_job(job_id=job.job_id)
                current = update.job
            return current
        finally:
            await subscription.close()

    async def watch(self, job: model.Job, options: WatchOptions) -> AsyncGenerator[tuple[Message, str], None]:
        """
        Yield the messages of a job, each with the position to resume from, until the job has ended.

        A guild that the user has left is in no snapshot, and without its name in a change: the updates may be from
        before they left.
        """
        position, resumes = await self._find_position(job.job_id, options.after)
        subscription = await self._deps.events.subscribe(job.job_id, position)
        try:
            current, tasks, guild_ids = await self._load(job, resumes=resumes)
            sent, tally = None, None
            if tasks is not None:
                # No update follows the end of a job, so a resuming watcher gets a snapshot of those since its position.
                # A watcher at the first position has seen no update and therefore lost none.
                reason = "" if resumes or options.after in {None, ports.FIRST_POSITION} else TOKEN_TOO_OLD
                yield _snapshot(current, tasks, reason, guild_ids), position
                sent = _visible_fields(current)
                del tasks
            while not current.state.terminal:
                update = await subscription.next(options.heartbeat - BATCH_WINDOW)
                if update is not None:
                    update, guild_ids = await self._without_left(update, guild_ids)
                    current, tally, position = update.job, update.tally, update.position
                    before, sent = sent, _visible_fields(current)
                    yield Changed(update, sent != before), position
                elif not options.disconnect_reason():
                    current, lost = await self._check_silence(current, position)
                    yield (
                        await self._resume_after_loss(current) if lost else Heartbeat(self._deps.clock()),
                        position,
                    )
                    sent, tally = (_visible_fields(current), None) if lost else (sent, tally)
                del update  # free the tasks while the watcher waits: they are most of its memory
                if not current.state.terminal and (reason := options.disconnect_reason()):
                    yield Disconnecting(reason), position
                    return
            yield Ended(current, tally or await self.count_tasks(current)), position
        finally:
            await subscription.close()

    async def _without_left(
        self, update: job_updates.JobUpdate, guild_ids: bytes
    ) -> tuple[job_updates.JobUpdate, bytes]:
        """
        Return the update without names of guilds that the user has left, and the packed guilds that they are in.

        These are loaded when the update has a guild that is not among *guild_ids*, the ones known before, and when the
        job has failed: the end of the user's consent is a reason for that.
        """
        failed = update.job.state is model.JobState.FAILED
        if failed or not all(id_sets.has_id(guild_ids, task.guild_id) for task in update.tasks):
            guild_ids = await self._memberships.load(update.job.user_id)
        tasks = memberships.nameless_when_left(update.tasks, guild_ids)
        return dataclasses.replace(update, tasks=tasks), guild_ids

    async def _find_position(self, job_id: str, after: str | None) -> tuple[str, bool]:
        """Return the position where a watcher starts, and whether it resumes there without a gap."""
        if after is not None and await self._deps.events.has_all_since(job_id, after):
            return after, True
        return await self._deps.events.get_last_position(job_id), False

    async def _check_silence(self, job: model.Job, position: str) -> tuple[model.Job, bool]:
        """Return the stored job, and whether its stream lost updates."""
        key = job.job_id, position
        found = (await self._checks.fetch([key]))[key]
        if found is None:
            raise errors.JobNotFound(job.job_id)
        return found

    async def _check_jobs(self, keys: list[tuple[str, str]]) -> dict[tuple[str, str], tuple[model.Job, bool] | None]:
        """Check many silent jobs. Round trips: 1 to MongoDB, 1 to Redis."""
        jobs = await self._deps.jobs.get_many({job_id for job_id, _ in keys})
        listed = [key for key in keys if key[0] in jobs and jobs[key[0]].listed]
        try:
            held = await self._deps.events.list_retained(listed) if listed else set()
        except errors.QueueUnavailable:
            held = set()
        lost = {key for key in listed if key not in held or jobs[key[0]].state.terminal}
        return {key: (jobs[key[0]], key in lost) if key[0] in jobs else None for key in keys}

    async def _load(
        self, job: model.Job, *, resumes: bool
    ) -> tuple[model.Job, Sequence[model.GuildTask] | None, bytes]:
        """Return the job as it is now, its tasks if a snapshot is needed, and the packed guilds that the user is in."""
        tasks: Sequence[model.GuildTask] | None = None
        if resumes:
            job = await self.find_job(job_id=job.job_id)
            if job.state.terminal:
                tasks = await self._deps.jobs.list_tasks(job.job_id)
        else:
            found = await self._deps.jobs.load(job.job_id)
            if found is None:
                raise errors.JobNotFound(job.job_id)
            job, tasks = found
        # A job without tasks has nothing to hide yet; the first update with one loads the memberships.
        has_none = tasks is not None and not tasks
        return job, tasks, NO_GUILDS if has_none else await self._memberships.load(job.user_id)

    async def _resume_after_loss(self, job: model.Job) -> Snapshot:
        guild_ids = await self._memberships.load(job.user_id)
        return _snapshot(job, await self._deps.jobs.list_tasks(job.job_id), EVENTS_LOST, guild_ids)


def _snapshot(job: model.Job, tasks: Sequence[model.GuildTask], reason: str, guild_ids: bytes) -> Snapshot:
    """Return the tasks of the packed guilds that the user is in; the tally counts all."""
    return Snapshot(job, job_updates.tally_of(tasks), tuple(memberships.without_left(tasks, guild_ids)), reason)


def _visible_fields(job: model.Job) -> tuple[object, ...]:
    """Return those fields of a job that watchers see, its tally aside."""
    return job.state, job.reason, job.listed, job.finished_at, job.waiting_for, job.waiting_until
