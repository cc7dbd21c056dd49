"""What the two callers do: jobs, watches and reads, with the seconds that each takes."""

import asyncio
import contextlib
import dataclasses
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, TypeAlias

import grpc
import grpc.aio
import pymongo
import pymongo.database
from google.protobuf import duration_pb2

from devstack import users
from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc

Stub: TypeAlias = Any
"""The generated stub, whose types are those of blocking calls."""
DEADLINE = 30.0
LONGEST_JOB = 60
"""Seconds of the longest wait for a job in one call."""
STREAMS_PER_CHANNEL = 50
LOOK = 0.01
"""Seconds between two looks at a job's document."""
READ_PAUSE = 0.02
"""Seconds between two reads of the light caller."""
WATCH_PAUSE = 0.1
"""Seconds between two streams of the light caller."""
PAUSE = 0.1
PUTS = 8
"""Credentials that are stored at once."""
STARTS = 4
"""Jobs that the heavy caller starts at once; each call waits for its best guilds."""
LONGEST_LIGHT_JOB = 90.0
"""Seconds after which a job of the light caller is given up, and counts as that long."""


class Caller:
    """A calling service: its token, and connections to the service."""

    def __init__(self, address: str, token: str, channels: int = 1) -> None:
        self._metadata = (("authorization", f"Bearer {token}"),)
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
        self._channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(channels)]
        self._stubs: list[Stub] = [pb_grpc.IndexerServiceStub(channel) for channel in self._channels]

    async def call(self, method: str, timeout: float = DEADLINE, **fields: Any) -> Any:  # noqa: ANN401, ASYNC109 -- any message
        """Call a method."""
        request = getattr(pb, f"{method}Request")(**fields)
        return await getattr(self._stubs[0], method)(request, timeout=timeout, metadata=self._metadata)

    async def put(self, user: users.User) -> None:
        """Store a user's credential."""
        await self.call(
            "PutCredential",
            user_id=user.id,
            access_token=user.token,
            refresh_token=user.refresh_token,
            scopes=user.scopes,
        )

    @contextlib.asynccontextmanager
    async def watching(self, job_id: str, number: int = 0) -> AsyncIterator[Any]:
        """Open a job's stream on one of the channels."""
        stub = self._stubs[number // STREAMS_PER_CHANNEL % len(self._stubs)]
        stream = stub.WatchProgress(pb.WatchProgressRequest(job_id=job_id), metadata=self._metadata)
        try:
            yield stream
        finally:
            stream.cancel()

    async def close(self) -> None:
        """Close the connections."""
        for channel in self._channels:
            await channel.close(None)


async def put_all(caller: Caller, people: Sequence[users.User]) -> None:
    """Store the credentials of users."""
    places = asyncio.Semaphore(PUTS)

    async def put(user: users.User) -> None:
        async with places:
            await caller.put(user)

    await asyncio.gather(*map(put, people))


@dataclasses.dataclass
class Seen:
    """
    What the light caller saw, in seconds.

    Attributes:
        jobs: Of each job, by its number of guilds.
        turns: Of each turn at a worker, from the moment at which it was due until it began.
        watches: From opening a stream to its first message.
        reads: Of a page of channels.
        given_up: Jobs that took too long.
    """

    jobs: dict[int, list[float]] = dataclasses.field(default_factory=dict)
    turns: list[float] = dataclasses.field(default_factory=list)
    watches: list[float] = dataclasses.field(default_factory=list)
    reads: list[float] = dataclasses.field(default_factory=list)
    given_up: int = 0

    def row(self) -> dict[str, float]:
        """Return the figures of a table's row: seconds of jobs, the others in ms."""
        found = {f"job_{guilds}_s": round(statistics.median(times), 2) for guilds, times in self.jobs.items()}
        found["turn_wait_ms_max"] = round(1000 * max(self.turns, default=0.0), 1)
        for name, times in (("watch", self.watches), ("read", self.reads)):
            ordered = sorted(times)
            found[f"{name}_ms_p50"] = round(1000 * ordered[len(ordered) // 2], 1)
            found[f"{name}_ms_p99"] = round(1000 * ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))], 1)
        return found


