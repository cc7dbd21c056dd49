"""The four ways of counting."""

import collections
import itertools
import math

import hypothesis
import pytest
from hypothesis import strategies

from tests.simulator import models

LIMITS = strategies.builds(models.Limit, strategies.integers(1, 8), strategies.sampled_from([0.5, 1.0, 5.0]))
GAPS = strategies.lists(
    strategies.one_of(strategies.just(0.0), strategies.floats(0, 0.4), strategies.floats(0, 9)), max_size=80
)
PHASES = strategies.floats(0, 0.999)
SLACK = 1e-6


def admitted(model: models.Model, gaps: list[float]) -> list[float]:
    """Let requests arrive with *gaps* between them, and list when those came that got in."""
    times = []
    for now in itertools.accumulate(gaps):
        if model.wait(now) == 0:
            model.count(now)
            times.append(now)
    return times


@hypothesis.settings(deadline=None)
@hypothesis.given(LIMITS, PHASES, GAPS)
def test_wall_window_holds_when_demand_is_arbitrary(limit: models.Limit, phase: float, gaps: list[float]) -> None:
    """No window of the shifted wall clock ever admits more than the capacity."""
    shift = phase * limit.window

    times = admitted(models.WallWindow(limit, shift), gaps)

    windows = collections.Counter(math.floor((time + shift) / limit.window) for time in times)
    assert all(count <= limit.capacity for count in windows.values())


@hypothesis.settings(deadline=None)
@hypothesis.given(LIMITS, GAPS)
def test_first_window_holds_when_demand_is_arbitrary(limit: models.Limit, gaps: list[float]) -> None:
    """No window that opens with a request ever admits more than the capacity."""
    times = admitted(models.FirstWindow(limit), gaps)

    opened, count = -math.inf, 0
    for time in times:
        if time - opened >= limit.window:
            opened, count = time, 0
        count += 1
        assert count <= limit.capacity


@hypothesis.settings(deadline=None)
@hypothesis.given(LIMITS, GAPS)
def test_sliding_log_holds_when_demand_is_arbitrary(limit: models.Limit, gaps: list[float]) -> None:
    """No window at any moment ever holds more than the capacity."""
    times = admitted(models.SlidingLog(limit), gaps)

    for last in times:
        assert sum(last - limit.window < time <= last for time in times) <= limit.capacity + (
            sum(abs(last - time - limit.window) < SLACK for time in times)
        )


@hypothesis.settings(deadline=None)
@hypothesis.given(LIMITS, GAPS)
def test_gcra_holds_when_demand_is_arbitrary(limit: models.Limit, gaps: list[float]) -> None:
    """No interval of length x ever holds more than capacity + x times rate."""
    times = admitted(models.Gcra(limit), gaps)

    for first, last in itertools.combinations(range(len(times)), 2):
        length = times[last] - times[first]
        assert last - first + 1 <= limit.capacity + length * limit.capacity / limit.window + SLACK


@hypothesis.settings(deadline=None)
@hypothesis.given(LIMITS, PHASES, GAPS)
def test_nobody_objects_when_no_window_at_all_is_overfull(limit: models.Limit, phase: float, gaps: list[float]) -> None:
    """A client with at most N requests in every window of W, wherever it lies, is refused by no model."""
    four = models.all_four(limit, phase)
    sent: list[float] = []
    for now in itertools.accumulate(gaps):
        if sum(now - time < limit.window + SLACK for time in sent) < limit.capacity:
            sent.append(now)

            waits = [model.wait(now) for model in four]

            assert waits == [0, 0, 0, 0]
            for model in four:
                model.count(now)


@hypothesis.settings(deadline=None)
@hypothesis.given(LIMITS, PHASES, GAPS)
def test_a_request_gets_in_when_it_waits_as_told(limit: models.Limit, phase: float, gaps: list[float]) -> None:
    """Who waits as long as the model says is admitted, and not a moment is said too much in the sliding log."""
    for model in models.all_four(limit, phase):
        admitted(model, gaps)
        now = sum(gaps)

        wait = model.wait(now)

        assert model.wait(now + wait + SLACK) == 0


@hypothesis.settings(deadline=None)
@hypothesis.given(LIMITS, PHASES, GAPS)
def test_remaining_says_how_many_fit_when_they_come_at_once(
    limit: models.Limit, phase: float, gaps: list[float]
) -> None:
    """As many requests as remain are admitted at one moment, and not one more."""
    for model in models.all_four(limit, phase):
        admitted(model, gaps)
        now = sum(gaps)

        remaining = model.remaining(now)
        burst = len(admitted_at_once(model, now))

        assert burst == remaining
        assert model.remaining(now) == 0


def admitted_at_once(model: models.Model, now: float) -> list[float]:
    """Take all that can be had at *now*."""
    times = []
    while model.wait(now) == 0:
        model.count(now)
        times.append(now)
    return times


@hypothesis.settings(deadline=None)
@hypothesis.given(LIMITS, PHASES, GAPS)
def test_everything_is_back_when_the_reset_time_is_over(limit: models.Limit, phase: float, gaps: list[float]) -> None:
    """After reset_after seconds without requests the whole capacity is there."""
    for model in models.all_four(limit, phase):
        admitted(model, gaps)
        now = sum(gaps)

        later = now + model.reset_after(now) + SLACK

        assert model.remaining(later) == limit.capacity


@pytest.mark.parametrize(
    ("name", "refused"),
    [("wall", 0), ("first", 5), ("sliding", 5), ("gcra", 4)],
)
def test_models_differ_when_a_burst_straddles_a_window(name: str, refused: int) -> None:
    """One and the same burst is fine for one model and too much for another."""
    limit = models.Limit(5, 5.0)
    model = dict(zip(models.NAMES, models.all_four(limit, 0.0), strict=True))[name]

    got_in = admitted(model, [4.0, 0, 0, 0, 0, 1.0, 0, 0, 0, 0])

    assert 10 - len(got_in) == refused
