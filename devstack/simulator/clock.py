"""The two clocks the simulator runs by, passed in so that tests can turn the hands."""

import datetime
import time
from typing import Protocol


class Clock(Protocol):
    """Tells time, in seconds."""

    def monotonic(self) -> float:
        """Seconds since the simulator started; never steps back."""

    def wall(self) -> float:
        """Seconds since 1970, for what Discord prints as a date."""


class SystemClock:
    """The machine's clock; its wall time is read once, so that both hands move alike."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._wall = datetime.datetime.now(tz=datetime.UTC).timestamp()

    def monotonic(self) -> float:
        """Seconds since this object was made."""
        return time.monotonic() - self._start

    def wall(self) -> float:
        """Seconds since 1970, not affected by later steps of the machine's clock."""
        return self._wall + self.monotonic()
