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
JUMP = 100
"""Milliseconds by which Redis' clock must be wrong to count as set: our guess, above what it is slewed in a second."""


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """
    The fleet's clock showed *moment* milliseconds somewhen between *sent* and *read*, seconds of the stopwatch.

    In another *era*, which begins when Redis' clock was set, only its latest moment holds; in another life of Redis'
    state, which *born* names, it says nothing (state.lua).
    """

    moment: int
    sent: float
    read: float
    era: int = 0
    born: int = 0

    def bounds(self, now: float) -> tuple[int, int]:
        """Return the earliest moment that it can be *now*, and by how much it can be later; milliseconds."""
        since = now - self.read
        loose = self.read - self.sent + 2 * DRIFT * since
        return self.moment + math.floor(since * (1 - DRIFT) * 1000), math.ceil(loose * 1000)


class Stopwatch:
    """What one process tells the script of the fleet's clock, and learns from its replies (state.lua)."""

    def __init__(self) -> None:
        self._reading: Reading | None = None
        self._ahead = False

    def says(self, now: float) -> dict[str, int | bool]:
        """Return the bounds of the fleet's clock *now*, what they hold for, and whether Redis' clock was seen ahead."""
        if self._reading is None:
            return {"born": 0, "era": 0, "expected": 0, "loose": 0, "ahead": False}
        known = self._reading
        expected, loose = known.bounds(now)
        return {"born": known.born, "era": known.era, "expected": expected, "loose": loose, "ahead": self._ahead}

    def learn(self, reading: Reading, shown: int) -> None:
        """Take in a reply: a reading, its era 0 if Redis' clock was not believed, and what that clock showed."""
        known = self._reading
        if known is not None and reading.era in {0, known.era}:
            # Carried out before it was read: no slow way explains that Redis shows more than it is by now.
            self._ahead = self._ahead or shown > sum(known.bounds(reading.read)) + JUMP
        if reading.era:
            self._reading = closer(known, reading)
            self._ahead = self._ahead and known is not None and self._reading.era == known.era


def closer(old: Reading | None, new: Reading) -> Reading:
    """Return the reading that says more now; of two eras that of the exchange that was sent later."""
    if old is not None and old.era != new.era:
        return new if new.sent > old.sent else old
    if old is None or new.bounds(new.read)[1] <= old.bounds(new.read)[1]:
        return new
    return old
