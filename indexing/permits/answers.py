"""What an answer of Discord means for the budgets: settle, learn, pause, count."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from indexing import settings
from indexing.permits import budgets

EDGE_PAUSE = 60.0
"""Least seconds to stay away from an edge that blocks our address: our guess; real bans last hours."""
GLOBAL_MARGIN = 0.25
"""Seconds added to the pause after a 429 of the whole bot."""
FALLBACK = 1.0
"""Seconds to wait after a 429 that does not say for how long."""


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """
    What came back for a call.

    Attributes:
        status: HTTP status; None when the request was written and no whole answer came.
        headers: By lower-case name.
        round_trip: Seconds from sending to reading.
        body_retry_after: `retry_after` of a 429's body, in seconds.
        body_global: `global` of a 429's body.
        is_discord: False for a 403 or 429 without Discord's JSON: the edge in front of it blocks us.
    """

    status: int | None
    headers: Mapping[str, str]
    round_trip: float
    body_retry_after: float | None = None
    body_global: bool = False
    is_discord: bool = True


@dataclasses.dataclass(frozen=True, slots=True)
class BudgetState:
    """How one budget stands. Times are seconds from now, 0 for none; `why` says why it is paused."""

    kind: str
    key: str
    capacity: int
    window: float
    free: int
    next_free_in: float
    paused_for: float
    why: str


@dataclasses.dataclass(frozen=True, slots=True)
class Settlement:
    """A message for the script, its budgets' keys in order, other keys it names, and the bucket learned or nothing."""

    message: dict[str, Any]
    keys: list[str]
    others: list[str]
    bucket: str = ""


def scope_of(answer: Answer) -> str:
    """Return whose limit a 429 names: user, global, shared, or egress for the edge; empty when it is no 429."""
    if not answer.is_discord and answer.status in {403, 429}:
        return "egress"
    if answer.status != 429:  # noqa: PLR2004 -- HTTP Too Many Requests
        return ""
    if answer.body_global or "x-ratelimit-global" in answer.headers:
        return "global"
    scope = answer.headers.get("x-ratelimit-scope", "user")
    return scope if scope in {"user", "global", "shared"} else "user"


def server_time(answer: Answer) -> float | None:
    """Return the server's clock when it counted the request: when the bucket resets, less how long that takes."""
    reset, after = _number(answer, "x-ratelimit-reset"), _number(answer, "x-ratelimit-reset-after")
    return None if reset is None or after is None else reset - after


def settlement(
    permit_id: str,
    charge: budgets.Charge,
    charged: list[budgets.Budget],
    answer: Answer,
    credit: Mapping[str, float],
) -> Settlement:
    """Return what to tell the script about an answer; *credit* is in seconds, by kind of budget."""
    message: dict[str, Any] = {
        "id": permit_id,
        "answered": answer.status is not None,
        "budgets": [{"w": _window_ms(budget), "x": int(credit[budget.kind] * 1000)} for budget in charged],
    }
    scope = scope_of(answer)
    if scope:
        message["pause"] = _pause(scope, answer, charged)
    if answer.status in {401, 403, 429} and scope != "shared":
        message["invalid"] = True
    bucket = ""
    if answer.status is not None and scope != "egress":
        bucket = _learn(message, charge, charged, answer)
    keys = [budget.key for budget in charged]
    others = [message[part]["key"] for part in ("pause", "carry") if part in message]
    return Settlement(message, keys, [key for key in others if key not in keys], bucket)


def returned(permit_id: str, charged: list[budgets.Budget]) -> Settlement:
    """Return what to tell the script about a permit that was not used."""
    message = {"id": permit_id, "back": True, "budgets": [{} for _ in charged]}
    return Settlement(message, [budget.key for budget in charged], [])


def _window_ms(budget: budgets.Budget) -> int:
    return int(budget.rate.window * 1000) if budget.rate else 0


