"""
Four ways in which a server may count "N requests per W seconds", as pure functions of the arrival times.

Discord does not document which one it uses. A client that is safe under one model may get thousands of rejections
under another (simulations found 0 and 8.9 % for the same client), so clients must be safe under all four. Only
admitted requests are counted.
"""

import collections
import math
from typing import Final, NamedTuple, Protocol

NAMES: Final = ("wall", "first", "sliding", "gcra")
"""The models in the order of `all_models`."""


class Limit(NamedTuple):
    """At most `capacity` requests in `window` seconds."""

    capacity: int
    window: float


class Model(Protocol):
    """One way of counting requests."""

    def wait(self, now: float) -> float:
        """Seconds until a request would be admitted; 0 if it would be now."""

    def count(self, now: float) -> None:
        """Count an admitted request."""

    def remaining(self, now: float) -> int:
        """Number of requests that would be admitted now."""

    def reset_after(self, now: float) -> float:
        """Seconds until the full capacity is available, without more requests."""


class WallWindow:
    """Consecutive windows at fixed times, shifted by *phase* seconds."""

    __slots__ = ("_count", "_index", "_limit", "_phase")

    def __init__(self, limit: Limit, phase: float) -> None:
        self._limit = limit
        self._phase = phase
        self._index = -1
        self._count = 0

    def _turn(self, now: float) -> None:
        index = math.floor((now + self._phase) / self._limit.window)
        if index != self._index:
            self._index = index
            self._count = 0

    def wait(self, now: float) -> float:
        """Seconds to the next window if this one is full, else 0."""
        self._turn(now)
        return 0.0 if self._count < self._limit.capacity else self.reset_after(now)

    def count(self, now: float) -> None:
        """Count a request in the window of *now*."""
        self._turn(now)
        self._count += 1

    def remaining(self, now: float) -> int:
        """Requests left in this window."""
        self._turn(now)
        return self._limit.capacity - self._count

    def reset_after(self, now: float) -> float:
        """Seconds to the next window."""
        self._turn(now)
        return max((self._index + 1) * self._limit.window - self._phase - now, 1e-6)


class FirstWindow:
    """A window opens with the first request after the previous window closed."""

    __slots__ = ("_count", "_limit", "_opened")

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._opened = -math.inf
        self._count = 0

    def _open(self, now: float) -> bool:
        return now - self._opened < self._limit.window

    def wait(self, now: float) -> float:
        """Seconds until the window closes if it is full, else 0."""
        return self.reset_after(now) if self._open(now) and self._count >= self._limit.capacity else 0.0

    def count(self, now: float) -> None:
        """Count a request; opens a window if none is open."""
        if not self._open(now):
            self._opened = now
            self._count = 0
        self._count += 1

    def remaining(self, now: float) -> int:
        """Requests left in the open window."""
        return self._limit.capacity - (self._count if self._open(now) else 0)

    def reset_after(self, now: float) -> float:
        """Seconds until the open window closes."""
        return max(self._opened + self._limit.window - now, 1e-6) if self._open(now) else 0.0


class SlidingLog:
    """Counts the requests of the last window at any time."""

    __slots__ = ("_limit", "_log")

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._log: collections.deque[float] = collections.deque()

    def _forget(self, now: float) -> None:
        while self._log and now - self._log[0] >= self._limit.window:
            self._log.popleft()

    def wait(self, now: float) -> float:
        """Seconds until the oldest request leaves the window if it is full, else 0."""
        self._forget(now)
        if len(self._log) < self._limit.capacity:
            return 0.0
        return max(self._log[0] + self._limit.window - now, 1e-6)

    def count(self, now: float) -> None:
        """Count a request."""
        self._log.append(now)

    def remaining(self, now: float) -> int:
        """Requests left in the last window."""
        self._forget(now)
        return self._limit.capacity - len(self._log)

    def reset_after(self, now: float) -> float:
        """Seconds until the newest request leaves the window."""
        self._forget(now)
        return max(self._log[-1] + self._limit.window - now, 1e-6) if self._log else 0.0


class Gcra:
    """A bucket of `capacity` tokens with steady refill, `capacity` per window (generic cell rate algorithm)."""

    __slots__ = ("_full_at", "_limit", "_step")

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._step = limit.window / limit.capacity
        self._full_at = -math.inf

    def wait(self, now: float) -> float:
        """Seconds until one token is available."""
        over = self._full_at - now - (self._limit.window - self._step)
        return over if over > 1e-9 else 0.0

    def count(self, now: float) -> None:
        """Take one token."""
        self._full_at = max(self._full_at, now) + self._step

    def remaining(self, now: float) -> int:
        """Whole tokens available."""
        owed = max(self._full_at - now, 0.0)
        return max(math.floor((self._limit.window - owed) / self._step + 1e-9), 0)

    def reset_after(self, now: float) -> float:
        """Seconds until the bucket is full."""
        return max(self._full_at - now, 0.0)


def all_models(limit: Limit, phase: float) -> tuple[Model, ...]:
    """Return one model of each kind, in the order of NAMES; *phase* shifts WallWindow, as a share of the window."""
    return WallWindow(limit, phase * limit.window), FirstWindow(limit), SlidingLog(limit), Gcra(limit)