class Light:
    """The light caller: one job after the other, watched, and reads meanwhile."""

    def __init__(self, caller: Caller, database: "pymongo.database.Database[Any]") -> None:
        self._caller = caller
        self._database = database

    async def work(self, people: Sequence[tuple[users.User, int]]) -> Seen:
        """Index users, each with a number of guilds; returns what was seen."""
        seen = Seen()
        for user, guilds in people:
            await self._index(user, guilds, seen)
        return seen

    async def _index(self, user: users.User, guilds: int, seen: Seen) -> None:
        began = time.monotonic()
        started = await self._caller.call("StartIndexing", user_id=user.id)
        job_id, state = started.job.job_id, started.job.state
        others = (self._read(user, seen), self._watch(job_id, seen), self._note_turns(job_id, seen))
        helpers = [asyncio.create_task(work) for work in others]
        while state == pb.JOB_STATE_RUNNING and (left := began + LONGEST_LIGHT_JOB - time.monotonic()) >= 1:
            wait = duration_pb2.Duration(seconds=min(LONGEST_JOB, int(left)))
            answer = await self._caller.call("WaitJob", LONGEST_JOB + DEADLINE, job_id=job_id, wait=wait)
            state = answer.job.state
        seen.jobs.setdefault(guilds, []).append(time.monotonic() - began)
        for helper in helpers:
            helper.cancel()
        for ended in await asyncio.gather(*helpers, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended
        if state == pb.JOB_STATE_RUNNING:
            seen.given_up += 1
            await self._caller.call("CancelJob", job_id=job_id)
        assert state in {pb.JOB_STATE_SUCCEEDED, pb.JOB_STATE_RUNNING}, state

    async def _watch(self, job_id: str, seen: Seen) -> None:
        while True:
            opened = time.monotonic()
            async with self._caller.watching(job_id) as stream:
                await stream.read()
            seen.watches.append(time.monotonic() - opened)
            await asyncio.sleep(WATCH_PAUSE)

    async def _read(self, user: users.User, seen: Seen) -> None:
        while True:
            began = time.monotonic()
            await self._caller.call("ListChannels", user_id=user.id)
            seen.reads.append(time.monotonic() - began)
            await asyncio.sleep(READ_PAUSE)

    async def _note_turns(self, job_id: str, seen: Seen) -> None:
        """Note how late each turn begins. One that is due and begins between two looks waits less than a look."""
        before: dict[str, Any] = {}
        while True:
            row = await asyncio.to_thread(
                self._database["jobs"].find_one, {"_id": job_id}, {"turn": 1, "next_turn_at": 1, "began_at": 1}
            )
            if row and before and row["turn"] > before["turn"]:
                seen.turns.append(max(0.0, row["began_at"] - before["next_turn_at"]))
            before = row or before
            await asyncio.sleep(LOOK)


class Heavy:
    """The heavy caller: all its users' jobs, a few starts at a time, a stream for each, and reads without a pause."""

    def __init__(self, caller: Caller, people: Sequence[users.User], readers: int) -> None:
        self._caller = caller
        self._people = people
        self._readers = readers
        self._starts = asyncio.Semaphore(STARTS)
        self.all_started = asyncio.Event()
        self.started = 0
        self.ended = 0

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Work until the block ends."""
        tasks = [asyncio.create_task(self._index(number, user)) for number, user in enumerate(self._people)]
        tasks += [asyncio.create_task(self._read(number)) for number in range(self._readers)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _index(self, number: int, user: users.User) -> None:
        async with self._starts:
            job_id = (await self._patiently("StartIndexing", user_id=user.id)).job.job_id
        self.started += 1
        if self.started == len(self._people):
            self.all_started.set()
        async with self._caller.watching(job_id, number) as stream:
            async for _ in stream:
                pass
        self.ended += 1

    async def _read(self, number: int) -> None:
        while True:
            user = self._people[number % len(self._people)]
            await self._patiently("ListChannels", user_id=user.id)
            number += self._readers

    async def _patiently(self, method: str, **fields: Any) -> Any:  # noqa: ANN401 -- any message
        while True:
            try:
                return await self._caller.call(method, **fields)
            except grpc.aio.AioRpcError as error:
                if error.code() not in {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE}:
                    raise
                await asyncio.sleep(PAUSE)
