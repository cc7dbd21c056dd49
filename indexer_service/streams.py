"""The WatchProgress streams of one process: how many, for how long, and how slowly one may be read."""

import asyncio
import collections
import contextlib
import random
from collections.abc import Callable, Iterator
from typing import Any

from google.protobuf import message

from indexing import errors, settings

SLOW = 60.0
"""Seconds for which one message may wait for its reader before the stream is closed."""
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

    @contextlib.contextmanager
    def place(self, job_id: str) -> Iterator[Callable[[], str]]:
        """
        Hold a place for one stream; yields what says why it has to end now, or nothing.

        Ages differ by up to 20 %, so that streams that began together do not come back together.

        Raises:
            errors.TooManyWatchers: Of this process, or of this job.
        """
        if self._by_job.total() >= self._config.max_watchers:
            raise errors.TooManyWatchers("process")
        if self._by_job[job_id] >= self._config.max_watchers_per_job:
            raise errors.TooManyWatchers("job")
        self._by_job[job_id] += 1
        ends = self._clock() + self._config.max_stream_age * DICE.uniform(0.8, 1.2)
        try:
            yield lambda: DRAINING if self._draining else MAX_AGE if self._clock() > ends else ""
        finally:
            self._by_job[job_id] -= 1
            if not self._by_job[job_id]:
                del self._by_job[job_id]


async def write(context: Any, item: message.Message | bytes) -> None:  # noqa: ANN401 -- a stream of any message
    """Send a message; gRPC's flow control holds it while the reader is behind. Raises errors.SlowConsumer."""
    try:
        async with asyncio.timeout(SLOW):
            await context.write(item)
    except TimeoutError as error:
        raise errors.SlowConsumer from error