def _number(answer: Answer, header: str) -> float | None:
    """Return a header's finite number that is not negative."""
    try:
        value = float(answer.headers[header])
    except (KeyError, ValueError):
        return None
    return value if math.isfinite(value) and value >= 0 else None


def _pause(scope: str, answer: Answer, charged: list[budgets.Budget]) -> dict[str, Any]:
    seconds = answer.body_retry_after
    if seconds is None:
        seconds = _number(answer, "retry-after")
    if seconds is None:
        seconds = FALLBACK
    if scope == "egress":
        seconds = max(seconds, EDGE_PAUSE)
    elif scope == "global":
        seconds += GLOBAL_MARGIN
    capacity = charged[0].rate.capacity if charged[0].rate else 1
    return {
        "scope": scope,
        "retry": math.ceil(seconds * 1000),
        "key": charged[-1].key,
        "half": capacity // 2,
        "step": max(1, capacity // 10),
    }


def _learn(message: dict[str, Any], charge: budgets.Charge, charged: list[budgets.Budget], answer: Answer) -> str:
    """Add what the headers say of the route's limit to *message*; returns the bucket, or nothing if they are silent."""
    bucket = answer.headers.get("x-ratelimit-bucket", "")
    limit, after = _number(answer, "x-ratelimit-limit"), _number(answer, "x-ratelimit-reset-after")
    if not bucket or limit is None or after is None or "|" in bucket:
        bucket, limit, after = budgets.UNLIMITED, 0.0, 0.0
        if answer.status is None or answer.status >= 400:  # noqa: PLR2004 -- an error may lack what others have
            return ""
    key = budgets.route_key(charge, bucket)
    message["learn"] = {"route": charge.learned_as, "bucket": bucket, "l": int(limit), "w": math.ceil(after * 1000)}
    if "pause" in message:
        message["pause"]["key"] = key
    if key != charged[-1].key:
        message["carry"] = {"key": key, "route": charge.learned_as}
        return bucket
    message["budgets"][-1]["route"] = charge.learned_as
    remaining = _number(answer, "x-ratelimit-remaining")
    if remaining is not None and bucket != budgets.UNLIMITED:
        message["others"] = {"key": key, "l": int(limit), "remaining": int(remaining), "reset": math.ceil(after * 1000)}
    return bucket


def states(state: Mapping[str, Any], users: list[int], config: settings.LimiterSettings) -> list[BudgetState]:
    """Return how the budgets stand, from what state.lua says."""
    now = state["now"]
    paused, why = max(
        (state["hold_until"] - now, "hold"),
        (state["pause_until"] - now, "429"),
        (state["egress_until"] - now, "egress"),
    )
    first, *others = state["budgets"]
    found = [_state("global", "", config.global_budget, (first[0], first[1], max(0, paused)), why)]
    found += [
        _state("user", str(user), config.user_budget, tuple(counts), "429")
        for user, counts in zip(users, others, strict=True)
    ]
    line = settings.Rate(capacity=budgets.INVALID_LINE, window=600)
    stopped = state["invalid"] >= budgets.INVALID_LINE * config.limiter_stop_bulk
    found.append(_state("invalid_requests", "", line, (state["invalid"], 0, 60_000 if stopped else 0), "breaker"))
    for route, text in sorted(state["learned"].items()):
        bucket, _, rest = text.partition("|")
        if bucket and bucket != budgets.UNLIMITED:
            capacity, window = (int(part) for part in rest.split("|")[:2])
            found.append(BudgetState("route", route, capacity, window / 1000, capacity, 0.0, 0.0, ""))
    return found


def _state(kind: str, key: str, rate: settings.Rate, counts: tuple[int, int, int], why: str) -> BudgetState:
    used, next_ms, paused_ms = counts
    free = max(0, rate.capacity - used)
    return BudgetState(
        kind=kind,
        key=key,
        capacity=rate.capacity,
        window=rate.window,
        free=0 if paused_ms else free,
        next_free_in=0.0 if free else next_ms / 1000,
        paused_for=paused_ms / 1000,
        why=why if paused_ms else "",
    )
