"""One user's job in the demo: started, watched to its end, and timed as a caller sees it."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import cast

from indexer_client import errors as client_errors
from indexer_client.cli import connection, errors, job_state, jobs
from indexer_service.v1 import indexer_pb2 as pb

FIRST_GUILDS = 5
"""Number of guilds for `first_five_at`."""
POLL_INTERVAL = 0.05
"""Seconds between two ListJobs calls of a user that look for the new job; longer with more users, to limit the load."""
USERS_PER_POLL = 4
PATIENCE = connection.Patience(attempt=30.0)
"""A start may wait for many others."""


class JobRun:
    """
    A job and its times, in seconds since the StartIndexing call.

    All times are None until they are reached.

    Attributes:
        list_visible_at: When the guild list was visible.
        first_guild_at: When the first guild was indexed.
        first_five_at: When the first five guilds were indexed, or all if there are fewer.
        ended_at: When the job ended.
        answered_at: When StartIndexing returned.
        indexed_in_answer: Guilds with channels in StartIndexing's response.
        error: Why the job could not be started or watched, in one line; else empty.
    """

    def __init__(self, user: str, clock: Callable[[], float]) -> None:
        self.user = user
        self.tracked = job_state.TrackedJob()
        self.tracked.job.user_id = user
        self.list_visible_at: float | None = None
        self.first_guild_at: float | None = None
        self.first_five_at: float | None = None
        self.ended_at: float | None = None
        self.answered_at: float | None = None
        self.indexed_in_answer = 0
        self.error = ""
        self._clock = clock
        self._began = clock()

    def elapsed(self) -> float:
        """Return the seconds since the start, up to the end of the job."""
        return self._clock() - self._began if self.ended_at is None else self.ended_at

    async def run_to_end(self, client: connection.Client, *, users: int) -> None:
        """Start the job and watch it to its end; a failure is stored in `error`."""
        try:
            before = await self._latest_job_id(client)
            self._began = self._clock()
            async with asyncio.TaskGroup() as both:
                start = both.create_task(self._start(client))
                both.create_task(self._follow(client, start, before, POLL_INTERVAL * max(1.0, users / USERS_PER_POLL)))
        except* client_errors.ClientError as group:
            error = cast("client_errors.ClientError", group.exceptions[0])
            self.error = str(errors.describe(error, address="the service", user=self.user))

    async def _start(self, client: connection.Client) -> str:
        request = jobs.start_request(self.user, wait=None, force=False)
        answer = await client.api.StartIndexing(request)
        self.answered_at = self.elapsed()
        self.indexed_in_answer = sum(row.HasField("channel_count") for row in answer.guilds)
        self.tracked.apply_start(answer)
        self._record_times()
        return answer.job.job_id

    async def _follow(self, client: connection.Client, start: "asyncio.Task[str]", before: str, pause: float) -> None:
        """Watch the job as soon as ListJobs returns it, which is long before StartIndexing returns."""
        job_id = before
        while job_id == before and not start.done():
            await asyncio.wait([start], timeout=pause)
            job_id = await self._latest_job_id(client)
        if job_id == before:
            job_id = await start
        async with contextlib.aclosing(client.watch(job_id)) as messages:
            async for message in messages:
                self.tracked.apply_event(message)
                self._record_times()

    async def _latest_job_id(self, client: connection.Client) -> str:
        request = pb.ListJobsRequest(user_id=self.user, page_size=1)
        answer = await client.api.ListJobs(request)
        return answer.jobs[0].job_id if answer.jobs else ""

    def _record_times(self) -> None:
        """Set the times of milestones that were reached for the first time."""
        now = self.elapsed()
        indexed = sum(row.state == pb.GUILD_STATE_SUCCEEDED for row in self.tracked.guild_tasks.values())
        over = self.tracked.ended
        if self.list_visible_at is None and (self.tracked.guild_tasks or over):
            self.list_visible_at = now
        if self.first_guild_at is None and (indexed or over):
            self.first_guild_at = now
        if self.first_five_at is None and (indexed >= FIRST_GUILDS or over):
            self.first_five_at = now
        if self.ended_at is None and over:
            self.ended_at = now


def channels_by_guild(runs: Sequence[JobRun]) -> dict[str, int]:
    """Return, by guild, the largest number of channels that a user can see."""
    most: dict[str, int] = {}
    for run in runs:
        for row in run.tracked.guild_tasks.values():
            most[row.guild_id] = max(most.get(row.guild_id, 0), row.channel_count)
    return most
