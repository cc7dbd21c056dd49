"""What one reading of the fleet's clock says later."""

from hypothesis import given
from hypothesis import strategies as st

from indexing.ratelimit import fleet_clock

SPANS = st.floats(0.0, 1.0)


@given(there=SPANS, back=SPANS, later=st.floats(0.0, 86_400.0), drift=st.floats(-fleet_clock.DRIFT, fleet_clock.DRIFT))
def test_the_moment_lies_within_the_bounds_whatever_the_ways_and_the_drift(
    there: float, back: float, later: float, drift: float
) -> None:
    """The fleet's clock was read somewhere on the way, and runs a little faster or slower than ours."""
    reading = fleet_clock.Reading(1_000_000, 10.0, 10.0 + there + back)

    earliest, loose = reading.bounds(10.0 + there + back + later)

    truth = 1_000_000 + 1000 * (back + later * (1 + drift))
    assert earliest - 1e-3 <= truth <= earliest + loose + 1 + 1e-3


def test_a_closer_reading_is_kept_until_drift_made_it_worse() -> None:
    """A reading from a slow exchange replaces one from a fast exchange only when that is old."""
    fast, slow = fleet_clock.Reading(0, 0.0, 0.001), fleet_clock.Reading(1000, 0.9, 1.0)
    late = fleet_clock.Reading(200_000, 199.9, 200.0)

    assert fleet_clock.closer(fast, slow) is fast
    assert fleet_clock.closer(fast, late) is late


@given(there=SPANS, back=SPANS, later=st.floats(0.0, 1000.0), again=SPANS, slow=SPANS)
def test_a_clock_that_was_not_set_is_never_called_ahead(
    there: float, back: float, later: float, again: float, slow: float
) -> None:
    """However long the exchanges are on their way, what Redis shows can be explained."""
    watch = fleet_clock.Stopwatch()
    watch.learn(fleet_clock.Reading(1_000_000, 10.0, 10.0 + there + back, era=7), shown=1_000_000)
    sent = 10.0 + there + back + later

    shown = 1_000_000 + int(1000 * (back + later + again))
    watch.learn(fleet_clock.Reading(shown, sent, sent + again + slow, era=0), shown)

    assert not watch.says(sent + again + slow)["ahead"]


@given(there=SPANS, back=SPANS, later=st.floats(0.0, 1.0), step=st.floats(0.0, 3600.0))
def test_a_clock_that_was_set_further_than_the_ways_explain_is_called_ahead_until_an_era_begins(
    there: float, back: float, later: float, step: float
) -> None:
    """The next exchange says so; what was read before says nothing in the era that begins then."""
    watch = fleet_clock.Stopwatch()
    watch.learn(fleet_clock.Reading(1_000_000, 10.0, 10.0 + there + back, era=7), shown=1_000_000)
    now = 10.0 + there + back + later
    most = 1_000_000 + 1000 * (there + back + later + 2 * fleet_clock.DRIFT * later)

    watch.learn(fleet_clock.Reading(1_000_000, now, now, era=0), int(most + fleet_clock.JUMP + 3 + 1000 * step))

    assert (watch.says(now)["ahead"], watch.says(now)["era"]) == (True, 7)
    watch.learn(fleet_clock.Reading(2_000_000, now + 1, now + 2, era=8), shown=2_000_000)
    assert (watch.says(now + 3)["ahead"], watch.says(now + 3)["era"]) == (False, 8)


def test_a_reply_that_was_sent_for_before_the_era_began_changes_nothing() -> None:
    """Replies overtake each other."""
    watch = fleet_clock.Stopwatch()
    watch.learn(fleet_clock.Reading(2_000, 10.0, 10.1, era=8), shown=2_000)

    watch.learn(fleet_clock.Reading(9_000, 9.0, 10.2, era=7), shown=9_000)

    assert watch.says(11.0)["era"] == 8
