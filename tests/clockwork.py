"""Time that is turned by hand, and an event loop that lives by it."""

import asyncio
import selectors
from typing import Any

START = 3_500_000_000.0
"""Some second of 2080: databases drop what has expired by their own clocks, and must not drop what tests store."""


class ManualClock:
    """Port `ports.Clock`: stands still until it is turned."""

    def __init__(self) -> None:
        # Counted from zero: beside an epoch second, a float has no room for the fractions that a loop's timers need.
        self.elapsed = 0.0

    def __call__(self) -> float:
        """Return the epoch second."""
        return START + self.elapsed

    def advance(self, seconds: float) -> None:
        """Turn the clock."""
        self.elapsed += seconds


class Stuck(Exception):
    """Every task waits for something, and no timer is left that could end it."""


class Loop(asyncio.SelectorEventLoop):
    """
    An event loop whose time is `clock`: when nothing is ready, the clock jumps to the next timer.

    So a test with this loop waits for nothing, and sees exactly the seconds that passed. There is no place for sockets
    and threads in it: when no timer is left, it raises Stuck instead of waiting for them.
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
    """Return the clock of the loop that runs."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop, Loop):
        raise TypeError("this test needs the marker clockwork")
    return loop.clock
