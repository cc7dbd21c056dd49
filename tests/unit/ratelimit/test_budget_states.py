"""Budgets as operators see them, computed from what the store holds."""

import dataclasses

import pytest

from indexing import settings
from indexing.ratelimit import limits, status

PARAMETERS = limits.LimiterParameters.from_settings(settings.LimiterSettings(), call_timeout=10.0)
ROW = status.BudgetRow("user", "7", settings.Rate(capacity=3, window=5.0), "ledger")
NOW = 6_000_000.0
"""Minute 100 of the fleet's clock."""


def fleet(meta: dict[str, float] | None = None, /, **egress: float) -> status.FleetState:
    """Return a state of the fleet; `_` in a field stands for a blank."""
    fields = {name.replace("_", " "): value for name, value in egress.items()}
    return status.FleetState(PARAMETERS, NOW, meta or {}, fields)


USUAL = limits.BudgetState("user", "7", 3, 5.0, 3, 0.0, 0.0, "")


@pytest.mark.parametrize(
    ("entries", "changes"),
    [
        pytest.param({}, {}, id="unused"),
        pytest.param({"a": NOW}, {}, id="just released"),
        pytest.param({"a": NOW + 1, "b": NOW - 1}, {"free": 2}, id="one held"),
        pytest.param(
            {"a": NOW + 1500, "b": NOW + 1200, "c": NOW + 9000}, {"free": 0, "next_free_in": 1.2}, id="used up"
        ),
        pytest.param(
            dict.fromkeys("abcd", NOW + 9000), {"free": 0, "next_free_in": 5.0}, id="in flight, and one too many"
        ),
        pytest.param({"!": NOW + 1500}, {"free": 0, "paused_for": 1.5, "reason": "pause"}, id="paused"),
        pytest.param(
            {"!": NOW + 1500, "!shared": NOW + 2000}, {"free": 0, "paused_for": 2.0, "reason": "shared"}, id="shared"
        ),
        pytest.param({"!": NOW - 1, "a": NOW + 1}, {"free": 2}, id="pause is over"),
    ],
)
def test_a_budget_has_the_permits_that_nobody_holds(entries: dict[str, float], changes: dict[str, object]) -> None:
    """While it is paused, none."""
    assert status.budget_state(ROW, entries, fleet()) == dataclasses.replace(USUAL, **changes)  # type: ignore[arg-type]  # any field


@pytest.mark.parametrize(
    ("meta", "egress", "changes"),
    [
        pytest.param({}, {}, {}, id="nothing"),
        pytest.param({"hold": NOW + 500}, {}, {"free": 0, "paused_for": 0.5, "reason": "hold"}, id="hold"),
        pytest.param({"pause": NOW + 500}, {}, {"free": 0, "paused_for": 0.5, "reason": "pause"}, id="pause"),
        pytest.param({}, {"edge": NOW + 500}, {"free": 0, "paused_for": 0.5, "reason": "edge"}, id="edge"),
        pytest.param({}, {"all": NOW + 500}, {"free": 0, "paused_for": 0.5, "reason": "breaker"}, id="breaker"),
        pytest.param(
            {"hold": NOW + 500, "pause": NOW - 1},
            {"edge": NOW + 900},
            {"free": 0, "paused_for": 0.9, "reason": "edge"},
            id="the longest",
        ),
    ],
)
def test_the_global_budget_names_what_stops_all_calls(
    meta: dict[str, float], egress: dict[str, float], changes: dict[str, object]
) -> None:
    """The reason that lasts longest."""
    usual = limits.BudgetState("global", "", 50, 1.0, 50, 0.0, 0.0, "")

    found = status.global_budget_state({}, fleet(meta, **egress))

    assert found == dataclasses.replace(usual, **changes)  # type: ignore[arg-type]  # any field


def test_invalid_answers_of_the_last_ten_minutes_are_counted() -> None:
    """A field for each minute; one that is ten minutes old counts no more."""
    counted = fleet(m90=1, m91=20, o100=300, mx=5, bulk=NOW - 1)

    assert status.invalid_requests_state(counted) == limits.BudgetState(
        "invalid_requests", "", 10_000, 600.0, 10_000 - 320, 0.0, 0.0, ""
    )


@pytest.mark.parametrize("field", ["bulk", "all"])
def test_a_breaker_of_the_address_is_a_pause_of_its_invalid_requests(field: str) -> None:
    """Of some lanes or of all; beyond the limit nothing is free."""
    found = status.invalid_requests_state(fleet(m100=10_001, **{field: NOW + 1500}))

    assert (found.free, found.paused_for, found.reason) == (0, 1.5, "breaker")


def test_callers_with_refused_tokens_are_listed_by_name() -> None:
    """Those of the last ten minutes, and those that are stopped."""
    found = status.caller_states(fleet(r100_web=3, r91_web=4, r90_old=9, stop_app=NOW + 1500, r100_app=201, m99=5))

    usual = limits.BudgetState("invalid_requests", "web", 200, 600.0, 193, 0.0, 0.0, "")
    stopped = dataclasses.replace(usual, key="app", free=0, paused_for=1.5, reason="caller")
    assert found == [stopped, usual]


def test_a_caller_that_is_stopped_stays_listed_when_its_refusals_are_old() -> None:
    """Until the stop is over."""
    found = status.caller_states(fleet(r80_web=300, stop_web=NOW + 1500))

    assert [(row.key, row.free, row.paused_for) for row in found] == [("web", 200, 1.5)]
