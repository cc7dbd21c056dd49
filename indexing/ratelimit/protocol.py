"""Messages between the limiter and its budget store, and the store's Protocol."""

import dataclasses
from collections.abc import Sequence
from typing import Literal, Protocol

from indexing.ratelimit import limits, route_limits

TAKEN = "taken"
EARLY_GRANT = 0.015
"""Seconds by which a permit may be granted before it is free while Redis answers quickly."""
QUEUE_GRACE = 0.5
"""How late a waiter may return before its queue position is dropped, in seconds, while Redis answers quickly."""
Scope = Literal["global", "route", "shared", "edge"]
"""What a 429 or a block by the edge stops: the token, the route's bucket, a shared resource, this IP address."""


@dataclasses.dataclass(frozen=True, slots=True)
class PermitRequest:
    """
    A request for one permit of each budget of *charge*.

    Attributes:
        max_wait: Seconds that the caller is ready to sleep; a request that must wait longer and has no waiter name gets
            no queue position.
        limit: What the caller knows of the route.
        asked_at: Time of the request, on the limiter's monotonic clock.
        returns: Whether an earlier request got a shared position. It is not queued again when another call used it.
        early: Seconds by which a permit may be granted before it is free; the caller sleeps until then. Not less than
            an exchange takes, because the next exchange cannot grant it in time.
    """

    id: str
    charge: limits.Charge
    max_wait: float
    limit: route_limits.RouteLimit
    asked_at: float
    returns: bool = False
    early: float = EARLY_GRANT

    @property
    def waiter(self) -> str:
        """Name of the queue position."""
        return self.charge.waiter or self.id

    @property
    def grace(self) -> float:
        """
        Seconds by which a waiter may be late before its position is dropped.

        A request waits for the exchange before it and takes part in its own, which may take twice as long as usual.
        """
        return max(QUEUE_GRACE, 3 * self.early)

    @property
    def unproven(self) -> bool:
        """Whether guilds share the route's bucket only because separate buckets are not proven yet."""
        return self.charge.major is not None and self.limit.known and not self.limit.per_guild


@dataclasses.dataclass(frozen=True, slots=True)
class Wait:
    """
    Nothing was taken; request again after *seconds*. `reason` is errors.RateLimited.why.

    With the budget `TAKEN`, another call used the shared position of a request that returns.
    """

    seconds: float
    budget: str
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class LimitChanged:
    """Nothing was taken: the route has another limit by now; request again with it."""

    limit: route_limits.RouteLimit


Decision = limits.Permit | Wait | LimitChanged


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """
    What an answer means for the budgets.

    Attributes:
        round_trip: Seconds.
        headers: The route's bucket; None when the headers are absent or must not be learned from.
        headers_expected: Discord handled the call, so missing headers mean that the route has no limit.
        scope: What must pause for `pause` seconds, None for nothing.
        clipped: The answer names a longer pause, so that a single call should find out whether to go on.
        invalid: Counts towards the invalid-request limit of this address.
        refused: Discord refuses the token that the call carried; counts for the caller that brought it.
    """

    round_trip: float
    headers: route_limits.BucketHeaders | None = None
    headers_expected: bool = True
    scope: Scope | None = None
    pause: float = 0.0
    clipped: bool = False
    invalid: bool = False
    refused: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Settlement:
    """
    The end of a permit's use.

    Attributes:
        outcome: None when the call was definitely never sent.
        read_at: When the answer was read, on the store's monotonic clock.
    """

    permit: limits.Permit
    outcome: Outcome | None
    read_at: float


@dataclasses.dataclass(frozen=True, slots=True)
class SettlementResult:
    """
    What the store concludes from a settlement.

    Attributes:
        foreign_calls: Calls that the headers count and no process of the fleet made.
        limit: What is known of the route now.
        stops_caller_for: Seconds for which this answer stops the caller that brought the token; 0 if it does not, or
            the caller was stopped before.
    """

    foreign_calls: int
    limit: route_limits.RouteLimit
    stops_caller_for: float = 0.0


class BudgetStore(Protocol):
    """
    Holds the budgets of all processes; each exchange is atomic.

    Raises:
        errors.LimiterUnavailable: The store cannot be reached; the exchange may or may not have happened.
    """

    async def exchange(
        self, parameters: limits.LimiterParameters, settlements: Sequence[Settlement], requests: Sequence[PermitRequest]
    ) -> tuple[list[SettlementResult], list[Decision]]:
        """Book the settlements, then decide the requests, in order. Empty lists only start a warm-up hold if needed."""

    async def snapshot(self, parameters: limits.LimiterParameters, user_ids: Sequence[int]) -> list[limits.BudgetState]:
        """Read the global budget, the invalid requests, the budgets of *user_ids* and of routes; write nothing."""

    async def forget_user(self, user_id: int) -> None:
        """Remove what carries the user's id; the ledgers of their budgets expire with their last permit."""
