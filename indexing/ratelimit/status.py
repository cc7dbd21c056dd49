"""Computes budget states from what a store holds. Moments are milliseconds of the fleet's clock."""

import dataclasses
from collections.abc import Iterable, Mapping

from indexing import settings
from indexing.ratelimit import limits

PAUSE = "!"
"""Ledger entry that pauses its budget; "!shared" pauses it too, for a limit that the fleet did not cause."""


@dataclasses.dataclass(frozen=True, slots=True)
class BudgetRow:
    """A budget to list: its ledger's key, and what the list calls it."""

    kind: str
    name: str
    size: settings.Rate
    ledger: str


@dataclasses.dataclass(frozen=True, slots=True)
class FleetState:
    """State that all budgets share: *meta* and *egress* by field, as in state.lua."""

    parameters: limits.LimiterParameters
    now: float
    meta: Mapping[str, float]
    egress: Mapping[str, float]

    def seconds_until(self, moment: float) -> float:
        """Return the seconds until *moment*, 0 when it has passed."""
        return max(0.0, (moment - self.now) / 1000)


def budget_state(row: BudgetRow, entries: Mapping[str, float], fleet: FleetState) -> limits.BudgetState:
    """Return one budget's state; *entries* is its ledger: permit -> moment of release."""
    pauses = {name: fleet.seconds_until(moment) for name, moment in entries.items() if name.startswith(PAUSE)}
    held = [fleet.seconds_until(moment) for name, moment in entries.items() if not name.startswith(PAUSE)]
    held = [wait for wait in held if wait > 0]
    longest = max(pauses, key=lambda name: pauses[name], default="")
    paused = pauses.get(longest, 0.0)
    free = max(0, row.size.capacity - len(held))
    return limits.BudgetState(
        kind=row.kind,
        key=row.name,
        capacity=row.size.capacity,
        window=row.size.window,
        free=0 if paused else free,
        next_free_in=0.0 if free else min(*held, row.size.window),
        paused_for=paused,
        reason=("pause" if longest == PAUSE else "shared") if paused else "",
    )


def global_budget_state(entries: Mapping[str, float], fleet: FleetState) -> limits.BudgetState:
    """Return the global budget's state, including what stops all calls."""
    state = budget_state(BudgetRow("global", "", fleet.parameters.global_budget, ""), entries, fleet)
    stops = {
        "hold": fleet.seconds_until(fleet.meta.get("hold", 0)),
        "pause": fleet.seconds_until(fleet.meta.get("pause", 0)),
        "edge": fleet.seconds_until(fleet.egress.get("edge", 0)),
        "breaker": fleet.seconds_until(fleet.egress.get("all", 0)),
    }
    reason = max(stops, key=lambda name: stops[name])
    if not stops[reason]:
        return state
    return dataclasses.replace(state, free=0, paused_for=stops[reason], reason=reason)


def invalid_requests_state(fleet: FleetState) -> limits.BudgetState:
    """Return the state of this address's invalid requests; while paused, at least background and refresh stop."""
    limit = limits.INVALID_REQUEST_LIMIT
    oldest = fleet.now / 60_000 - limit.window / 60
    minutes = [(name[1:], count) for name, count in fleet.egress.items() if name.startswith(("m", "o"))]
    count = _count_since(oldest, minutes)
    paused = max(fleet.seconds_until(fleet.egress.get("bulk", 0)), fleet.seconds_until(fleet.egress.get("all", 0)))
    return limits.BudgetState(
        kind="invalid_requests",
        key="",
        capacity=limit.capacity,
        window=limit.window,
        free=max(0, limit.capacity - count),
        paused_for=paused,
        reason="breaker" if paused else "",
    )


def caller_states(fleet: FleetState) -> list[limits.BudgetState]:
    """Return the state of each caller whose tokens were refused lately; while paused, calls with its tokens stop."""
    limit = limits.INVALID_REQUEST_LIMIT
    oldest = fleet.now / 60_000 - limit.window / 60
    by_caller: dict[str, list[tuple[str, float]]] = {}
    for field, count in fleet.egress.items():
        minute, _, caller = field.partition(" ")
        if caller and minute != "stop":
            by_caller.setdefault(caller, []).append((minute[1:], count))
    states = []
    for caller, minutes in sorted(by_caller.items()):
        count, paused = _count_since(oldest, minutes), fleet.seconds_until(fleet.egress.get(f"stop {caller}", 0))
        if count or paused:
            states.append(
                limits.BudgetState(
                    kind="invalid_requests",
                    key=caller,
                    capacity=fleet.parameters.stop_caller,
                    window=limit.window,
                    free=max(0, fleet.parameters.stop_caller - count),
                    paused_for=paused,
                    reason="caller" if paused else "",
                )
            )
    return states


def _count_since(oldest: float, minutes: Iterable[tuple[str, float]]) -> int:
    """Return the sum of the counts of minutes after *oldest*."""
    return int(sum(count for minute, count in minutes if minute.isdecimal() and int(minute) > oldest))
