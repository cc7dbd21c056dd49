"""Figures from the simulator's log: when guilds were read, the used share of the limit, seconds without a call."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from devstack.simulator import routes
from tests.benchmarks.index import scenarios

WARM_UP = 1.0
"""Seconds after the first call that do not count as steady."""
STEADY = 0.9
"""Share of the calls after which too little work is left to use the limit."""


@dataclasses.dataclass(frozen=True, slots=True)
class Arrivals:
    """
    Calls of one run; times are seconds since its start.

    Attributes:
        moments: Arrival of each call, in order.
        read: Time of the first reading of each guild's channels.
    """

    moments: Sequence[float]
    read: dict[str, float]

    @property
    def channels(self) -> float:
        """Time at which the last guild's channels were read; 0 without any."""
        return max(self.read.values(), default=0.0)

    def steady_share(self) -> float:
        """Return the used share of the global limit between the warm-up and the tail."""
        if not self.moments:
            return 0.0
        begin, end = self.moments[0] + WARM_UP, self.moments[int(len(self.moments) * STEADY)]
        inside = sum(begin <= moment < end for moment in self.moments)
        return inside / (scenarios.BUDGET * (end - begin)) if end > begin else 0.0

    def silent_seconds(self, until: float) -> list[int]:
        """Return the whole seconds before *until* without a call."""
        busy = {int(moment) for moment in self.moments}
        return [second for second in range(int(until)) if second not in busy]


def parse(log: Iterable[Sequence[Any]], began: float) -> Arrivals:
    """Read the log of a run that began at *began* on the simulator's clock."""
    moments: list[float] = []
    read: dict[str, float] = {}
    for at, _who, route, guild, status in log:
        moments.append(at - began)
        if route == routes.GUILD_CHANNELS and status == 200:
            read.setdefault(guild, at - began)
    return Arrivals(sorted(moments), read)
