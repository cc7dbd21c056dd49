"""The estimate of the fleet's clock: its bounds, and how it notices that Redis' clock was set."""

from hypothesis import given
from hypothesis import strategies as st

from indexing.ratelimit import fleet_clock

SPANS = st.floats(0.0, 1.0)


@given(there=SPANS, back=SPANS, later=st.floats(0.0, 86_400.0), drift=st.floats(-fleet_clock.DRIFT, fleet_clock.DRIFT))
def test_bounds_contain_the_fleets_clock_whatever_the_latency_and_the_drift(
    there: float, back: float, later: float, drift: float
) -> None:
    """The script ran at any time during the exchange, and the two clocks run at slightly different rates."""
    reading = fleet_clock.Reading(1_000_000, 10.0, 10.0 + there + back)

    earliest, uncertainty = reading.bounds(10.0 + there + back + later)

    truth = 1_000_000 + 1000 * (back + later * (1 + drift))
    assert earliest - 1e-3 <= truth <= earliest + uncertainty + 1 + 1e-3


def test_the_more_precise_reading_is_kept_until_drift_makes_it_worse() -> None:
    """A reading from a slow exchange replaces one from a fast exchange only when the fast one is old."""
    fast, slow = fleet_clock.Reading(0, 0.0, 0.001), fleet_clock.Reading(1000, 0.9, 1.0)
    late = fleet_clock.Reading(200_000, 199.9, 200.0)

    assert fleet_clock.most_precise(fast, slow) is fast
    assert fleet_clock.most_precise(fast, late) is late


@given(there=SPANS, back=SPANS, later=st.floats(0.0, 1000.0), again=SPANS, slow=SPANS)
def test_redis_clock_is_not_reported_ahead_when_it_was_not_set(
    there: float, back: float, later: float, again: float, slow: float
) -> None:
    """However long the exchanges take, they explain what Redis shows."""
    clock = fleet_clock.FleetClock()
    clock.update(fleet_clock.Reading(1_000_000, 10.0, 10.0 + there + back, epoch=7), redis_ms=1_000_000)
    sent = 10.0 + there + back + later

    shown = 1_000_000 + int(1000 * (back + later + again))
    clock.update(fleet_clock.Reading(shown, sent, sent + again + slow, epoch=0), shown)

    assert not clock.estimate(sent + again + slow)["ahead"]


@given(there=SPANS, back=SPANS, later=st.floats(0.0, 1.0), step=st.floats(0.0, 3600.0))
def test_redis_clock_is_reported_ahead_until_the_next_epoch_when_it_was_set_forward(
    there: float, back: float, later: float, step: float
) -> None:
    """A step that no latency explains is reported with the next exchange, until a new epoch begins."""
    clock = fleet_clock.FleetClock()
    clock.update(fleet_clock.Reading(1_000_000, 10.0, 10.0 + there + back, epoch=7), redis_ms=1_000_000)
    now = 10.0 + there + back + later
    most = 1_000_000 + 1000 * (there + back + later + 2 * fleet_clock.DRIFT * later)

    clock.update(fleet_clock.Reading(1_000_000, now, now, epoch=0), int(most + fleet_clock.JUMP + 3 + 1000 * step))

    assert (clock.estimate(now)["ahead"], clock.estimate(now)["epoch"]) == (True, 7)
    clock.update(fleet_clock.Reading(2_000_000, now + 1, now + 2, epoch=8), redis_ms=2_000_000)
    assert (clock.estimate(now + 3)["ahead"], clock.estimate(now + 3)["epoch"]) == (False, 8)


def test_a_reply_is_ignored_when_it_was_requested_before_the_epoch_began() -> None:
    """Replies may arrive out of order."""
    clock = fleet_clock.FleetClock()
    clock.update(fleet_clock.Reading(2_000, 10.0, 10.1, epoch=8), redis_ms=2_000)

    clock.update(fleet_clock.Reading(9_000, 9.0, 10.2, epoch=7), redis_ms=9_000)

    assert clock.estimate(11.0)["epoch"] == 8
