"""Limits of the WatchProgress streams of one process: their number, their age, and how slowly a client may read."""

import asyncio
import collections
import random
from collections.abc import Callable
from typing import Any, TypeVar

from google.protobuf import message

from indexer_service import caller
from indexing import errors, settings

DRAINING = "DRAINING"
MAX_AGE = "MAX_AGE"
MAX_AGE_FACTOR = 1.2
RETRY_AFTER = (5.0, 15.0)
"""Range of the seconds after which a refused client retries."""
JITTER = random.Random()  # noqa: S311 -- not for secrets


class StreamSlots:
    """Counts open streams, and decides when one has to end: all of them at a drain, each at an age of its own."""

    def __init__(self, config: settings.ServiceSettings, clock: Callable[[], float]) -> None:
        self._config = config
        self._clock = clock
        self._by_job: collections.Counter[tuple[str, str]] = collections.Counter()
        self._by_caller: collections.Counter[str] = collections.Counter()
        self._draining = False

    def drain(self) -> None:
        """Make every stream end at its next message or heartbeat."""
        self._draining = True

    def slot(self, job_id: str, by: caller.Caller = caller.UNNAMED) -> "StreamSlot":
        """
        Return a slot for one stream of a caller. Its `with` block yields a function that returns why it has to end.

        Maximum ages differ by up to 20 %, so that streams that opened together do not reconnect together.
        """
        return StreamSlot(
            self,
            job_id,
            by,
            self._clock() + self._config.max_stream_age * JITTER.uniform(2 - MAX_AGE_FACTOR, MAX_AGE_FACTOR),
        )

    def acquire(self, job_id: str, by: caller.Caller) -> None:
        """Count a stream. Raises errors.TooManyWatchers: the process, the caller or the job has reached its limit."""
        if self._by_caller.total() >= self._config.max_watchers:
            raise _refusal("process")
        if not self._has_place(by):
            raise _refusal("caller", by.name)
        if self._by_job[job_id, by.name] >= self._config.max_watchers_per_job:
            raise _refusal("job")
        self._by_job[job_id, by.name] += 1
        self._by_caller[by.name] += 1

    def _has_place(self, by: caller.Caller) -> bool:
        """
        Return whether the caller gets one more place.

        Half of the places are reserved, in equal parts, for the callers that may watch; the other half is for all of
        them. So several callers together cannot leave another without places. A single caller gets all.
        """
        reserved = self._config.max_watchers // (2 * by.peers)
        if self._by_caller[by.name] < reserved:
            return True
        in_common = sum(max(0, count - reserved) for count in self._by_caller.values())
        return in_common < self._config.max_watchers - by.peers * reserved

    def release(self, job_id: str, by: caller.Caller) -> None:
        """Stop counting a stream."""
        _decrement(self._by_job, (job_id, by.name))
        _decrement(self._by_caller, by.name)

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


def _refusal(limit: str, name: str = "") -> errors.TooManyWatchers:
    """Return the refusal of a stream. The retries of many that are refused at once are spread."""
    return errors.TooManyWatchers(limit, name, retry_after=JITTER.uniform(*RETRY_AFTER))


Key = TypeVar("Key")


def _decrement(counter: collections.Counter[Key], key: Key) -> None:
    """Count one less; keys without any are dropped."""
    counter[key] -= 1
    if not counter[key]:
        del counter[key]


class StreamSlot:
    """One stream's slot. It is small, because thousands are held at once."""

    __slots__ = ("_by", "_expires_at", "_job_id", "_slots")

    def __init__(self, slots: StreamSlots, job_id: str, by: caller.Caller, expires_at: float) -> None:
        self._slots = slots
        self._job_id = job_id
        self._by = by
        self._expires_at = expires_at

    def __enter__(self) -> Callable[[], str]:
        """Take the slot. Raises errors.TooManyWatchers."""
        self._slots.acquire(self._job_id, self._by)
        return self.end_reason

    def __exit__(self, *_: object) -> None:
        """Give the slot back."""
        self._slots.release(self._job_id, self._by)

    def end_reason(self) -> str:
        """Return why the stream has to end now; empty when it has not."""
        return self._slots.end_reason(self._expires_at)
