"""Budgets that are charged together."""

import hypothesis
import pytest
from hypothesis import strategies

from devstack.simulator import limits, models

GLOBAL = limits.Charge("global", ("bot",), models.Limit(50, 1.0))


def route(guild: int, capacity: int = 3) -> limits.Charge:
    """The budget of one guild's bucket."""
    return limits.Charge("route", ("route", "bot", "bucket", guild), models.Limit(capacity, 10.0))


def test_no_budget_is_charged_when_one_rejects() -> None:
    """A request that the route's budget rejects is not charged to the global budget."""
    limiter = limits.Limiter(1, models.NAMES)
    for _ in range(3):
        limiter.admit([GLOBAL, route(1)], 0.0)

    refused = limiter.admit([GLOBAL, route(1)], 0.0)
    others = [limiter.admit([GLOBAL, route(2, 100)], 0.0) for _ in range(48)]

    assert refused.refused == "route"
    assert [verdict.refused for verdict in others] == [None] * 47 + ["global"]


def test_the_wait_is_the_longest_when_several_models_reject() -> None:
    """The wait is the longest of all enforced models."""
    limiter = limits.Limiter(1, ("sliding", "gcra"))
    for at in (0.0, 1.0, 2.0):
        limiter.admit([route(1)], at)

    verdict = limiter.admit([route(1)], 2.0)

    assert verdict.refused == "route"
    assert verdict.retry_after == pytest.approx(8.0)


def test_a_model_only_counts_when_it_is_not_enforced() -> None:
    """With no enforced model every request is admitted, and each model counts what it would have rejected."""
    limiter = limits.Limiter(1, ())

    verdicts = [limiter.admit([route(1)], 0.0) for _ in range(10)]

    assert {verdict.refused for verdict in verdicts} == {None}
    assert limiter.document()["route"] == {"wall": 7, "first": 7, "sliding": 7, "gcra": 7}


def test_rejections_of_foreign_traffic_are_not_counted() -> None:
    """Requests with `record=False` are charged to budgets, but their rejections are not counted."""
    limiter = limits.Limiter(1, models.NAMES)

    for _ in range(60):
        limiter.admit([GLOBAL], 0.0, record=False)

    assert limiter.admit([GLOBAL], 0.0).refused == "global"
    assert limiter.document()["global"]["sliding"] == 1


def test_a_budget_starts_empty_when_its_size_changes() -> None:
    """A new limit applies to the next request."""
    limiter = limits.Limiter(1, models.NAMES)
    for _ in range(3):
        limiter.admit([route(1, 3)], 0.0)

    verdict = limiter.admit([route(1, 2)], 0.0)

    assert verdict.refused is None
    assert verdict.last.limit == 2
    assert verdict.last.remaining == 1


def test_memory_stays_bounded_when_many_budgets_go_idle() -> None:
    """Budgets that were not used for two windows are removed once there are many."""
    limiter = limits.Limiter(1, models.NAMES)

    for number in range(limits.IDLE_BUDGETS + 10):
        limiter.admit([route(number)], number / 100)

    assert len(limiter._budgets) < limits.IDLE_BUDGETS


@hypothesis.settings(deadline=None)
@hypothesis.given(strategies.lists(strategies.tuples(strategies.floats(0, 1), strategies.integers(0, 2)), max_size=60))
def test_every_budget_holds_when_requests_share_some(arrivals: list[tuple[float, int]]) -> None:
    """For any mix of requests, no window of a budget exceeds its capacity."""
    limiter, now = limits.Limiter(1, models.NAMES), 0.0
    shared = limits.Charge("global", ("bot",), models.Limit(5, 1.0))
    got_in: list[tuple[float, int]] = []
    for gap, guild in arrivals:
        now += gap
        if limiter.admit([shared, route(guild)], now).refused is None:
            got_in.append((now, guild))

    for at, guild in got_in:
        assert sum(at - 1.0 + 1e-6 < time <= at for time, _ in got_in) <= 5
        assert sum(at - 10.0 + 1e-6 < time <= at for time, of in got_in if of == guild) <= 3
