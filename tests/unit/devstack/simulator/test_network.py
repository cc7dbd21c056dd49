"""Simulated network delays."""

import statistics

import pytest

from devstack.simulator import network


@pytest.mark.parametrize(
    ("name", "least", "mean"),
    [
        ("none", 0, (0, 0)),
        ("lan", 0.080, (0.080, 0.084)),
        ("typical", 0.060, (0.075, 0.110)),
        ("bad", 0.120, (0.2, 0.3)),
    ],
)
def test_round_trips_follow_the_profile(name: str, least: float, mean: tuple[float, float]) -> None:
    """Each profile has its smallest and its mean round trip."""
    path = network.Network(network.profile(name), seed=1)

    trips = [path.delay() + path.delay() for _ in range(5_000)]

    assert min(trips) >= least
    assert mean[0] <= statistics.fmean(trips) <= mean[1]


def test_a_few_round_trips_stall_when_the_profile_is_typical() -> None:
    """Nearly all round trips take 60 to 140 ms, about one in a thousand much longer."""
    path = network.Network(network.profile("typical"), seed=1)

    trips = [path.delay() + path.delay() for _ in range(20_000)]

    assert 0.0003 < sum(trip > 0.140 for trip in trips) / len(trips) < 0.003


def test_round_trips_stay_within_given_bounds() -> None:
    """`20-60` means round trips of 20 to 60 ms."""
    path = network.Network(network.profile("20-60"), seed=1)

    trips = [path.delay() + path.delay() for _ in range(2_000)]

    assert min(trips) >= 0.020
    assert max(trips) <= 0.060 + 1e-9


@pytest.mark.parametrize("text", ["fast", "60-20", "-5", "1.5-2"])
def test_a_profile_is_rejected_when_it_is_invalid(text: str) -> None:
    """The error lists the profiles."""
    with pytest.raises(ValueError, match="typical"):
        network.profile(text)
