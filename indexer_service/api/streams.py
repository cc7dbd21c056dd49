"""The WatchProgress streams of one process: how many, for how long, and how slowly one may be read."""

import asyncio
import collections
import random
from collections.abc import Callable
from typing import Any

from google.protobuf import message

from indexing import errors, settings

DRAINING = "DRAINING"
MAX_AGE = "MAX_AGE"
DICE = random.Random()  # noqa: S311 -- jitter


class Streams:
    """Counts streams and says when one has to end: all at the drain, each at an age of its own."""

    def __init__(self, config: settings.ServiceSettings, clock: Callable[[], float]) -> None:
        self._config = config
        self._clock = clock
        self._by_job: collections.Counter[str] = collections.Counter()
        self._draining = False

    def drain(self) -> None:
        """Make every stream end at its next chance."""
        self._draining = True

    def place(self, job_id: str) -> "Place":
        """
        Return a place for one stream, held in a `with` block, which is given what says why the stream has to end now.

        Ages differ by up to 20 %, so that streams that began together do not come back together.
        """
        return Place(self, job_id, self._clock() + self._config.max_stream_age * DICE.uniform(0.8, 1.2))

    def enter(self, job_id: str) -> None:
        """Count a stream. Raises errors.TooManyWatchers: Of this process, or of this job."""
        if self._by_job.total() >= self._config.max_watchers:
            raise errors.TooManyWatchers("process")
        if self._by_job[job_id] >= self._config.max_watchers_per_job:
            raise errors.TooManyWatchers("job")
        self._by_job[job_id] += 1

    def leave(self, job_id: str) -> None:
        """Count it no more."""
        self._by_job[job_id] -= 1
        if not self._by_job[job_id]:
            del self._by_job[job_id]

    def why_end(self, ends: float) -> str:
        """Return why a stream that may live until *ends* has to end now, or nothing."""
        return DRAINING if self._draining else MAX_AGE if self._clock() > ends else ""

    async def write(self, context: Any, item: message.Message | bytes) -> None:  # noqa: ANN401 -- a stream of anything
        """Send a message; gRPC's flow control holds it while the reader is behind. Raises errors.SlowConsumer."""
        try:
            async with asyncio.timeout(self._config.slow_watcher):
                await context.write(item)
        except TimeoutError as error:
            raise errors.SlowConsumer from error


class Place:
    """One stream's place; small, because thousands are held at once."""

    __slots__ = ("_ends", "_job_id", "_streams")

    def __init__(self, streams: Streams, job_id: str, ends: float) -> None:
        self._streams = streams
        self._job_id = job_id
        self._ends = ends

    def __enter__(self) -> Callable[[], str]:
        """Take the place. Raises errors.TooManyWatchers."""
        self._streams.enter(self._job_id)
        return self.why_end

    def __exit__(self, *_: object) -> None:
        """Give it back."""
        self._streams.leave(self._job_id)

    def why_end(self) -> str:
        """Return why the stream has to end now, or nothing."""
        return self._streams.why_end(self._ends)
