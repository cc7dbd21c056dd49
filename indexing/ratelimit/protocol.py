"""What the limiter and the store of budgets say to each other, and the Protocol of that store."""

import dataclasses
from collections.abc import Sequence
from typing import Literal, Protocol

from indexing.ratelimit import limits, route_limits

Scope = Literal["global", "route", "shared", "edge"]
"""What a 429 (or a block by the edge) stops: the token, the route's bucket, somebody's resource, this address."""


@dataclasses.dataclass(frozen=True, slots=True)
class Ask:
    """
    A request for one permit of each budget of *charge*.

    Attributes:
        patience: Seconds that the caller will sleep if it must; waiters that will not sleep and have no name of their
            own get no place in a line.
        limit: What the caller knows of the route.
    """

    id: str
    charge: limits.Charge
    patience: float
    limit: route_limits.RouteLimit

    @property
    def waiter(self) -> str:
        """Name of the place in line."""
        return self.charge.waiter or self.id

    @property
    def unproven(self) -> bool:
        """Whether guilds share the route's budget only because it is not proven yet that they do not."""
        return self.charge.major is not None and self.limit.known and not self.limit.split


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """
    What an answer means for the budgets.

    Attributes:
        round_trip: Seconds.
        excess: Seconds by which the way back took longer than the shortest lately; None when that cannot be told.
        headers: The route's bucket; None when they are absent or must not be learned from.
        proper: Discord itself answered the call, so missing headers mean that the route has none.
        scope: What must pause for `pause` seconds, None when nothing must.
        invalid: Counts towards the ban of this address.
    """

    round_trip: float
    excess: float | None = None
    headers: route_limits.Headers | None = None
    proper: bool = True
    scope: Scope | None = None
    pause: float = 0.0
    invalid: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Settlement:
    """
    What became of a permit.

    Attributes:
        outcome: None when the call was definitely never sent.
        read_at: When the answer was read, on the store's monotonic clock.
    """

    permit: limits.Permit
    outcome: Outcome | None
    read_at: float


@dataclasses.dataclass(frozen=True, slots=True)
class Granted:
    """
    All permits were taken.

    Attributes:
        delay: Seconds to wait before sending: the permits are free by then.
        moment: When they were charged, in milliseconds of the fleet's clock.
        held: Permits of the route's budget that are held now, this one included.
        left: Share of each budget that is free now, by kind; 0..1.
    """

    delay: float
    moment: int
    held: int
    left: dict[str, float]


@dataclasses.dataclass(frozen=True, slots=True)
class Wait:
    """Nothing was taken; ask again after *seconds*. `budget` and `why` as in errors.RateLimited."""

    seconds: float
    budget: str
    why: str


@dataclasses.dataclass(frozen=True, slots=True)
class Relearn:
    """Nothing was taken: the route's limit is another one; ask again with it."""

    limit: route_limits.RouteLimit


Verdict = Granted | Wait | Relearn


@dataclasses.dataclass(frozen=True, slots=True)
class Settled:
    """
    A settlement's reply.

    Attributes:
        strangers: Calls of somebody else on our token that the answer gave away.
        limit: What is known of the route now.
        credit: Seconds by which the global permit is free earlier than one window after its answer.
    """

    strangers: int
    limit: route_limits.RouteLimit
    credit: float


class BudgetStore(Protocol):
    """
    Holds the budgets of all processes; each exchange is atomic.

    Raises:
        errors.LimiterUnavailable: The store cannot be reached; whether an exchange happened is not known.
    """

    async def exchange(
        self, rules: limits.Rules, settlements: Sequence[Settlement], asks: Sequence[Ask]
    ) -> tuple[list[Settled], list[Verdict]]:
        """Book the settlements, then answer the asks, each in turn. With neither, only the budgets are touched."""

    async def snapshot(self, rules: limits.Rules, users: Sequence[int]) -> list[limits.BudgetState]:
        """Read the global budget, the ban line, the budgets of *users*, and the routes in use; write nothing."""

    async def forget_user(self, user: int) -> None:
        """Remove what carries the user's id, the ledgers of his budgets as soon as their last permit is free."""
