"""Three rules in wide use, perfectly shared by all processes, that still exceed a limit."""

import asyncio
import collections
import itertools

from devstack.simulator import models
from indexing import errors
from indexing.ratelimit import limits


class _Naive:
    def __init__(self, limit: models.Limit) -> None:
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._ids = itertools.count()

    async def take(self, charge: limits.Charge, *, max_wait: float) -> limits.Permit:
        """Return a permit, or raise RateLimited with the wait."""
        wait = self._wait(self._loop.time())
        if wait > max_wait:
            raise errors.RateLimited("global", retry_after=wait, why="used up")
        if wait > 0:
            await asyncio.sleep(wait)
            return await self.take(charge, max_wait=max_wait)
        return limits.Permit(str(next(self._ids)), charge, self._loop.time())

    def _wait(self, now: float) -> float:
        raise NotImplementedError

    async def settle(self, permit: limits.Permit, answer: limits.Answer) -> None:
        """Do nothing."""

    async def give_back(self, permit: limits.Permit) -> None:
        """Do nothing."""


class Refill(_Naive):
    """A token bucket that refills steadily."""

    def __init__(self, limit: models.Limit) -> None:
        super().__init__(limit)
        self._model = models.Gcra(limit)

    def _wait(self, now: float) -> float:
        wait = self._model.wait(now)
        if not wait:
            self._model.count(now)
        return wait


class SendStamped(_Naive):
    """A sliding log of the times at which calls were sent."""

    def __init__(self, limit: models.Limit) -> None:
        super().__init__(limit)
        self._log: collections.deque[float] = collections.deque()

    def _wait(self, now: float) -> float:
        while self._log and self._log[0] <= now - self._limit.window:
            self._log.popleft()
        if len(self._log) < self._limit.capacity:
            self._log.append(now)
            return 0.0
        return max(self._log[0] + self._limit.window - now, 1e-6)


class Paced(_Naive):
    """Calls sent at an even pace."""

    def __init__(self, limit: models.Limit) -> None:
        super().__init__(limit)
        self._next = 0.0

    def _wait(self, now: float) -> float:
        if now >= self._next:
            self._next = now + self._limit.window / self._limit.capacity
            return 0.0
        return self._next - now
