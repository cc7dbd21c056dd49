"""One user's job in a demonstration: started, followed to its end, and timed as its caller sees it."""

import asyncio
import contextlib
from collections.abc import Callable

import grpc
import grpc.aio

from indexer_client.cli import connection, errors, job_state, jobs, watch
from indexer_service.v1 import indexer_pb2 as pb

FEW = 5
"""How many guilds make the first few."""
LOOK = 0.05
"""Seconds between two looks for the new job, for one user; more users look less often, so as not to be a load."""
USERS_PER_LOOK = 4
START_DEADLINE = 30.0


class Run:
    """
    A job and its times, in seconds since the StartIndexing call.

    Attributes:
        listed: When the guild list could be seen; None when it could not yet, as with all times.
        first: When the first guild had its channels.
        few: When the first five had, or all if there are fewer.
        ended: When the job was over.
        answered: When StartIndexing answered.
        indexed_in_answer: Guilds whose channels were there by then.
        problem: Why there is no job, in one line; empty when there is one.
    """

    def __init__(self, user: str, clock: Callable[[], float]) -> None:
        self.user = user
        self.board = job_state.Board()
        self.board.job.user_id = user
        self.listed: float | None = None
        self.first: float | None = None
        self.few: float | None = None
        self.ended: float | None = None
        self.answered: float | None = None
        self.indexed_in_answer = 0
        self.problem = ""
        self._clock = clock
        self._began = clock()

    def elapsed(self) -> float:
        """Return the seconds since the start, up to the end of the job."""
        return self._clock() - self._began if self.ended is None else self.ended

    async def run(self, stub: connection.Stub, *, users: int) -> None:
        """Start the job and follow it to its end; a failure is left in `problem`."""
        try:
            before = await self._newest(stub)
            self._began = self._clock()
            async with asyncio.TaskGroup() as both:
                start = both.create_task(self._start(stub))
                both.create_task(self._follow(stub, start, before, LOOK * max(1.0, users / USERS_PER_LOOK)))
        except* grpc.aio.AioRpcError as group:
            error = group.exceptions[0]
            assert isinstance(error, grpc.aio.AioRpcError)  # noqa: S101 -- for the type checker
            self.problem = str(errors.explain(error, address="the service", user=self.user))
        except* watch.Lost as lost:
            self.problem = str(lost.exceptions[0])

    async def _start(self, stub: connection.Stub) -> str:
        request = jobs.start_request(self.user, wait=None, force=False)
        answer = await stub.StartIndexing(request, timeout=START_DEADLINE)
        self.answered = self.elapsed()
        self.indexed_in_answer = sum(row.HasField("channel_count") for row in answer.guilds)
        self.board.start(answer)
        self._note()
        return answer.job.job_id

    async def _follow(self, stub: connection.Stub, start: "asyncio.Task[str]", before: str, pause: float) -> None:
        """Follow the job from as soon as it can be found, which is long before the start is answered."""
        job_id = before
        while job_id == before and not start.done():
            await asyncio.wait([start], timeout=pause)
            job_id = await self._newest(stub)
        if job_id == before:
            job_id = await start
        async with contextlib.aclosing(watch.messages(stub, job_id, "", watch.Patience())) as messages:
            async for message in messages:
                self.board.apply(message)
                self._note()

    async def _newest(self, stub: connection.Stub) -> str:
        request = pb.ListJobsRequest(user_id=self.user, page_size=1)
        answer = await stub.ListJobs(request, timeout=connection.DEADLINE)
        return answer.jobs[0].job_id if answer.jobs else ""

    def _note(self) -> None:
        """Keep the times at which something could be seen for the first time."""
        now = self.elapsed()
        indexed = sum(row.state == pb.GUILD_STATE_SUCCEEDED for row in self.board.rows.values())
        over = self.board.ended
        if self.listed is None and (self.board.rows or over):
            self.listed = now
        if self.first is None and (indexed or over):
            self.first = now
        if self.few is None and (indexed >= FEW or over):
            self.few = now
        if self.ended is None and over:
            self.ended = now
