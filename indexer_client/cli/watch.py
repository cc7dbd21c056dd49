"""
A job's progress as one unbroken sequence of messages, whatever happens to the streams that carry it.

A stream may end because its server drains, restarts or lost its way, or because the network did: each time the watch
goes on with the last resume token. Attempts in a row that bring no news are bounded; news begin the count anew.
"""

import asyncio
import dataclasses
import random
from collections.abc import AsyncGenerator, Awaitable, Callable

import grpc
import grpc.aio

from indexer_client.cli import connection, errors, times
from indexer_service.v1 import indexer_pb2 as pb

HEARTBEAT_INTERVAL = 15.0
SILENCE_TIMEOUT = 3 * HEARTBEAT_INTERVAL
"""Seconds without any message after which a stream counts as lost."""
STREAM_DEADLINE = 3600.0
"""Seconds that one stream may last; the next one goes on where it ended."""
EVENTS_WITHOUT_PROGRESS = {"snapshot", "snapshot_end", "going_away", None}
"""A server that sends these and then breaks, every time, is not on its way to the end of the job."""
RETRYABLE = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}


@dataclasses.dataclass(frozen=True, slots=True)
class RetryPolicy:
    """
    How often and how quickly to come back.

    Attributes:
        attempts: Streams in a row that may end without news.
        initial_delay: Longest pause before the second attempt in seconds; doubled for each further one.
        max_delay: Bound on that, in seconds.
        sleep: What waits; tests pass something that does not.
        jitter: Where the jitter comes from.
    """

    attempts: int = 8
    initial_delay: float = 0.25
    max_delay: float = 5.0
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    jitter: random.Random = dataclasses.field(default_factory=random.Random)

    def delay(self, failures: int, asked: float | None) -> float:
        """Return how long to wait after so many failures in a row, at least as long as the server *asked* for."""
        ceiling = min(self.max_delay, self.initial_delay * 2.0 ** min(failures, 30))
        return (asked or 0.0) + self.jitter.uniform(ceiling / 2, ceiling)


class StreamLost(Exception):
    """The streams end again and again without news and without an error that would say why."""


async def watch_events(
    stub: connection.Stub, job_id: str, token: str, retry_policy: RetryPolicy
) -> AsyncGenerator[pb.WatchProgressResponse, None]:
    """
    Yield every message up to the terminal one.

    Raises:
        grpc.aio.AioRpcError: The watch is refused, or broke more often in a row than *retry_policy* allows.
        StreamLost: The same, without an error.
    """
    failures = 0
    while True:
        asked, error_cause, leaving = None, None, False
        request = pb.WatchProgressRequest(
            job_id=job_id, resume_token=token, heartbeat=times.to_duration(HEARTBEAT_INTERVAL)
        )
        call = stub.WatchProgress(request, timeout=STREAM_DEADLINE)
        try:
            while (message := await _next_event(call)) is not None:
                token = message.resume_token or token
                leaving = message.HasField("going_away")
                failures = failures if message.WhichOneof("event") in EVENTS_WITHOUT_PROGRESS else 0
                yield message
                if message.HasField("terminal"):
                    return
        except grpc.aio.AioRpcError as error:
            if error.code() not in RETRYABLE:
                raise
            asked, error_cause = errors.retry_delay(error), error
        finally:
            call.cancel()
        failures += 1
        if failures > retry_policy.attempts:
            raise error_cause or StreamLost(
                "the server ends the watch again and again; the job goes on without being watched"
            )
        if not leaving or failures > 1:
            await retry_policy.sleep(retry_policy.delay(failures - 1, asked))


async def _next_event(
    call: "grpc.aio.UnaryStreamCall[pb.WatchProgressRequest, pb.WatchProgressResponse]",
) -> pb.WatchProgressResponse | None:
    """Return the next message; None when the stream is over, or silent for so long that it must be dead."""
    try:
        async with asyncio.timeout(SILENCE_TIMEOUT):
            message = await call.read()
    except TimeoutError:
        return None
    return message if isinstance(message, pb.WatchProgressResponse) else None
