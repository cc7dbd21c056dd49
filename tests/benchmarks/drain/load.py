"""Callers and watchers that follow the API's rules: they retry UNAVAILABLE, and resume with their token."""

import asyncio
import collections
import contextlib
import dataclasses
import functools
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import grpc.aio
from google.protobuf import duration_pb2

from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc

Stub: TypeAlias = Any
"""The generated stub, whose types are those of blocking calls."""
TIMEOUT = 30.0
"""Seconds for which a caller retries before its call counts as failed."""
PAUSE = 0.1
LAST_JOBS = 120.0
"""Seconds in which the last jobs must end."""
DEADLINE = 60.0
SHORT = duration_pb2.Duration(seconds=1)


@dataclasses.dataclass
class Observations:
    """Observations of all callers; `failures` must stay empty."""

    answers: int = 0
    repeated: int = 0
    jobs: int = 0
    units: int = 0
    going_away: int = 0
    streams: int = 0
    failures: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)


class Load:
    """Callers and watchers of every user, until the block ends."""

    def __init__(self, addresses: list[str], user_ids: list[str], seen: Observations) -> None:
        self.seen = seen
        self._addresses = addresses
        self._user_ids = user_ids
        self._next = itertools.cycle(range(len(addresses)))
        self._ending = False
        self.watched: collections.Counter[str] = collections.Counter()
        """Number of open streams by the address of their service."""

    @contextlib.asynccontextmanager
    async def running(self, *, finish_jobs: bool = True, browsing: bool = True) -> AsyncIterator[None]:
        """Run jobs of every user; at the end, *finish_jobs* waits until the last jobs have ended."""
        # round_robin over all services, as with a headless Service in Kubernetes.
        options = [
            ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}'),
            ("grpc.enable_http_proxy", 0),
        ]
        async with contextlib.AsyncExitStack() as stack:
            everyone = await stack.enter_async_context(
                grpc.aio.insecure_channel("ipv4:" + ",".join(self._addresses), options=options)
            )
            ones = [await stack.enter_async_context(grpc.aio.insecure_channel(each)) for each in self._addresses]
            api: Stub = pb_grpc.IndexerServiceStub(everyone)
            streams: list[Stub] = [pb_grpc.IndexerServiceStub(channel) for channel in ones]
            tasks = [asyncio.create_task(self._index(api, streams, user_id)) for user_id in self._user_ids]
            if browsing:
                tasks += [asyncio.create_task(self._read(api, user_id)) for user_id in self._user_ids]
            try:
                yield
            finally:
                self._ending = True
                for task in [] if finish_jobs else tasks:
                    task.cancel()
                await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=not finish_jobs), LAST_JOBS)

    async def _index(self, api: Stub, streams: list[Stub], user_id: str) -> None:
        """Index the user repeatedly, with a watcher and a WaitJob caller for each job."""
        while not self._ending:
            start = pb.StartIndexingRequest(user_id=user_id, force=True, wait=SHORT)
            started = await self._call("StartIndexing", functools.partial(api.StartIndexing, start, timeout=DEADLINE))
            if started is None:
                continue
            job_id = started.job.job_id
            ended, _ = await asyncio.gather(self._follow(streams, job_id, started.watch_token), self._wait(api, job_id))
            self.seen.jobs += 1
            self.seen.units += ended.progress.total
            if ended.state != pb.JOB_STATE_SUCCEEDED:
                self.seen.failures[f"a job ended as {pb.JobState.Name(ended.state)}: {ended.error}"] += 1
            if ended.progress.total != ended.progress.succeeded + ended.progress.skipped or not ended.progress.total:
                self.seen.failures["a guild task was lost"] += 1

    async def _wait(self, api: Stub, job_id: str) -> None:
        asked = pb.WaitJobRequest(job_id=job_id)
        while True:
            answer = await self._call("WaitJob", functools.partial(api.WaitJob, asked, timeout=DEADLINE))
            if answer is None or answer.job.state != pb.JOB_STATE_RUNNING:
                return

    async def _read(self, api: Stub, user_id: str) -> None:
        """List guilds and channels repeatedly."""
        while not self._ending:
            guilds = pb.ListGuildsRequest(user_id=user_id)
            await self._call("ListGuilds", functools.partial(api.ListGuilds, guilds, timeout=DEADLINE))
            channels = pb.ListChannelsRequest(user_id=user_id, page_size=50)
            await self._call("ListChannels", functools.partial(api.ListChannels, channels, timeout=DEADLINE))
            await asyncio.sleep(PAUSE)

    async def _call(self, name: str, ask: Callable[[], Awaitable[Any]]) -> Any:  # noqa: ANN401 -- any answer
        """Call until a response arrives; only UNAVAILABLE is retried."""
        until = asyncio.get_running_loop().time() + TIMEOUT
        while asyncio.get_running_loop().time() < until:
            try:
                answer = await ask()
            except grpc.aio.AioRpcError as problem:
                if problem.code() != grpc.StatusCode.UNAVAILABLE:
                    self.seen.failures[f"{name}: {problem.code().name}: {problem.details()}"] += 1
                    return None
                self.seen.repeated += 1
                await asyncio.sleep(PAUSE)
            else:
                self.seen.answers += 1
                return answer
        self.seen.failures[f"{name}: UNAVAILABLE for {TIMEOUT:g} s"] += 1
        return None

    async def _follow(self, streams: list[Stub], job_id: str, token: str) -> pb.Job:
        """Watch a job to its end, at any service that answers."""
        while True:
            asked = pb.WatchProgressRequest(job_id=job_id, resume_token=token)
            last: pb.WatchProgressResponse | None = None
            ended = False
            self.seen.streams += 1
            which = next(self._next)
            try:
                async for event in streams[which].WatchProgress(asked, timeout=DEADLINE):
                    if last is None:
                        self.watched[self._addresses[which]] += 1
                    last, token = event, event.resume_token
                ended = True
            except grpc.aio.AioRpcError as problem:
                self._cut(problem, last)
                await asyncio.sleep(PAUSE)
            finally:
                if last is not None:
                    self.watched[self._addresses[which]] -= 1
            if last is not None and last.HasField("terminal"):
                return last.terminal.job
            if last is not None and last.HasField("going_away"):
                self.seen.going_away += 1
            elif ended:
                self.seen.failures["a stream ended without going_away"] += 1

    def _cut(self, problem: grpc.aio.AioRpcError, last: pb.WatchProgressResponse | None) -> None:
        """Record a failure, unless the stream had not begun and its service is unavailable."""
        if last is not None:
            self.seen.failures[f"a stream was cut without going_away: {problem.code().name}: {problem.details()}"] += 1
        elif problem.code() != grpc.StatusCode.UNAVAILABLE:
            self.seen.failures[f"WatchProgress: {problem.code().name}: {problem.details()}"] += 1
