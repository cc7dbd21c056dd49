"""
The state of Redis as one process sees it, from one write a second.

The write is an exchange of the limiter. It also makes a hold after lost state begin when Redis is back, not with the
first call, and connects to a new primary before a call needs it. A read would not do: replicas answer reads.
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable

from indexing import errors
from indexing.messaging import redis_errors
from indexing.telemetry import logs, metrics

INTERVAL = 1.0
"""Seconds between two probes."""
READONLY_LIMIT = 30.0
"""Seconds of refused writes, over new connections, after which a process is not ready: a failover takes less."""
LASTING_LIMIT = 3.0
"""The same for a refused login, missing rights, a certificate, or a cluster, which waiting does not mend."""
LIMITS = {redis_errors.Trouble.READONLY: READONLY_LIMIT} | dict.fromkeys(redis_errors.LASTING, LASTING_LIMIT)


class RedisWatch:
    """
    Probes Redis, logs when it fails and when it answers again, and tells whether the process is ready.

    Only trouble that another pod may not have makes a process unready. When Redis does not answer, refuses connections,
    loads its data or is slow, all pods are alike: calls are answered UNAVAILABLE with a time to retry.

    Args:
        probe: Writes to Redis over a pooled connection; returns a value that changes when Redis lost its state.

        on_recovery: Called when Redis answers after a failure or with other state. What it raises is logged.

        metrics: Where the kind of trouble is shown.

        clock: Monotonic seconds.
    """

    def __init__(
        self,
        probe: Callable[[], Awaitable[object]],
        on_recovery: Callable[[], Awaitable[object]],
        metrics: metrics.ServerMetrics | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._probe = probe
        self._on_recovery = on_recovery
        self._metrics = metrics
        self._clock = clock
        self._state: object = None
        self._recover = False
        self._problem: redis_errors.Diagnosis | None = None
        self._since = 0.0
        self._failing_since = 0.0
        self._log = logs.get(__name__)

    async def watch(self) -> None:
        """Probe until cancelled."""
        while True:
            await self.check()
            await asyncio.sleep(INTERVAL)

    async def check(self) -> None:
        """Probe once. Never raises an error of Redis."""
        try:
            state = await self._probe()
        except (errors.QueueUnavailable, errors.LimiterUnavailable) as error:
            self._fail(redis_errors.diagnose(error))
            return
        self._answer()
        lost, self._state = self._state not in {None, state}, state
        if self._recover or lost:
            try:
                await self._on_recovery()
            except errors.QueueUnavailable as error:
                self._recover = True
                self._log.warning("redis_recovery_failed", error=str(error))
            else:
                self._recover = False

    def note_failure(self) -> None:
        """Note that a turn could not be enqueued; the next good probe counts as a recovery."""
        self._recover = True

    def unready_reason(self) -> str:
        """Return why the process is not ready; empty when Redis gives no reason."""
        problem = self._problem
        if problem is None or self._clock() - self._since < LIMITS.get(problem.trouble, math.inf):
            return ""
        return f"Redis {problem.text}"

    def _fail(self, problem: redis_errors.Diagnosis) -> None:
        """Log each kind of trouble once."""
        now = self._clock()
        self._recover = True
        if self._problem is None:
            self._failing_since = now
        if self._problem is None or self._problem.trouble is not problem.trouble:
            self._since = now
            self._log.warning("redis_failing", problem=f"Redis {problem.text}", trouble=problem.trouble.value)
            self._show(problem.trouble)
        self._problem = problem

    def _answer(self) -> None:
        if self._problem is not None:
            self._log.info("redis_answers", seconds=round(self._clock() - self._failing_since, 1))
            self._show(None)
        self._problem = None

    def _show(self, trouble: redis_errors.Trouble | None) -> None:
        if self._metrics is not None:
            for kind in redis_errors.Trouble:
                self._metrics.redis_trouble.labels(kind.value).set(kind is trouble)
