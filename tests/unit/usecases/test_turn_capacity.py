"""Turns wait long for a permit only while the process has threads to spare."""

import contextlib

import pytest

from indexing import settings
from indexing.usecases import turn_capacity


@pytest.mark.parametrize(("running", "spare"), [(1, True), (6, True), (7, False), (8, False)])
def test_three_quarters_of_the_threads_may_wait_long(running: int, spare: bool) -> None:  # noqa: FBT001 -- a parameter
    """Of eight threads, two are kept for turns that come."""
    capacity = turn_capacity.Capacity(threads=8)
    with contextlib.ExitStack() as turns:
        limits = [
            turns.enter_context(capacity.background_turn(settings.IndexingSettings(), 100.0)) for _ in range(running)
        ]

        assert {each.can_wait() for each in limits} == {spare}
        assert (limits[0].max_wait, limits[0].spare_wait, limits[0].until) == (2.0, 10.0, 105.0)

    with capacity.background_turn(settings.IndexingSettings(), 100.0) as later:
        assert later.can_wait()


def test_no_turn_waits_long_once_the_process_is_about_to_end() -> None:
    """Also not one that has begun."""
    capacity = turn_capacity.Capacity(threads=8)
    with capacity.background_turn(settings.IndexingSettings(), 100.0) as limits:
        capacity.drain()

        assert not limits.can_wait()


def test_the_last_permit_comes_well_before_a_short_lease_ends() -> None:
    """A lease of 11 s, of which 5 s are the turn's time, leaves 2 s for each of wait, permit and call."""
    config = settings.IndexingSettings(turn_lease=11.0)
    with turn_capacity.Capacity(threads=8).background_turn(config, 100.0) as limits:
        assert limits.spare_wait == pytest.approx(2.0)
