"""A watcher that is away while its job ends."""

import asyncio
import time
from collections.abc import AsyncIterator

from indexer_service.v1 import indexer_pb2 as pb
from tests.chaos import callers

QUEUED, DONE = pb.GUILD_STATE_QUEUED, pb.GUILD_STATE_SUCCEEDED


class Stream:
    """A stream that has some events and then stays silent."""

    def __init__(self, events: list[pb.WatchProgressResponse]) -> None:
        self._events = events
        self.cancelled = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[pb.WatchProgressResponse]:
        for event in self._events:
            yield event
        await asyncio.Event().wait()

    def cancel(self) -> bool:
        """End the stream."""
        self.cancelled.set()
        return True


class Service:
    """
    A service that tells a resuming watcher of the job's end, and not how its guilds ended.

    Attributes:
        asked: Resume tokens of the watches.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        rows = [pb.JobGuild(guild_id=guild, state=QUEUED, revision=1) for guild in ("1", "2")]
        job = pb.Job(job_id="j", state=pb.JOB_STATE_SUCCEEDED, progress=pb.Progress(total=2))
        self.first = Stream(
            [
                pb.WatchProgressResponse(snapshot=pb.Snapshot(guilds=rows), resume_token="t0"),
                pb.WatchProgressResponse(guild=pb.JobGuild(guild_id="2", state=QUEUED, revision=2), resume_token="t0"),
                pb.WatchProgressResponse(guild=pb.JobGuild(guild_id="1", state=DONE, revision=2), resume_token="t1"),
            ]
        )
        self.second = Stream([pb.WatchProgressResponse(terminal=pb.Terminal(job=job), resume_token="t2")])

    def WatchProgress(self, request: pb.WatchProgressRequest, timeout: float) -> Stream:  # noqa: ARG002, N802 -- gRPC's names
        """Watch a job."""
        self.asked.append(request.resume_token)
        return self.second if request.resume_token else self.first


async def test_a_watcher_that_is_away_resumes_after_the_other_has_seen_the_end() -> None:
    """With the token of a change, so that a service that skips the rows of the end is found."""
    service = Service()
    caller = callers.Callers(["localhost:1"])
    caller.stubs, caller.until = [service], time.monotonic() + 10.0
    ended = asyncio.Event()

    async def other() -> callers.Watched:
        await ended.wait()
        return callers.Watched("j")

    away = asyncio.create_task(caller.watch("j", away_until=asyncio.create_task(other())))
    await service.first.cancelled.wait()
    before = list(service.asked)
    ended.set()
    seen = await away
    await caller.close()

    assert (before, service.asked) == ([""], ["", "t1"])
    assert (seen.state, seen.open) == ("SUCCEEDED", 1)
