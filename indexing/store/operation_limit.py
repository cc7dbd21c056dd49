"""
How many operations a process has under way at MongoDB at once.

At a near server few are best: more of them wait for each other inside the server, where the wait is neither ordered
nor seen. At a far server an operation spends most of its time on the network, so few leave the server idle. The
shortest latency of the last seconds is taken for the distance; see `concurrency.AdaptiveLimit`. It includes a `hello`
every second, which waits for no lock of the server: one in which every statement waits does not look far away.
"""

import asyncio
import concurrent.futures
import contextlib
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pymongo
import pymongo.errors

from indexing import concurrency, precedence, settings

NEAR = 0.01
"""Seconds of the shortest latency up to which no more than MONGODB_CONNECTIONS operations are under way."""
HEALTHY = 0.02
"""Seconds of usual latency that shrink no limit."""
SPARE = 4
"""Connections beyond the limit, for probes of the server, which no limit holds up."""
LEAST_TIME = 0.1
"""Seconds that an operation has at least, however long it waited for its turn."""
PROBE_INTERVAL = 1.0


class OperationLimit:
    """Bounds the operations under way, in the order of `precedence.by_age`, and measures how long the server takes."""

    def __init__(self, config: settings.MongoSettings, monotonic: Callable[[], float] = time.perf_counter) -> None:
        self._base = config.connections
        self._timeout = config.timeout
        self._monotonic = monotonic
        rule = concurrency.LimitRule(
            self._base, self._base, config.connections_bound, least=self._base, near=NEAR, healthy=HEALTHY
        )
        self._limit = concurrency.AdaptiveLimit(monotonic, rule)
        self.threads = concurrent.futures.ThreadPoolExecutor(config.connections_bound, "mongodb")

    @property
    def current(self) -> int:
        """The current limit."""
        return self._limit.limit

    @property
    def server_is_far(self) -> bool:
        """Whether way costs more than work, so that operations should go side by side."""
        return self.current > self._base

    @contextlib.asynccontextmanager
    async def operation(self) -> AsyncIterator[None]:
        """Wait until one more operation may be under way, and count the block as it; both take MONGODB_TIMEOUT."""
        deadline: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
        if not self._limit.try_acquire():
            asked = self._monotonic()
            if not await self._limit.acquire(self._timeout, rank=precedence.rank_of_operation()):
                raise pymongo.errors.WaitQueueTimeoutError("too many operations are under way")
            left = max(LEAST_TIME, self._timeout - (self._monotonic() - asked))
            if left < self._limit.shortest < math.inf:
                # It would fail, and the driver would close its connection.
                self._limit.release()
                raise pymongo.errors.WaitQueueTimeoutError("the server is farther away than there is time left")
            deadline = pymongo.timeout(left)
        began, answered = self._monotonic(), False
        try:
            with deadline:
                yield
                answered = True
        except pymongo.errors.PyMongoError as problem:
            answered = not problem.timeout
            raise
        finally:
            self._limit.release()
            self._limit.observe(self._monotonic() - began, answered=answered)

    async def probe(self, hello: Callable[[], Awaitable[object]]) -> None:
        """Measure every second how far away the server is. Never returns."""
        while True:
            began = self._monotonic()
            with contextlib.suppress(pymongo.errors.PyMongoError, OSError):
                await hello()
                self._limit.observe_least(self._monotonic() - began)
            await asyncio.sleep(PROBE_INTERVAL)

    def close(self) -> None:
        """End the threads of joint queries; the process no longer uses the server."""
        self.threads.shutdown(wait=False, cancel_futures=True)
