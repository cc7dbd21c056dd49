"""Limits of the WatchProgress streams of one process: their number, their age, and how slowly a client may read."""

import asyncio
import collections
import random
from collections.abc import Callable
from typing import Any

from google.protobuf import message

from indexing import errors, settings

DRAINING = "DRAINING"
MAX_AGE = "MAX_AGE"
MAX_AGE_FACTOR = 1.2
JITTER = random.Random()  # noqa: S311 -- not for secrets


class StreamSlots:
    """Counts open streams, and decides when one has to end: all of them at a drain, each at an age of its own."""

    def __init__(self, config: settings.ServiceSettings, clock: Callable[[], float]) -> None:
        self._config = config
        self._clock = clock
        self._by_job: collections.Counter[str] = collections.Counter()
        self._draining = False

    def drain(self) -> None:
        """Make every stream end at its next message or heartbeat."""
        self._draining = True

    def slot(self, job_id: str) -> "StreamSlot":
        """
        Return a slot for one stream. Its `with` block yields a function that returns why the stream has to end.

        Maximum ages differ by up to 20 %, so that streams that opened together do not reconnect together.
        """
        return StreamSlot(
            self,
            job_id,
            self._clock() + self._config.max_stream_age * JITTER.uniform(2 - MAX_AGE_FACTOR, MAX_AGE_FACTOR),
        )

    def acquire(self, job_id: str) -> None:
        """Count a stream. Raises errors.TooManyWatchers: the process, or the job, has reached its limit."""
        if self._by_job.total() >= self._config.max_watchers:
            raise errors.TooManyWatchers("process")
        if self._by_job[job_id] >= self._config.max_watchers_per_job:
            raise errors.TooManyWatchers("job")
        self._by_job[job_id] += 1

    def release(self, job_id: str) -> None:
        """Stop counting a stream."""
        self._by_job[job_id] -= 1
        if not self._by_job[job_id]:
            del self._by_job[job_id]

    def end_reason(self, expires_at: float) -> str:
        """Return why a stream that may stay open until *expires_at* has to end now; empty when it has not."""
        return DRAINING if self._draining else MAX_AGE if self._clock() > expires_at else ""

    async def write(self, context: Any, item: message.Message | bytes) -> None:  # noqa: ANN401 -- a stream of anything
        """Send a message; gRPC's flow control blocks while the client is behind. Raises errors.SlowConsumer."""
        try:
            async with asyncio.timeout(self._config.slow_watcher):
                await context.write(item)
        except TimeoutError as error:
            raise errors.SlowConsumer from error


class StreamSlot:
    """One stream's slot. It is small, because thousands are held at once."""

    __slots__ = ("_expires_at", "_job_id", "_slots")

    def __init__(self, slots: StreamSlots, job_id: str, expires_at: float) -> None:
        self._slots = slots
        self._job_id = job_id
        self._expires_at = expires_at

    def __enter__(self) -> Callable[[], str]:
        """Take the slot. Raises errors.TooManyWatchers."""
        self._slots.acquire(self._job_id)
        return self.end_reason

    def __exit__(self, *_: object) -> None:
        """Give the slot back."""
        self._slots.release(self._job_id)

    def end_reason(self) -> str:
        """Return why the stream has to end now; empty when it has not."""
        return self._slots.end_reason(self._expires_at)
