"""The figures of the soak's report."""

import pytest

from tests.chaos import soak


def test_the_share_without_faults_counts_whole_seconds_that_no_fault_touches() -> None:
    """Of five seconds a fault touches two: 3 and 2 and 1 calls of 10 a second are 6 of 30."""
    arrivals = [0.1, 0.5, 0.9, 1.5, 2.1, 2.2, 3.1, 3.9, 4.0, 5.5]

    share = soak.share_without_faults(arrivals, [(1.2, 2.3)], seconds=5, rate=10)

    assert share == pytest.approx(0.2)


def test_the_share_without_faults_is_zero_when_a_fault_touches_every_second() -> None:
    """There is nothing to divide by."""
    assert soak.share_without_faults([0.5], [(0.0, 2.0)], seconds=2, rate=10) == 0.0
