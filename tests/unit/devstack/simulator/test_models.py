"""The four counting models."""

import collections
import itertools
import math

import hypothesis
import pytest
from hypothesis import strategies

from devstack.simulator import models

Demand = tuple[models.Limit, list[float]]


@strategies.composite
def demands(draw: strategies.DrawFn) -> Demand:
    """Draw a limit, and gaps between requests around its window: bursts, trickles, just under, just over."""
    limit = models.Limit(draw(strategies.integers(1, 6)), draw(strategies.sampled_from([0.5, 1.0, 5.0])))
    share = strategies.one_of(
        strategies.just(0.0),
        strategies.floats(0, 0.2),
        strategies.sampled_from([0.25, 0.5, 0.85, 0.95, 0.999, 1.0, 1.001]),
        strategies.floats(0, 2),
    )
    return limit, [gap * limit.window for gap in draw(strategies.lists(share, max_size=60))]


PHASES = strategies.floats(0, 0.999)
SLACK = 1e-6


def admitted(model: models.Model, gaps: list[float]) -> list[float]:
    """Send requests with *gaps* between them; returns the times of the admitted ones."""
    times = []
    for now in itertools.accumulate(gaps):
        if model.wait(now) == 0:
            model.count(now)
            times.append(now)
    return times


@hypothesis.settings(deadline=None)
@hypothesis.given(demands(), PHASES)
def test_wall_window_holds_when_demand_is_arbitrary(demand: Demand, phase: float) -> None:
    """No window of the shifted wall clock admits more than the capacity."""
    limit, gaps = demand
    shift = phase * limit.window

    times = admitted(models.WallWindow(limit, shift), gaps)

    windows = collections.Counter(math.floor((time + shift) / limit.window) for time in times)
    assert all(count <= limit.capacity for count in windows.values())


@hypothesis.settings(deadline=None)
@hypothesis.given(demands())
def test_first_window_holds_when_demand_is_arbitrary(demand: Demand) -> None:
    """No window that opens with a request admits more than the capacity."""
    limit, gaps = demand
    times = admitted(models.FirstWindow(limit), gaps)

    opened, count = -math.inf, 0
    for time in times:
        if time - opened >= limit.window:
            opened, count = time, 0
        count += 1
        assert count <= limit.capacity


@hypothesis.settings(deadline=None)
@hypothesis.given(demands())
def test_sliding_log_holds_when_demand_is_arbitrary(demand: Demand) -> None:
    """No window at any time holds more than the capacity."""
    limit, gaps = demand
    times = admitted(models.SlidingLog(limit), gaps)

    for last in times:
        assert sum(last - limit.window < time <= last for time in times) <= limit.capacity + (
            sum(abs(last - time - limit.window) < SLACK for time in times)
        )


@hypothesis.settings(deadline=None)
@hypothesis.given(demands())
def test_gcra_holds_when_demand_is_arbitrary(demand: Demand) -> None:
    """No interval of length x holds more than capacity + x times rate."""
    limit, gaps = demand
    times = admitted(models.Gcra(limit), gaps)

    for first, last in itertools.combinations(range(len(times)), 2):
        length = times[last] - times[first]
        assert last - first + 1 <= limit.capacity + length * limit.capacity / limit.window + SLACK


@hypothesis.settings(deadline=None)
@hypothesis.given(demands(), PHASES)
def test_no_model_rejects_when_no_window_exceeds_the_capacity(demand: Demand, phase: float) -> None:
    """No model rejects a client with at most N requests in every window of length W."""
    limit, gaps = demand
    four = models.all_models(limit, phase)
    sent: list[float] = []
    for now in itertools.accumulate(gaps):
        if sum(now - time < limit.window + SLACK for time in sent) < limit.capacity:
            sent.append(now)

            waits = [model.wait(now) for model in four]

            assert waits == [0, 0, 0, 0]
            for model in four:
                model.count(now)


@hypothesis.settings(deadline=None)
@hypothesis.given(demands(), PHASES)
def test_a_request_is_admitted_after_the_wait(demand: Demand, phase: float) -> None:
    """A client that waits as long as the model says is admitted."""
    limit, gaps = demand
    for model in models.all_models(limit, phase):
        admitted(model, gaps)
        now = sum(gaps)

        wait = model.wait(now)

        assert model.wait(now + wait + SLACK) == 0


@hypothesis.settings(deadline=None)
@hypothesis.given(demands(), PHASES)
def test_remaining_requests_are_admitted_at_one_moment(demand: Demand, phase: float) -> None:
    """Exactly the remaining number of requests is admitted at one moment."""
    limit, gaps = demand
    for model in models.all_models(limit, phase):
        admitted(model, gaps)
        now = sum(gaps)

        remaining = model.remaining(now)
        burst = len(admitted_at_once(model, now))

        assert burst == remaining
        assert model.remaining(now) == 0


def admitted_at_once(model: models.Model, now: float) -> list[float]:
    """Take everything that is available at *now*."""
    times = []
    while model.wait(now) == 0:
        model.count(now)
        times.append(now)
    return times


@hypothesis.settings(deadline=None)
@hypothesis.given(demands(), PHASES)
def test_full_capacity_is_available_after_reset_after(demand: Demand, phase: float) -> None:
    """After reset_after seconds without requests, the full capacity is available."""
    limit, gaps = demand
    for model in models.all_models(limit, phase):
        admitted(model, gaps)
        now = sum(gaps)

        later = now + model.reset_after(now) + SLACK

        assert model.remaining(later) == limit.capacity


@pytest.mark.parametrize(
    ("name", "refused"),
    [("wall", 0), ("first", 5), ("sliding", 5), ("gcra", 4)],
)
def test_models_differ_when_a_burst_straddles_a_window(name: str, refused: int) -> None:
    """One model admits a burst that another rejects."""
    limit = models.Limit(5, 5.0)
    model = dict(zip(models.NAMES, models.all_models(limit, 0.0), strict=True))[name]

    got_in = admitted(model, [4.0, 0, 0, 0, 0, 1.0, 0, 0, 0, 0])

    assert 10 - len(got_in) == refused


@pytest.mark.parametrize(("name", "share"), [("wall", 1.0), ("first", 1.0), ("sliding", 1.0), ("gcra", 1 / 3)])
def test_capacity_returns_exactly_in_time_after_a_burst(name: str, share: float) -> None:
    """Shortly before its time a request is rejected, shortly after it is admitted."""
    limit = models.Limit(3, 5.0)
    model = dict(zip(models.NAMES, models.all_models(limit, 0.0), strict=True))[name]

    burst = admitted(model, [0.0, 0.0, 0.0, 0.0])

    assert len(burst) == 3
    assert model.wait(share * limit.window * 0.999) > 0
    assert model.wait(share * limit.window * 1.001) == 0
