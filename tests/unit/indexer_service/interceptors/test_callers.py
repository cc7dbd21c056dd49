"""The file of service tokens, and how many requests a caller may make."""

import hashlib
from collections.abc import Sequence

import hypothesis
import pytest
from hypothesis import strategies

from indexer_service import file_watch
from indexer_service.interceptors import auth
from indexing import settings
from tests import clockwork

DIGEST = hashlib.sha256(b"a token").hexdigest()
OTHER = hashlib.sha256(b"another token").hexdigest()


def test_a_caller_is_known_by_its_tokens_hash_when_it_has_a_line() -> None:
    """With what it may do; comments and empty lines are nothing."""
    found = auth.read(f"# ours\n\n  shop\t{DIGEST} index,read 100/1 # since May\n".encode(), {})

    (caller,) = found.values()
    assert found.keys() == {bytes.fromhex(DIGEST)}
    assert (caller.name, sorted(caller.scopes)) == ("shop", [auth.Scope.INDEX, auth.Scope.READ])
    assert str(caller.bucket.rate) == "100/1"


def test_a_caller_has_one_rate_when_it_has_two_tokens() -> None:
    """So that it can move from one to the next, and gains nothing by having both."""
    found = auth.read(f"shop {DIGEST} index 100/1\nshop {OTHER} read 100/1".encode(), {})

    one, other = found.values()
    assert one.bucket is other.bucket
    assert one.scopes != other.scopes


def test_a_caller_goes_on_with_what_it_has_used_when_the_file_is_read_again() -> None:
    """Unless its rate is another now."""
    before = auth.read(f"shop {DIGEST} index 100/1".encode(), {})

    same = auth.read(f"shop {OTHER} index 100/1".encode(), before)
    wider = auth.read(f"shop {OTHER} index 200/1".encode(), before)

    (old,), (kept,), (new,) = before.values(), same.values(), wider.values()
    assert kept.bucket is old.bucket
    assert new.bucket is not old.bucket


@pytest.mark.parametrize(
    ("line", "told"),
    [
        pytest.param("", "names no caller", id="nobody"),
        pytest.param(f"shop {DIGEST} index", "line 1: must be", id="field-missing"),
        pytest.param(f"shop {DIGEST} index 1/1 more", "line 1: must be", id="field-too-many"),
        pytest.param(f"Shop! {DIGEST} index 1/1", "line 1: a caller's name", id="name"),
        pytest.param("shop the-token-itself index 1/1", "line 1: the hash", id="token-in-the-clear"),
        pytest.param(f"shop {DIGEST[:-1]} index 1/1", "line 1: the hash", id="hash-cut"),
        pytest.param(f"shop {DIGEST} index,everything 1/1", "line 1: scopes", id="scope"),
        pytest.param(f"shop {DIGEST} , 1/1", "line 1: scopes", id="no-scope"),
        pytest.param(f"shop {DIGEST} index often", "line 1: the rate", id="rate"),
        pytest.param(f"shop {DIGEST} index 0/1", "line 1: the rate", id="rate-of-nothing"),
        pytest.param(f"a {OTHER} index 1/1\nb {OTHER} read 1/1", "line 2: the same token", id="token-of-two"),
        pytest.param(f"a {OTHER} index 1/1\na {DIGEST} read 2/1", "line 2: the same caller", id="two-rates"),
        pytest.param("ÿ\0", "line 1: must be", id="binary"),
    ],
)
def test_the_file_is_refused_when_a_line_is_wrong(line: str, told: str) -> None:
    """As a whole: half a file would lock callers out, or let them in. The line is named, and not repeated."""
    with pytest.raises(file_watch.Unacceptable) as refused:
        auth.read(line.encode("latin-1"), {})

    text = str(refused.value)
    assert text.startswith(f"INDEXER_SERVICE_TOKENS_FILE: {told}")
    assert "the-token-itself" not in text
    assert DIGEST not in text


def test_a_hash_is_not_shown_when_a_caller_is_printed() -> None:
    """It opens nothing, and helps nobody either."""
    found = auth.read(f"shop {DIGEST} index 100/1".encode(), {})

    shown = repr([*found.values()])

    assert "shop" in shown
    assert DIGEST not in shown
    assert repr(bytes.fromhex(DIGEST)) not in shown


@hypothesis.given(
    capacity=strategies.integers(1, 50),
    window=strategies.sampled_from([0.5, 1.0, 7.0, 60.0]),
    steps=strategies.lists(strategies.floats(0, 2), max_size=200),
)
def test_no_caller_has_more_than_its_rate_when_it_asks_at_any_times(
    capacity: int, window: float, steps: Sequence[float]
) -> None:
    """At once as many as the capacity, and over any time no more than that and the rate; a refusal says when."""
    bucket = auth.Bucket(settings.Rate(capacity=capacity, window=window))
    clock = clockwork.ManualClock()
    taken: list[float] = []
    for step in steps:
        clock.advance(step * window / capacity)
        wait = bucket.take(clock.elapsed)
        assert 0 <= wait <= window + 1e-6
        if wait:
            clock.advance(wait)
            assert bucket.take(clock.elapsed) == 0
        taken.append(clock.elapsed)

    for first in range(len(taken)):
        for last in range(first, len(taken)):
            span = taken[last] - taken[first]
            assert last - first + 1 <= capacity + span * capacity / window + 1e-3


def test_the_whole_capacity_is_there_at_once_when_a_caller_was_silent() -> None:
    """And not one more."""
    bucket = auth.Bucket(settings.Rate(capacity=1000, window=1.0))

    waits = [bucket.take(5.0) for _ in range(1001)]

    assert waits[:1000] == [0.0] * 1000
    assert waits[1000] == pytest.approx(0.001)
