"""
Four ways in which a server may count "N requests per W seconds", each as pure arithmetic on the time of arrival.

Discord does not say which one it uses. A client that is safe under all four is safe; one that is safe under one of
them may collect thousands of rejections under another (the simulations that this design rests on found 0 and 8.9 %
for one and the same client). Only admitted requests are counted.
"""

import collections
import math
from typing import Final, NamedTuple, Protocol

NAMES: Final = ("wall", "first", "sliding", "gcra")
"""The models in the order in which `all_models` makes them."""


class Limit(NamedTuple):
    """At most `capacity` requests in `window` seconds."""

    capacity: int
    window: float


class Model(Protocol):
    """One way of counting."""

    def wait(self, now: float) -> float:
        """Seconds until a request would be admitted; 0 if one would be now."""

    def count(self, now: float) -> None:
        """Note an admitted request."""

    def remaining(self, now: float) -> int:
        """How many requests would be admitted at this moment, one after the other."""

    def reset_after(self, now: float) -> float:
        """Seconds until everything is available again, if nothing more comes."""


class WallWindow:
    """Windows that follow each other at fixed moments of the clock, shifted by *phase* seconds."""

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
        """Seconds to the next window, if this one is full."""
        self._turn(now)
        return 0.0 if self._count < self._limit.capacity else self.reset_after(now)

    def count(self, now: float) -> None:
        """Note a request in the window that *now* falls into."""
        self._turn(now)
        self._count += 1

    def remaining(self, now: float) -> int:
        """What this window still admits."""
        self._turn(now)
        return self._limit.capacity - self._count

    def reset_after(self, now: float) -> float:
        """Seconds to the next window."""
        self._turn(now)
        return max((self._index + 1) * self._limit.window - self._phase - now, 1e-6)


class FirstWindow:
    """A window opens with the first request after the last window closed."""

    __slots__ = ("_count", "_limit", "_opened")

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._opened = -math.inf
        self._count = 0

    def _open(self, now: float) -> bool:
        return now - self._opened < self._limit.window

    def wait(self, now: float) -> float:
        """Seconds until the window closes, if it is full."""
        return self.reset_after(now) if self._open(now) and self._count >= self._limit.capacity else 0.0

    def count(self, now: float) -> None:
        """Note a request; it opens a window if none is open."""
        if not self._open(now):
            self._opened = now
            self._count = 0
        self._count += 1

    def remaining(self, now: float) -> int:
        """What the open window still admits."""
        return self._limit.capacity - (self._count if self._open(now) else 0)

    def reset_after(self, now: float) -> float:
        """Seconds until the open window closes."""
        return max(self._opened + self._limit.window - now, 1e-6) if self._open(now) else 0.0


class SlidingLog:
    """At any moment the requests of the last window count."""

    __slots__ = ("_limit", "_log")

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._log: collections.deque[float] = collections.deque()

    def _forget(self, now: float) -> None:
        while self._log and now - self._log[0] >= self._limit.window:
            self._log.popleft()

    def wait(self, now: float) -> float:
        """Seconds until the oldest request falls out, if there is no room."""
        self._forget(now)
        if len(self._log) < self._limit.capacity:
            return 0.0
        return max(self._log[0] + self._limit.window - now, 1e-6)

    def count(self, now: float) -> None:
        """Note a request."""
        self._log.append(now)

    def remaining(self, now: float) -> int:
        """What the last window leaves."""
        self._forget(now)
        return self._limit.capacity - len(self._log)

    def reset_after(self, now: float) -> float:
        """Seconds until the newest request falls out."""
        self._forget(now)
        return max(self._log[-1] + self._limit.window - now, 1e-6) if self._log else 0.0


class Gcra:
    """A bucket of `capacity` tokens that refills steadily, `capacity` per window (generic cell rate algorithm)."""

    __slots__ = ("_full_at", "_limit", "_step")

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._step = limit.window / limit.capacity
        self._full_at = -math.inf

    def wait(self, now: float) -> float:
        """Seconds until one token is there."""
        over = self._full_at - now - (self._limit.window - self._step)
        return over if over > 1e-9 else 0.0

    def count(self, now: float) -> None:
        """Take one token."""
        self._full_at = max(self._full_at, now) + self._step

    def remaining(self, now: float) -> int:
        """Whole tokens that are there."""
        owed = max(self._full_at - now, 0.0)
        return max(math.floor((self._limit.window - owed) / self._step + 1e-9), 0)

    def reset_after(self, now: float) -> float:
        """Seconds until the bucket is full."""
        return max(self._full_at - now, 0.0)


def all_models(limit: Limit, phase: float) -> tuple[Model, ...]:
    """Make one of each, in the order of NAMES; *phase* is the wall window's, as a share of the window."""
    return WallWindow(limit, phase * limit.window), FirstWindow(limit), SlidingLog(limit), Gcra(limit)
