"""Discord's ids."""

from hypothesis import given, settings, strategies

from devstack.simulator import snowflakes


@settings(deadline=None)
@given(strategies.integers(0, 10**9), strategies.integers(0, 10**6), strategies.integers(0, 10**6))
def test_ids_are_unique_and_plausible(seed: int, one: int, other: int) -> None:
    """Each index of a kind has a unique id, dated between 2015 and 2026."""
    first, second = snowflakes.nth_id(seed, one), snowflakes.nth_id(seed, other)

    assert (first == second) == (one == other)
    assert snowflakes.OLDEST_MS <= snowflakes.created_ms(first) < snowflakes.NEWEST_MS


def test_the_creation_time_of_the_documented_example() -> None:
    """175928847299117063 was created on 2016-04-30 at 11:18:25.796 UTC (developers/reference.mdx)."""
    assert snowflakes.created_ms(175928847299117063) == 1462015105796
