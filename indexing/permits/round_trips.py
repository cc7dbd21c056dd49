"""
What the answers tell about the network: how early a permit may come back.

A permit is free one window after its answer was read, less a credit. The credit is safe as long as it is below the
smallest possible round trip: what happened between the server's counting and our reading took part of that time.
"""

import collections
import dataclasses

SEEN_FOR = 60.0
"""Seconds for which a fastest round trip counts."""
ENOUGH = 10
"""Answers before a minimum is believed."""
SERVER_MARGIN = 0.03
"""Seconds taken off a credit that is anchored in the server's clock: what simulations needed to stay at zero."""


class Minimum:
    """The smallest of the values seen in the last minute, and how many were seen."""

    def __init__(self) -> None:
        self._values: collections.deque[tuple[float, float]] = collections.deque()
        self._seen = 0

    def add(self, now: float, value: float) -> None:
        """Add a value seen at *now*; values that can no longer be the smallest are forgotten."""
        self._seen += 1
        while self._values and self._values[-1][1] >= value:
            self._values.pop()
        self._values.append((now, value))
        while self._values[0][0] < now - SEEN_FOR:
            self._values.popleft()

    def value(self) -> float | None:
        """Return the smallest value, None as long as too few were seen."""
        return self._values[0][1] if self._values and self._seen >= ENOUGH else None


@dataclasses.dataclass(slots=True)
class RoundTrips:
    """Learns from answers and names credits, in seconds. One for each process: they share the way to Discord."""

    use_server_time: bool
    _trips: Minimum = dataclasses.field(default_factory=Minimum)
    _lags: Minimum = dataclasses.field(default_factory=Minimum)

    def add(self, now: float, round_trip: float, server_time: float | None) -> float | None:
        """
        Learn from an answer read at *now*; returns how much longer than the fastest its way back took, if known.

        Args:
            now: Monotonic seconds at which the answer was read.
            round_trip: Seconds from sending to reading.
            server_time: The server's clock when it counted the request: X-RateLimit-Reset less -Reset-After.
        """
        self._trips.add(now, round_trip)
        if server_time is None or not self.use_server_time:
            return None
        lag = now - server_time
        self._lags.add(now, lag)
        fastest = self._lags.value()
        return None if fastest is None else lag - fastest

    def credit(self, factor: float, excess: float | None) -> float:
        """Return how much earlier than a window after its answer a permit may come back."""
        fastest = self._trips.value()
        if fastest is None:
            return 0.0
        plain = factor * fastest
        if excess is None:
            return plain
        return max(plain, excess + factor * fastest - SERVER_MARGIN)
