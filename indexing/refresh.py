"""The sweeper: finds jobs whose next turn is overdue, whatever happened to the queue, and enqueues them again."""

import dataclasses

from indexing import logs, ports, settings, turns

OVERDUE = 5.0
"""Seconds past its due time after which a turn counts as lost; the alarm and the queue take well under one."""
MOST = 500
"""Jobs enqueued in one sweep, most overdue first; the rest waits for the next."""
AGAIN = 30.0
"""Seconds until a job that was enqueued by a sweep counts as overdue again, so that a long queue is not made longer."""


class Sweeper:
    """Any number of processes may sweep: a turn that is enqueued twice runs once. One round trip when all is well."""

    def __init__(self, world: ports.World, rules: settings.IndexingSettings) -> None:
        self._world = world
        self._rules = rules
        self._log = logs.get(__name__)

    async def sweep(self) -> int:
        """
        Enqueue overdue turns; returns how many.

        Raises:
            errors.StoreUnavailable, errors.QueueUnavailable: The next sweep tries again.
        """
        late = await self._world.jobs.overdue(self._world.clock() - OVERDUE, MOST)
        for job in late:
            again = dataclasses.replace(job, next_turn_at=self._world.clock() + AGAIN)
            if await self._world.jobs.save(again):
                await self._world.queue.enqueue(turns.Turn(job.job_id, job.turn))
        if late:
            self._log.warning("turns_were_overdue", jobs=len(late))
        return len(late)
