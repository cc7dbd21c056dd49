"""
Cancel a job, or retry its failed guilds.

Both own the job for a turn, like any other turn: the previous owner loses it and its late writes change nothing.
Fetches in progress still complete, and their channels are stored with the guild.
"""

import dataclasses
import uuid

from indexing import errors, settings
from indexing.domain import job_callers, job_updates, model, ports, turns

MAX_ATTEMPTS = 20
"""Attempts to own the job; each failed attempt lost a race against a turn of the job."""


class JobControl:
    """Cancels and retries jobs."""

    def __init__(self, deps: ports.Dependencies, config: settings.IndexingSettings) -> None:
        self._deps = deps
        self._config = config

    async def cancel(self, job_id: str, *, caller: str = "") -> model.Job:
        """
        Cancel a job and its open tasks on behalf of *caller*; returns the job. A job that has ended does not change.

        Raises:
            errors.JobNotFound: There is no such job.
            errors.StoreUnavailable: The outcome is unknown; calling again is safe.
        """
        for _ in range(MAX_ATTEMPTS):
            found = await self._deps.jobs.get(job_id)
            if found is None:
                raise errors.JobNotFound(job_id)
            if found.state.terminal:
                return found
            owned = await self._take_turn(found)
            if owned is not None:
                job, tasks = owned
                cancelled = dataclasses.replace(job, state=model.JobState.CANCELLED, cancelled_by=caller)
                ended = await self._end_job(job, tasks, cancelled)
                if ended is not None:
                    return ended
        raise errors.StoreUnavailable("the job moves too fast to be cancelled; try again")

    async def retry(self, job_id: str, caller: str = "") -> tuple[model.Job, bool]:
        """
        Start a job with the failed guilds of an earlier one for *caller*; returns it and whether it is new.

        Raises:
            errors.JobNotFound: There is no such job.
            errors.JobRunning: It has not ended yet.
            errors.NothingFailed: It has no failed guild.
        """
        earlier = await self._deps.jobs.get(job_id)
        if earlier is None:
            raise errors.JobNotFound(job_id)
        if not earlier.state.terminal:
            raise errors.JobRunning(job_id)
        failed = [row for row in await self._deps.jobs.list_tasks(job_id) if row.state is model.TaskState.FAILED]
        if not failed:
            raise errors.NothingFailed(job_id)
        now = self._deps.clock()
        due = now + self._config.turn_lease
        planned = model.new_job(uuid.uuid4().hex, earlier.user_id, now=now, due=due, force=True)
        job, created = await self._deps.jobs.create_or_join(job_callers.with_caller(planned, caller))
        if created:
            job = await self._add_failed_tasks(job, failed)
        elif job_callers.lacks(job, caller):
            await self._deps.jobs.add_caller(job.job_id, caller)
        return job, created

    async def stop_user_job(self, user_id: int, reason: str) -> None:
        """
        End the user's active job and its open tasks as FAILED for *reason*; having none is no error.

        Raises:
            errors.StoreUnavailable, errors.QueueUnavailable: Calling again is safe.
        """
        for _ in range(MAX_ATTEMPTS):
            found = await self._deps.jobs.latest(user_id)
            if found is None or found.state.terminal:
                return
            owned = await self._take_turn(found)
            if owned is not None:
                job, tasks = owned
                stopped = dataclasses.replace(job, state=model.JobState.FAILED, reason=reason)
                if await self._end_job(job, tasks, stopped) is not None:
                    return
        raise errors.StoreUnavailable("the job changes too fast to be stopped; try again")

    async def _take_turn(self, job: model.Job) -> tuple[model.Job, list[model.GuildTask]] | None:
        now = self._deps.clock()
        return await self._deps.jobs.begin_turn(job.job_id, job.turn, now=now, until=now + self._config.turn_lease)

    async def _end_job(self, job: model.Job, tasks: list[model.GuildTask], ended: model.Job) -> model.Job | None:
        """
        End an owned job as *ended* says, in one write; its open tasks end with it.

        Returns:
            The ended job; None when another turn has taken the job meanwhile, because this one stood still.
        """
        ended = dataclasses.replace(ended, finished_at=self._deps.clock())
        open_tasks = (task for task in tasks if not task.state.terminal)
        closed = {
            task.guild_id: dataclasses.replace(
                task,
                state=model.TaskState(ended.state),
                reason=ended.reason,
                retry_at=0.0,
                revision=job_updates.revision_of(job.turn, step),
            )
            for step, task in enumerate(open_tasks, start=1)
        }
        final = [closed.get(task.guild_id, task) for task in tasks]
        if not await self._deps.jobs.save(job, ended, closed.values()):
            return None
        await self._deps.events.publish(job_updates.JobUpdate(ended, job_updates.tally_of(final), tuple(final)))
        return ended

    async def _add_failed_tasks(self, job: model.Job, failed: list[model.GuildTask]) -> model.Job:
        """Add the tasks to a new job and enqueue it; before that a sweep would make it list all guilds."""
        taken = await self._take_turn(job)
        if taken is None:
            return job
        owned, _ = taken
        rows = [
            dataclasses.replace(
                row,
                state=model.TaskState.QUEUED,
                attempts=0,
                retry_at=0.0,
                reason="",
                position=position,
                revision=job_updates.revision_of(owned.turn, position + 1),
            )
            for position, row in enumerate(failed)
        ]
        ready = dataclasses.replace(owned, listed=True, next_turn_at=self._deps.clock(), unfinished=0)
        if not (await self._deps.jobs.add_tasks(owned, rows) and await self._deps.jobs.save(owned, ready)):
            return ready
        await self._deps.events.publish(job_updates.JobUpdate(ready, job_updates.tally_of(rows), tuple(rows)))
        await self._deps.queue.enqueue(turns.turn_after(ready))
        return ready
