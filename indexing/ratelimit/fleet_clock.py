"""
Estimates the fleet's clock from the process's monotonic clock and one reading, without a clock that can be set.

The fleet's clock shows the reading's moment at some time between the sending of an exchange and the reading of its
reply. At any later time it is therefore bounded from both sides; a shorter exchange gives tighter bounds. Monotonic
clocks of two hosts drift apart by less than DRIFT, so bounds widen with the age of the reading.
"""

import dataclasses
import math

DRIFT = 0.0005
"""Seconds per second: the fastest rate at which Linux slews a clock (adjtimex(2): 500 ppm)."""
JUMP = 100
"""Milliseconds by which Redis' clock must be wrong to count as set. Our guess, above what slewing does in a second."""


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """
    A moment that the fleet's clock showed between two times of the monotonic clock.

    Attributes:
        moment_ms: Milliseconds of the fleet's clock.
        sent_at, read_at: Seconds of the monotonic clock.
        epoch: Period between two changes of Redis' clock; in another epoch only the latest possible moment is valid.
        incarnation: Life of Redis' state; in another incarnation the reading says nothing (state.lua).
    """

    moment_ms: int
    sent_at: float
    read_at: float
    epoch: int = 0
    incarnation: int = 0

    def bounds(self, now: float) -> tuple[int, int]:
        """Return the earliest moment that it can be *now*, and by how much it can be later; milliseconds."""
        since = now - self.read_at
        uncertainty = self.read_at - self.sent_at + 2 * DRIFT * since
        return self.moment_ms + math.floor(since * (1 - DRIFT) * 1000), math.ceil(uncertainty * 1000)


class FleetClock:
    """One process's estimate of the fleet's clock: sent with each exchange, updated from each reply (state.lua)."""

    def __init__(self) -> None:
        self._reading: Reading | None = None
        self._ahead = False

    def estimate(self, now: float) -> dict[str, int | bool]:
        """Return the clock's bounds *now*, the incarnation and epoch that they hold for, and whether Redis is ahead."""
        if self._reading is None:
            return {"incarnation": 0, "epoch": 0, "earliest": 0, "uncertainty": 0, "ahead": False}
        known = self._reading
        earliest, uncertainty = known.bounds(now)
        return {
            "incarnation": known.incarnation,
            "epoch": known.epoch,
            "earliest": earliest,
            "uncertainty": uncertainty,
            "ahead": self._ahead,
        }

    def update(self, reading: Reading, redis_ms: int) -> None:
        """Take in a reply: a reading, with epoch 0 if Redis' clock was not trusted, and what that clock showed."""
        known = self._reading
        if known is not None and reading.epoch in {0, known.epoch}:
            # The script ran before the reply was read, so no slow network explains a clock beyond the latest bound.
            self._ahead = self._ahead or redis_ms > sum(known.bounds(reading.read_at)) + JUMP
        if reading.epoch:
            self._reading = most_precise(known, reading)
            self._ahead = self._ahead and known is not None and self._reading.epoch == known.epoch


def most_precise(old: Reading | None, new: Reading) -> Reading:
    """Return the reading with the tighter bounds now; of two epochs, the one whose exchange was sent later."""
    if old is not None and old.epoch != new.epoch:
        return new if new.sent_at > old.sent_at else old
    if old is None or new.bounds(new.read_at)[1] <= old.bounds(new.read_at)[1]:
        return new
    return old
