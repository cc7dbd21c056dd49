"""What one reading of the fleet's clock says later."""

from hypothesis import given
from hypothesis import strategies as st

from indexing.ratelimit import stopwatch

SPANS = st.floats(0.0, 1.0)


@given(there=SPANS, back=SPANS, later=st.floats(0.0, 86_400.0), drift=st.floats(-stopwatch.DRIFT, stopwatch.DRIFT))
def test_the_moment_lies_within_the_bounds_whatever_the_ways_and_the_drift(
    there: float, back: float, later: float, drift: float
) -> None:
    """The fleet's clock was read somewhere on the way, and runs a little faster or slower than ours."""
    reading = stopwatch.Reading(1_000_000, 10.0, 10.0 + there + back)

    earliest, loose = reading.bounds(10.0 + there + back + later)

    truth = 1_000_000 + 1000 * (back + later * (1 + drift))
    assert earliest - 1e-3 <= truth <= earliest + loose + 1 + 1e-3


def test_a_closer_reading_is_kept_until_drift_made_it_worse() -> None:
    """A reading from a slow exchange replaces one from a fast exchange only when that is old."""
    fast, slow = stopwatch.Reading(0, 0.0, 0.001), stopwatch.Reading(1000, 0.9, 1.0)
    late = stopwatch.Reading(200_000, 199.9, 200.0)

    assert stopwatch.closer(fast, slow) is fast
    assert stopwatch.closer(fast, late) is late
