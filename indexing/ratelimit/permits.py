"""What a caller gets from the limiter, and what it brings back."""

import dataclasses
from collections.abc import Mapping

from indexing.ratelimit import limits, route_limits


@dataclasses.dataclass(frozen=True, slots=True)
class Permit:
    """
    The right to make one call to Discord, once, soon.

    Attributes:
        taken_at: When it was asked for, on the monotonic clock that the limiter was given.
        fence: Seconds from then within which the call may be sent.
        moment: When its budgets were charged, in milliseconds of the fleet's clock.
        limit: What was known of the route.
        held: Permits of the route's budget that were held when this one was taken, this one included.
    """

    id: str
    charge: limits.Charge
    taken_at: float
    fence: float = limits.FENCE
    moment: int = 0
    limit: route_limits.RouteLimit = route_limits.UNKNOWN
    held: int = 1

    def expired(self, now: float) -> bool:
        """Return whether it is too late to send at *now*, of the same monotonic clock: then give the permit back."""
        return now - self.taken_at > self.fence


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """
    What came back for a call that was sent.

    Attributes:
        status: None when no whole answer came; the permit's full hold stays.
        headers: Names in lower case: x-ratelimit-*, retry-after.
        round_trip: Seconds from sending to having read the answer.
        body_retry_after: Seconds, from a 429's JSON.
        body_global: `global` of a 429's JSON.
        is_discord: False for a 403 or 429 that is not Discord's JSON: the edge in front of it blocks us.
    """

    status: int | None
    headers: Mapping[str, str]
    round_trip: float
    body_retry_after: float | None = None
    body_global: bool = False
    is_discord: bool = True
