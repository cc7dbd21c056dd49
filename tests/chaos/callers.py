"""Callers that follow the API's rules: they repeat UNAVAILABLE, and resume a broken watch with its token."""

import asyncio
import collections
import dataclasses
import time
from collections.abc import Sequence
from typing import Any, TypeAlias

import grpc
import grpc.aio
from google.protobuf import duration_pb2

from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc

Stub: TypeAlias = Any
"""The generated stub, whose types are those of blocking calls."""
CALL_TIMEOUT = 12.0
STREAM_TIMEOUT = 20.0
"""Seconds after which a watcher makes a new stream, in case the old one is dead."""
PAUSE = 0.2
AGAIN = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    }
)
"""Status codes of a call whose server or link fails; a reset connection may be UNKNOWN."""
ENDED = frozenset({pb.GUILD_STATE_SUCCEEDED, pb.GUILD_STATE_SKIPPED, pb.GUILD_STATE_FAILED, pb.GUILD_STATE_CANCELLED})
OPTIONS = [
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.max_pings_without_data", 0),
]


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """The last state of a guild in a job that a watcher received."""

    state: str
    error: str
    revision: int


@dataclasses.dataclass(slots=True)
class Watched:
    """
    What one watcher received of one job.

    Attributes:
        state: The job's final state, or NEVER_SEEN.
        back: Rows that left a final state, as lines of text.
        breaks: Streams that ended before the job.
    """

    job_id: str
    state: str = "NEVER_SEEN"
    error: str = ""
    total: int = 0
    rows: dict[str, Row] = dataclasses.field(default_factory=dict)
    back: list[str] = dataclasses.field(default_factory=list)
    breaks: int = 0

    def add(self, guild: pb.JobGuild) -> None:
        """Take over a row, unless an equal or a newer one is known."""
        row = Row(pb.GuildState.Name(guild.state).removeprefix("GUILD_STATE_"), guild.error, guild.revision)
        old = self.rows.get(guild.guild_id)
        if old is not None and row.revision <= old.revision:
            return
        if old is not None and _ended(old.state) and not _ended(row.state):
            self.back.append(f"guild {guild.guild_id}: {old.state} -> {row.state}")
        self.rows[guild.guild_id] = row

    @property
    def open(self) -> int:
        """Number of rows that are not final."""
        return sum(not _ended(row.state) for row in self.rows.values())


class Callers:
    """
    Callers of all services of a fleet.

    Attributes:
        until: Monotonic time at which they give up.
        problems: Answers that a caller does not repeat, by method and code.
        expected: Method and code of answers that are no problem in this scenario, such as `GetJob: NOT_FOUND`.
        repeats: Answers after which a call was repeated.
    """

    def __init__(self, addresses: Sequence[str]) -> None:
        self._channels = [grpc.aio.insecure_channel(address, options=OPTIONS) for address in addresses]
        self.stubs: list[Stub] = [pb_grpc.IndexerServiceStub(channel) for channel in self._channels]
        self.until = time.monotonic()
        self.problems: collections.Counter[str] = collections.Counter()
        self.expected: set[str] = set()
        self.repeats: collections.Counter[str] = collections.Counter()

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(channel.close(None) for channel in self._channels))

    async def call(self, method: str, request: object, number: int = 0) -> Any:  # noqa: ANN401 -- any response
        """Return the response of the first service that answers; None, and a problem, when none does."""
        while True:
            try:
                return await getattr(self._stub(number), method)(request, timeout=CALL_TIMEOUT)
            except grpc.aio.AioRpcError as error:
                code = error.code()
                if code not in AGAIN or time.monotonic() > self.until:
                    self.problem(method, error)
                    return None
                self.repeats[f"{method}: {code.name}"] += 1
            number += 1
            await asyncio.sleep(PAUSE)

    def problem(self, method: str, error: grpc.aio.AioRpcError) -> None:
        """Count an error that is not expected."""
        if (name := f"{method}: {error.code().name}") not in self.expected:
            self.problems[f"{name}: {(error.details() or '')[:80]}"] += 1

    async def start(self, user_id: str, *, force: bool = False, number: int = 0) -> str:
        """Start or join a user's job; returns its id, or an empty one when no start was accepted."""
        request = pb.StartIndexingRequest(user_id=user_id, force=force, wait=duration_pb2.Duration())
        answer = await self.call("StartIndexing", request, number)
        return str(answer.job.job_id) if answer is not None else ""

    async def watch(
        self, job_id: str, number: int = 0, *, away_until: "asyncio.Task[Watched] | None" = None
    ) -> Watched:
        """
        Watch a job to its end, at the next service each time the stream ends.

        With *away_until*, leave after the first change, and come back with its token when that watcher is
        done. A watcher that left before would get a snapshot, because it may have missed updates.
        """
        seen, token, leaves = Watched(job_id), "", False
        while time.monotonic() < self.until:
            request = pb.WatchProgressRequest(
                job_id=job_id, resume_token=token, heartbeat=duration_pb2.Duration(seconds=5)
            )
            stream = self._stub(number).WatchProgress(request, timeout=STREAM_TIMEOUT)
            try:
                async for event in stream:
                    before, token = token, event.resume_token or token
                    if self._take(seen, event):
                        return seen
                    # All messages of a change but the last one have the token of before it.
                    if away_until is not None and event.HasField("guild") and token != before:
                        leaves = True
                        break
            except grpc.aio.AioRpcError as error:
                if error.code() not in AGAIN:
                    self.problem("WatchProgress", error)
                    return seen
            if away_until is not None and leaves:
                stream.cancel()
                await asyncio.wait({away_until})
                away_until = None
            seen.breaks += 1
            number += 1
            await asyncio.sleep(PAUSE)
        return seen

    async def channels(self, user_id: str) -> dict[str, set[str]] | None:
        """Return the ids of the channels that a user is shown, by guild; None when no service answers."""
        found: dict[str, set[str]] = {}
        token = ""
        while True:
            request = pb.ListChannelsRequest(user_id=user_id, page_size=500, page_token=token)
            page = await self.call("ListChannels", request)
            if page is None:
                return None
            for channel in page.channels:
                found.setdefault(channel.guild_id, set()).add(channel.channel_id)
            token = page.next_page_token
            if not token:
                return found

    def _stub(self, number: int) -> Stub:
        return self.stubs[number % len(self.stubs)]

    @staticmethod
    def _take(seen: Watched, event: pb.WatchProgressResponse) -> bool:
        """Take over an event; returns whether it is the end of the job."""
        for guild in [event.guild] if event.HasField("guild") else event.snapshot.guilds:
            seen.add(guild)
        if not event.HasField("terminal"):
            return False
        job = event.terminal.job
        seen.state = pb.JobState.Name(job.state).removeprefix("JOB_STATE_")
        seen.error, seen.total = job.error, job.progress.total
        return True


def _ended(state: str) -> bool:
    return pb.GuildState.Value(f"GUILD_STATE_{state}") in ENDED
