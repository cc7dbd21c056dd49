"""
The state of MongoDB as one process sees it, from one write every few seconds.

The write deletes a document that does not exist: it needs a primary and the right to write, and changes nothing.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable

import pymongo.errors

from indexing.store import mongodb_errors
from indexing.telemetry import logs, metrics

INTERVAL = 5.0
"""Seconds between two probes."""
LASTING_LIMIT = 10.0
"""Seconds of a refused login, missing rights or a certificate after which a process is not ready."""


class MongoWatch:
    """
    Probes MongoDB, logs when it fails and when it answers again, and tells whether the process is ready.

    Only what no call can survive and another process may not have makes a process unready. When MongoDB is away, has no
    primary or is slow, all processes are alike: calls are answered UNAVAILABLE with a time to retry.

    Args:
        probe: Writes; raises an error of the driver.

        metrics: Where the kind of trouble is shown.

        clock: Monotonic seconds.
    """

    def __init__(
        self,
        probe: Callable[[], Awaitable[object]],
        metrics: metrics.ServerMetrics,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._probe = probe
        self._metrics = metrics
        self._clock = clock
        self._problem: mongodb_errors.Diagnosis | None = None
        self._since = 0.0
        self._log = logs.get(__name__)

    async def watch(self) -> None:
        """Probe until cancelled."""
        while True:
            await self.check()
            await asyncio.sleep(INTERVAL)

    async def check(self) -> None:
        """Probe once. Never raises an error of MongoDB."""
        try:
            await self._probe()
        except (pymongo.errors.PyMongoError, OSError) as error:
            self._note(mongodb_errors.diagnose(error))
        else:
            self._note(None)

    def unready_reason(self) -> str:
        """Return why the process is not ready; empty when MongoDB gives no reason."""
        problem = self._problem
        limit = LASTING_LIMIT if problem is not None and problem.trouble in mongodb_errors.LASTING else math.inf
        return f"MongoDB {problem.text}" if problem is not None and self._clock() - self._since >= limit else ""

    def _note(self, problem: mongodb_errors.Diagnosis | None) -> None:
        """Log each kind of trouble once, and its end."""
        before, self._problem = self._problem, problem
        if (before and before.trouble) == (problem and problem.trouble):
            return
        seconds, self._since = self._clock() - self._since, self._clock()
        if problem is None:
            self._log.info("mongodb_answers", seconds=round(seconds, 1))
        else:
            self._log.warning("mongodb_failing", problem=f"MongoDB {problem.text}", trouble=problem.trouble.value)
        for kind in mongodb_errors.Trouble:
            self._metrics.mongodb_trouble.labels(kind.value).set(problem is not None and kind is problem.trouble)
