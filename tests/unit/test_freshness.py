"""How old is too old, and how long to wait after a failure."""

import random

import hypothesis
import pytest
from hypothesis import strategies

from indexing import freshness
from tests import clockwork, values

NOW = clockwork.START


@pytest.mark.parametrize(
    ("fetched_at", "fresh"),
    [
        pytest.param(None, False, id="never"),
        pytest.param(NOW - 1, False, id="before"),
        pytest.param(NOW, False, id="exactly-then"),
        pytest.param(NOW + 0.001, True, id="after"),
    ],
)
def test_a_guild_counts_as_fetched_when_it_was_read_after_the_moment(
    fetched_at: float | None,
    fresh: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """A listing exactly as old as the moment says nothing about what came after it."""
    assert freshness.fetched_since(values.guild(fetched_at=fetched_at), NOW) is fresh


def test_an_unknown_guild_is_never_fresh_when_it_is_asked_for() -> None:
    """Nothing is known of it."""
    assert not freshness.fetched_since(None, 0.0)


@pytest.mark.parametrize(
    ("roles_at", "fresh"),
    [
        pytest.param(None, False, id="never"),
        pytest.param(NOW - 59.9, True, id="young"),
        pytest.param(NOW - 60.0, False, id="exactly-as-old"),
        pytest.param(NOW + 5.0, True, id="from-a-faster-clock"),
    ],
)
def test_roles_are_fresh_when_they_are_younger_than_their_age(
    roles_at: float | None,
    fresh: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """At their age they are asked for again."""
    membership = values.membership(role_ids=(), roles_at=roles_at)

    assert freshness.roles_are_fresh(membership, now=NOW, max_age=60.0) is fresh


@hypothesis.given(
    attempts=strategies.integers(1, 20), base=strategies.floats(0.1, 60), seed=strategies.integers(0, 1000)
)
def test_the_pause_doubles_when_failures_repeat(attempts: int, base: float, seed: int) -> None:
    """After each failure twice as long, a quarter more or less."""
    exact = base * 2 ** (attempts - 1)

    pause = freshness.backoff(attempts, base=base, dice=random.Random(seed))

    assert 0.75 * exact <= pause <= 1.25 * exact


def test_pauses_differ_when_many_fail_at_once() -> None:
    """What failed together does not come back together."""
    dice = random.Random(1)

    pauses = {freshness.backoff(1, base=5.0, dice=dice) for _ in range(100)}

    assert len(pauses) == 100
    assert max(pauses) - min(pauses) > 2.0
