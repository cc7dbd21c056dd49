"""
What a process knows of the fleet's clock, without a clock that may be set: its own stopwatch, and one reading.

A reading is a moment of the fleet's clock that lay between sending an exchange and reading its reply. So at any later
time the moment is bounded from both sides, the closer the shorter that exchange took. Stopwatches of two hosts drift
apart by less than DRIFT, so that an old reading says less than a new one.
"""

import dataclasses
import math

DRIFT = 0.0005
"""Seconds a second: the fastest at which Linux slews a clock (adjtimex(2): 500 ppm)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """The fleet's clock showed *moment* milliseconds somewhen between *sent* and *read*, seconds of the stopwatch."""

    moment: int
    sent: float
    read: float

    def bounds(self, now: float) -> tuple[int, int]:
        """Return the earliest moment that it can be *now*, and by how much it can be later; milliseconds."""
        since = now - self.read
        loose = self.read - self.sent + 2 * DRIFT * since
        return self.moment + math.floor(since * (1 - DRIFT) * 1000), math.ceil(loose * 1000)


def closer(old: Reading | None, new: Reading) -> Reading:
    """Return the reading that says more now."""
    if old is None or new.bounds(new.read)[1] <= old.bounds(new.read)[1]:
        return new
    return old
