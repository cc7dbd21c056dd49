"""How budgets look from outside, computed from what a store holds. Moments are milliseconds of the fleet's clock."""

import dataclasses
from collections.abc import Mapping

from indexing import settings
from indexing.ratelimit import limits

PAUSED = "!"
"""Entry of a ledger that pauses it; "!shared" pauses it too, but not because of us."""


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """One budget to show: its ledger's key, and what the row is called."""

    kind: str
    name: str
    size: settings.Rate
    ledger: str


@dataclasses.dataclass(frozen=True, slots=True)
class Look:
    """What stands beside the ledgers: *meta* and *egress* by field, as in state.lua."""

    rules: limits.Rules
    now: float
    meta: Mapping[str, float]
    egress: Mapping[str, float]

    def wait(self, moment: float) -> float:
        """Return the seconds until *moment*, 0 when it is over."""
        return max(0.0, (moment - self.now) / 1000)


def state_of(row: Row, entries: Mapping[str, float], look: Look) -> limits.BudgetState:
    """Return one budget's state; *entries* is its ledger: permit -> moment of release."""
    pauses = {name: look.wait(moment) for name, moment in entries.items() if name.startswith(PAUSED)}
    held = [look.wait(moment) for name, moment in entries.items() if not name.startswith(PAUSED)]
    held = [wait for wait in held if wait > 0]
    name = max(pauses, key=lambda one: pauses[one], default="")
    paused = pauses.get(name, 0.0)
    free = max(0, row.size.capacity - len(held))
    return limits.BudgetState(
        kind=row.kind,
        key=row.name,
        capacity=row.size.capacity,
        window=row.size.window,
        free=0 if paused else free,
        next_free_in=0.0 if free else min(*held, row.size.window),
        paused_for=paused,
        why=("pause" if name == PAUSED else "shared") if paused else "",
    )


def global_state(entries: Mapping[str, float], look: Look) -> limits.BudgetState:
    """Return the global budget's state, with what stops everybody."""
    state = state_of(Row("global", "", look.rules.global_budget, ""), entries, look)
    stops = {
        "hold": look.wait(look.meta.get("hold", 0)),
        "pause": look.wait(look.meta.get("pause", 0)),
        "edge": look.wait(look.egress.get("edge", 0)),
        "breaker": look.wait(look.egress.get("all", 0)),
    }
    why = max(stops, key=lambda one: stops[one])
    if not stops[why]:
        return state
    return dataclasses.replace(state, free=0, paused_for=stops[why], why=why)


def ban_line(look: Look) -> limits.BudgetState:
    """Return the state of this address's invalid requests; paused means that at least background and refresh stop."""
    oldest = look.now / 60_000 - limits.INVALID.window / 60
    minutes = {name[1:]: count for name, count in look.egress.items() if name.startswith("m")}
    count = int(sum(count for minute, count in minutes.items() if int(minute) > oldest))
    paused = max(look.wait(look.egress.get("bulk", 0)), look.wait(look.egress.get("all", 0)))
    return limits.BudgetState(
        kind="invalid_requests",
        key="",
        capacity=limits.INVALID.capacity,
        window=limits.INVALID.window,
        free=max(0, limits.INVALID.capacity - count),
        paused_for=paused,
        why="breaker" if paused else "",
    )
