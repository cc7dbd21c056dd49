"""
How late an answer came, told by the server's own clock.

`x-ratelimit-reset` minus `x-ratelimit-reset-after` is the server's clock when it counted the call. Our clock at reading
the answer minus that is the way back, plus an offset that nobody knows but that is the same for all answers; so the
smallest difference lately stands for the shortest way back, and what exceeds it is known. Only differences of one
clock are used.
"""

import collections

STRETCH = 60.0
"""Seconds for which a smallest difference is believed."""


class Anchor:
    """Keeps the smallest difference of the last STRETCH seconds."""

    def __init__(self) -> None:
        # Rising differences: each entry is smaller than all after it, so the first is the minimum.
        self._least: collections.deque[tuple[float, float]] = collections.deque()

    def excess(self, read_at: float, stamp: float) -> float:
        """
        Return by how many seconds this way back exceeded the shortest; 0 for the shortest itself.

        Args:
            read_at: When the answer was read, on our monotonic clock.

            stamp: The server's clock when it counted the call.
        """
        difference = read_at - stamp
        while self._least and self._least[-1][1] >= difference:
            self._least.pop()
        self._least.append((read_at, difference))
        while self._least[0][0] < read_at - STRETCH:
            self._least.popleft()
        return difference - self._least[0][1]
