"""A manual clock, and an event loop that runs on it."""

import asyncio
import selectors
from typing import Any

START = 3_500_000_000.0
"""A second in 2080: databases expire documents by their own clocks and must not expire those of tests."""


class ManualClock:
    """Port `ports.Clock`: changes only by `advance`."""

    def __init__(self) -> None:
        # Counted from zero: beside an epoch second, a float has no room for the fractions that a loop's timers need.
        self.elapsed = 0.0

    def __call__(self) -> float:
        """Return the epoch second."""
        return START + self.elapsed

    def advance(self, seconds: float) -> None:
        """Advance the clock."""
        self.elapsed += seconds


class Stuck(Exception):
    """Every task waits, and no timer is left that could wake one."""


class Loop(asyncio.SelectorEventLoop):
    """
    An event loop whose time is `clock`: when nothing is ready, the clock jumps to the next timer.

    A test with this loop never waits, and measures exact times. It supports neither sockets nor threads: when no timer
    is left, it raises Stuck instead of waiting for them.
    """

    def __init__(self) -> None:
        self.clock = ManualClock()
        super().__init__(_Jumping(self.clock))

    def time(self) -> float:
        """Return the clock's seconds."""
        return self.clock.elapsed


class _Jumping(selectors.SelectSelector):
    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, Any]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise Stuck
        if not ready and timeout is not None:
            self._clock.advance(timeout)
        return ready


def running_clock() -> ManualClock:
    """Return the clock of the running loop."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop, Loop):
        raise TypeError("this test needs the marker clockwork")
    return loop.clock
