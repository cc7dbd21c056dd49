"""
What a watcher of a job is told: the rows as they are, then what changes, then how it ended.

Rows come whole and with a revision that only grows, so that the latest wins and duplicates are harmless. The snapshot
is read from the store after the watcher has begun to listen, so that nothing falls between the two. A watcher that
reads slowly gets fewer, merged updates, never a longer queue.
"""

import dataclasses
from collections.abc import AsyncGenerator, Callable

from indexing import errors, model, ports

TOKEN_TOO_OLD = "TOKEN_TOO_OLD"  # noqa: S105 -- a reason, not a secret
EVENTS_LOST = "EVENTS_LOST"


@dataclasses.dataclass(frozen=True, slots=True)
class Snapshot:
    """All rows as they are; `reason` says why a watcher that resumed gets one."""

    job: model.Job
    tally: model.Tally
    units: tuple[model.Unit, ...]
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class Changed:
    """What changed since the last message."""

    update: model.Update


@dataclasses.dataclass(frozen=True, slots=True)
class Silence:
    """Nothing changed for a while."""

    at: float


@dataclasses.dataclass(frozen=True, slots=True)
class Ended:
    """The job is over."""

    job: model.Job
    tally: model.Tally


@dataclasses.dataclass(frozen=True, slots=True)
class Leaving:
    """This process ends the stream; another one goes on with the token."""

    reason: str


Message = Snapshot | Changed | Silence | Ended | Leaving


@dataclasses.dataclass(frozen=True, slots=True)
class Terms:
    """
    How a watcher wants to be told, and when he has to be sent away.

    Attributes:
        after: Position to resume from; None asks for a snapshot.
        heartbeat: Seconds of silence after which a sign of life is sent.
        leave: Says why the stream has to end now, or nothing.
    """

    after: str | None
    heartbeat: float
    leave: Callable[[], str]


class Progress:
    """Follows jobs."""

    def __init__(self, world: ports.World) -> None:
        self._world = world

    async def find(self, *, job_id: str = "", user_id: int = 0) -> model.Job:
        """
        Return the job itself, or the user's active or newest one.

        Raises:
            errors.JobNotFound: There is none.
        """
        job = await (self._world.jobs.get(job_id) if job_id else self._world.jobs.latest(user_id))
        if job is None:
            raise errors.JobNotFound(job_id or f"of user {user_id}")
        return job

    async def tally(self, job: model.Job) -> model.Tally:
        """Count the job's guilds by state."""
        return model.tally_of(await self._world.jobs.units(job.job_id))

    async def jobs(self, user_id: int, *, before: float, limit: int) -> list[tuple[model.Job, model.Tally]]:
        """Return the user's jobs that were created before a time, newest first, with their numbers."""
        jobs = await self._world.jobs.of_user(user_id, before=before, limit=limit)
        return [(job, await self.tally(job)) for job in jobs]

    async def ended(self, job: model.Job, seconds: float) -> model.Job:
        """Return the job when it has ended, or as it is after that time."""
        deadline = self._world.clock() + seconds
        subscription = await self._world.events.subscribe(job.job_id, await self._world.events.tail(job.job_id))
        try:
            current = await self.find(job_id=job.job_id)
            while not current.state.terminal:
                update = await subscription.next(max(0.0, deadline - self._world.clock()))
                if update is None:
                    return await self.find(job_id=job.job_id)
                current = update.job
            return current
        finally:
            await subscription.close()

    async def watch(self, job: model.Job, terms: Terms) -> AsyncGenerator[tuple[Message, str], None]:
        """Yield what happens to the job, each with the position to resume from, until it has ended."""
        events, after = self._world.events, terms.after
        resumes = after is not None and await events.holds(job.job_id, after)
        position = after if resumes and after is not None else await events.tail(job.job_id)
        subscription = await events.subscribe(job.job_id, position)
        try:
            current = await self.find(job_id=job.job_id)
            if not resumes or current.state.terminal:
                # Of a job that has ended no change will follow: who resumes must not miss those since his position.
                reason = "" if resumes or after is None else TOKEN_TOO_OLD
                yield await self._snapshot(current, reason), position
            while not current.state.terminal:
                update = await subscription.next(terms.heartbeat)
                if update is not None:
                    current, position = update.job, update.position
                    yield Changed(update), position
                elif reason := terms.leave():
                    yield Leaving(reason), position
                    return
                else:
                    current = await self.find(job_id=job.job_id)
                    yield await self._silence(current, position), position
            yield Ended(current, await self.tally(current)), position
        finally:
            await subscription.close()

    async def _silence(self, job: model.Job, position: str) -> Message:
        """Return a sign of life, or all rows when the silence was the stream's loss."""
        if job.state.terminal or not await self._continues(job, position):
            return await self._snapshot(job, EVENTS_LOST)
        return Silence(self._world.clock())

    async def _snapshot(self, job: model.Job, reason: str) -> Snapshot:
        rows = tuple(await self._world.jobs.units(job.job_id))
        return Snapshot(job, model.tally_of(rows), rows, reason)

    async def _continues(self, job: model.Job, position: str) -> bool:
        """Return whether silence means that nothing happened, rather than that the stream is lost."""
        if not job.listed:
            return True
        try:
            return await self._world.events.holds(job.job_id, position)
        except errors.QueueUnavailable:
            return False
