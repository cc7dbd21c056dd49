"""API callers: each starts a user's job, watches it, and records when progress becomes visible."""

import asyncio
import collections
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeAlias

import grpc
import grpc.aio

from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc

Stub: TypeAlias = Any
"""The generated stub, whose types are those of blocking calls."""
STREAMS_PER_CHANNEL = 50
DEADLINE = 30.0
SOON, LATER = 0.025, 0.5
"""Shortest and longest pause before a stream is opened again."""
PAUSE = 1.0
"""Seconds before a failed start is repeated."""
RETRYABLE = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.ABORTED,
}


@dataclasses.dataclass
class Caller:
    """
    One user's job as its caller sees it; times are seconds since the start, None until known.

    Attributes:
        began: Monotonic time of the StartIndexing call.
        answered: Response time of StartIndexing.
        answered_channels: Guilds with a channel count in that response.
        first_channels: Time until the first guild has a channel count.
        first_guild: Time until the first guild is indexed.
        channels: Time until the latest guild so far has a channel count.
        ended: Time until the job has ended.
        state: The latest known state of the job.
        refused: Calls and streams that failed with a retryable status code.
        problem: The error that is not retryable; empty without one.
    """

    user_id: str
    began: float = 0.0
    answered: float | None = None
    answered_channels: int = 0
    first_channels: float | None = None
    first_guild: float | None = None
    channels: float | None = None
    ended: float | None = None
    state: str = "NOT_STARTED"
    guilds: int = 0
    refused: "collections.Counter[str]" = dataclasses.field(default_factory=collections.Counter)
    problem: str = ""
    job_id: str = ""
    has_guild: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    is_answered: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    _known: set[str] = dataclasses.field(default_factory=set)
    _token: str = ""

    async def index(self, stub: Stub, after: float = 0.0) -> None:
        """Start the job after a pause and watch it to its end."""
        await asyncio.sleep(after)
        self.began = time.monotonic()
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._start(stub))
                both.create_task(self._watch(stub))
        except* grpc.aio.AioRpcError as group:
            error: Any = group.exceptions[0]
            self.problem = f"{error.code().name}: {error.details()}"

    async def visit(self, stub: Stub) -> None:
        """Start the job, and cancel it once a guild is indexed and StartIndexing has answered."""
        working = asyncio.create_task(self.index(stub))
        seen = asyncio.create_task(self._served())
        try:
            await asyncio.wait({working, seen}, return_when=asyncio.FIRST_COMPLETED)
            if self.job_id:
                await stub.CancelJob(pb.CancelJobRequest(job_id=self.job_id), timeout=DEADLINE)
        finally:
            working.cancel()
            seen.cancel()
            await asyncio.gather(working, seen, return_exceptions=True)

    def _elapsed(self) -> float:
        return time.monotonic() - self.began

    async def _served(self) -> None:
        await self.has_guild.wait()
        await self.is_answered.wait()

    async def _start(self, stub: Stub) -> None:
        while True:
            try:
                answer = await stub.StartIndexing(pb.StartIndexingRequest(user_id=self.user_id), timeout=DEADLINE)
            except grpc.aio.AioRpcError as error:
                await self._retry_or_raise(error, PAUSE)
            else:
                self.answered = self._elapsed()
                self.answered_channels = sum(row.HasField("channel_count") for row in answer.guilds)
                self._see_job(answer.job)
                self._see_rows(answer.guilds)
                self.is_answered.set()
                return

    async def _watch(self, stub: Stub) -> None:
        pause = SOON
        while self.ended is None:
            request = pb.WatchProgressRequest(user_id=self.user_id, resume_token=self._token)
            try:
                async for event in stub.WatchProgress(request):
                    self._see(event)
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.NOT_FOUND and not self._token:  # the job is not stored yet
                    await asyncio.sleep(pause)
                else:
                    await self._retry_or_raise(error, pause)
            pause = min(2 * pause, LATER)

    async def _retry_or_raise(self, error: grpc.aio.AioRpcError, pause: float) -> None:
        if error.code() not in RETRYABLE:
            raise error
        self.refused[error.code().name] += 1
        await asyncio.sleep(pause)

    def _see(self, event: pb.WatchProgressResponse) -> None:
        self._token = event.resume_token or self._token
        kind = event.WhichOneof("event")
        if kind == "snapshot":
            self._see_job(event.snapshot.job)
            self._see_rows(event.snapshot.guilds)
        elif kind == "guild":
            self._see_rows([event.guild])
        elif kind == "job":
            self._see_job(event.job)
        elif kind == "terminal":
            self._see_job(event.terminal.job)
            self.ended = self._elapsed()

    def _see_job(self, job: pb.Job) -> None:
        self.job_id = job.job_id
        self.guilds = max(self.guilds, job.progress.total)
        if self.ended is None:
            self.state = pb.JobState.Name(job.state).removeprefix("JOB_STATE_")

    def _see_rows(self, rows: Sequence[pb.JobGuild]) -> None:
        for row in rows:
            if row.HasField("channel_count") and row.guild_id not in self._known:
                self._known.add(row.guild_id)
                self.channels = self._elapsed()
                self.first_channels = self.channels if self.first_channels is None else self.first_channels
            if row.state == pb.GUILD_STATE_SUCCEEDED and self.first_guild is None:
                self.first_guild = self._elapsed()
                self.has_guild.set()


@contextlib.asynccontextmanager
async def stubs(address: str, users: int) -> AsyncIterator[list[Stub]]:
    """Open enough connections for the streams of that many users."""
    async with contextlib.AsyncExitStack() as opened:
        made = []
        for _ in range(-(-users // STREAMS_PER_CHANNEL)):
            options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
            channel = await opened.enter_async_context(grpc.aio.insecure_channel(address, options=options))
            made.append(pb_grpc.IndexerServiceStub(channel))
        yield made


async def free_permits(stub: Stub, user_ids: Sequence[str]) -> bool | None:
    """Return whether the global and one of the users' limits have a free permit; None if the call fails."""
    try:
        answer = await stub.GetRateLimits(pb.GetRateLimitsRequest(user_ids=user_ids[:50]), timeout=PAUSE)
    except grpc.aio.AioRpcError:
        return None
    free: dict[str, list[bool]] = {}
    for budget in answer.budgets:
        free.setdefault(budget.kind, []).append(budget.free > 0 and not budget.HasField("pause_end_time"))
    return any(free.get("global", [])) and any(free.get("user", []))
