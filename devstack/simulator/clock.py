"""The simulator's clocks, passed as a parameter so that tests can control them."""

import datetime
import time
from typing import Protocol


class Clock(Protocol):
    """A monotonic and a wall clock, in seconds."""

    def monotonic(self) -> float:
        """Seconds since the simulator started; never decreases."""

    def wall(self) -> float:
        """Seconds since 1970, for dates in responses."""


class SystemClock:
    """The machine's clocks. The wall clock is read once, so that both advance alike."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._wall = datetime.datetime.now(tz=datetime.UTC).timestamp()

    def monotonic(self) -> float:
        """Seconds since this object was created."""
        return time.monotonic() - self._start

    def wall(self) -> float:
        """Seconds since 1970, not affected by later changes of the machine's clock."""
        return self._wall + self.monotonic()
