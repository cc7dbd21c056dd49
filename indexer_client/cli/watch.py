"""
A job's progress, or what a user may see, as one sequence of messages over any number of streams.

When a stream ends early (the server drains or restarts, or the network fails), the next stream resumes with the last
resume token. The number of consecutive streams without progress is bounded.
"""

import asyncio
import dataclasses
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from typing import Any

import grpc
import grpc.aio

from indexer_client.cli import connection, errors, times
from indexer_service.v1 import indexer_pb2 as pb

HEARTBEAT_INTERVAL = 15.0
SILENCE_TIMEOUT = 3 * HEARTBEAT_INTERVAL
"""Seconds without any event after which a stream counts as lost."""
STREAM_DEADLINE = 3600.0
"""Timeout of one stream, in seconds; the next stream resumes where it ended."""
EVENTS_WITHOUT_PROGRESS = {"snapshot", "snapshot_end", "going_away", None}
"""Events that do not reset the count of failed streams: a server may send them and break every time."""
MESSAGES_BEFORE_A_BOOKMARK = {"reset", "change", "going_away", None}
RETRYABLE = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}


@dataclasses.dataclass(frozen=True, slots=True)
class RetryPolicy:
    """
    Bounds and delays of retries.

    Attributes:
        attempts: Consecutive streams without progress that are tolerated.
        initial_delay: Upper bound of the first delay in seconds; doubled for each further one.
        max_delay: Upper bound of all delays, in seconds.
        sleep: Waits between attempts; tests pass a fake.
        jitter: Source of the jitter.
    """

    attempts: int = 8
    initial_delay: float = 0.25
    max_delay: float = 5.0
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    jitter: random.Random = dataclasses.field(default_factory=random.Random)

    def delay(self, failures: int, asked: float | None) -> float:
        """Return the delay in seconds after *failures* consecutive failures, at least the RetryInfo delay *asked*."""
        ceiling = min(self.max_delay, self.initial_delay * 2.0 ** min(failures, 30))
        return (asked or 0.0) + self.jitter.uniform(ceiling / 2, ceiling)


class StreamLost(Exception):
    """The streams keep ending without progress and without an error."""


async def watch_events(
    stub: connection.Stub, job_id: str, token: str, retry_policy: RetryPolicy
) -> AsyncGenerator[pb.WatchProgressResponse, None]:
    """Yield every event of a job up to the terminal one; raises what `_resume` raises."""

    def open_stream(resume_token: str) -> Any:  # noqa: ANN401 -- a call of gRPC
        heartbeat = times.to_duration(HEARTBEAT_INTERVAL)
        request = pb.WatchProgressRequest(job_id=job_id, resume_token=resume_token, heartbeat=heartbeat)
        return stub.WatchProgress(request, timeout=STREAM_DEADLINE)

    async for message in _resume(open_stream, token, retry_policy, EVENTS_WITHOUT_PROGRESS):
        yield message
        if message.HasField("terminal"):
            return


async def watch_index(
    stub: connection.Stub, user: str, retry_policy: RetryPolicy
) -> AsyncGenerator[pb.WatchIndexResponse, None]:
    """Yield every message about what a user may see, without an end; raises what `_resume` raises."""

    def open_stream(resume_token: str) -> Any:  # noqa: ANN401 -- a call of gRPC
        heartbeat = times.to_duration(HEARTBEAT_INTERVAL)
        request = pb.WatchIndexRequest(user_id=user, resume_token=resume_token, heartbeat=heartbeat)
        return stub.WatchIndex(request, timeout=STREAM_DEADLINE)

    async for message in _resume(open_stream, "", retry_policy, MESSAGES_BEFORE_A_BOOKMARK):
        yield message


async def _resume(
    open_stream: Callable[[str], Any], token: str, retry_policy: RetryPolicy, without_progress: Collection[str | None]
) -> AsyncGenerator[Any, None]:
    """
    Yield the messages of a stream, and of further ones that resume from its last token.

    Args:
        open_stream: Opens a stream that continues after a token.
        token: Where the first stream begins; empty for a snapshot.
        retry_policy: Bounds and delays.
        without_progress: Events that do not reset the count of failed streams.

    Raises:
        grpc.aio.AioRpcError: The watch is refused, or failed more often in a row than *retry_policy* allows.
        StreamLost: The streams ended as often without an error.
    """
    failures = 0
    while True:
        asked, error_cause, leaving = None, None, False
        call = open_stream(token)
        try:
            while (message := await _next_event(call)) is not None:
                token = message.resume_token or token
                leaving = message.HasField("going_away")
                failures = failures if message.WhichOneof("event") in without_progress else 0
                yield message
        except grpc.aio.AioRpcError as error:
            if error.code() not in RETRYABLE:
                raise
            asked, error_cause = errors.retry_delay(error), error
        finally:
            call.cancel()
        failures += 1
        if failures > retry_policy.attempts:
            raise error_cause or StreamLost("the service keeps closing the progress stream")
        if not leaving or failures > 1:
            await retry_policy.sleep(retry_policy.delay(failures - 1, asked))


async def _next_event(call: Any) -> Any:  # noqa: ANN401 -- a call of gRPC, and a message of its stream
    """Return the next event; None when the stream ended, or was silent for longer than SILENCE_TIMEOUT."""
    try:
        async with asyncio.timeout(SILENCE_TIMEOUT):
            message = await call.read()
    except TimeoutError:
        return None
    return message if isinstance(message, pb.WatchProgressResponse | pb.WatchIndexResponse) else None
