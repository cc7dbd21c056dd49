"""The tokens file, and the request rate of a caller."""

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


def test_a_token_is_found_by_its_hash_when_it_has_a_line() -> None:
    """With its scopes and rate; comments and empty lines are skipped."""
    found = auth.parse_tokens(f"# callers\n\n  shop\t{DIGEST} index,read 100/1 # since May\n".encode(), {})

    (token,) = found.values()
    assert found.keys() == {bytes.fromhex(DIGEST)}
    assert (token.caller, sorted(token.scopes)) == ("shop", [auth.Scope.INDEX, auth.Scope.READ])
    assert str(token.bucket.rate) == "100/1"


def test_a_caller_has_one_rate_when_it_has_two_tokens() -> None:
    """It can move from one to the other, and gains nothing by having both."""
    found = auth.parse_tokens(f"shop {DIGEST} index 100/1\nshop {OTHER} read 100/1".encode(), {})

    one, other = found.values()
    assert one.bucket is other.bucket
    assert one.scopes != other.scopes


def test_a_caller_keeps_its_bucket_when_the_file_is_loaded_again() -> None:
    """Unless its rate has changed."""
    before = auth.parse_tokens(f"shop {DIGEST} index 100/1".encode(), {})

    same = auth.parse_tokens(f"shop {OTHER} index 100/1".encode(), before)
    wider = auth.parse_tokens(f"shop {OTHER} index 200/1".encode(), before)

    (old,), (kept,), (new,) = before.values(), same.values(), wider.values()
    assert kept.bucket is old.bucket
    assert new.bucket is not old.bucket


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        pytest.param("", "has no token", id="no-token"),
        pytest.param(f"shop {DIGEST} index", "line 1: must be", id="field-missing"),
        pytest.param(f"shop {DIGEST} index 1/1 more", "line 1: must be", id="field-too-many"),
        pytest.param(f"Shop! {DIGEST} index 1/1", "line 1: a caller's name", id="name"),
        pytest.param("shop the-token-itself index 1/1", "line 1: the hash", id="token-in-the-clear"),
        pytest.param(f"shop {DIGEST[:-1]} index 1/1", "line 1: the hash", id="hash-cut"),
        pytest.param(f"shop {DIGEST} index,everything 1/1", "line 1: scopes", id="scope"),
        pytest.param(f"shop {DIGEST} , 1/1", "line 1: scopes", id="no-scope"),
        pytest.param(f"shop {DIGEST} index often", "line 1: the rate", id="rate"),
        pytest.param(f"shop {DIGEST} index 0/1", "line 1: the rate", id="rate-of-nothing"),
        pytest.param(
            f"a {OTHER} index 1/1\nb {OTHER} read 1/1", "line 2: an earlier line has the same token", id="token-of-two"
        ),
        pytest.param(
            f"a {OTHER} index 1/1\na {DIGEST} read 2/1",
            "line 2: an earlier line gives this caller another rate",
            id="two-rates",
        ),
        pytest.param("ÿ\0", "line 1: must be", id="binary"),
    ],
)
def test_the_file_is_refused_when_a_line_is_invalid(line: str, problem: str) -> None:
    """As a whole: half a file would lock callers out. The error names the line and does not repeat it."""
    with pytest.raises(file_watch.InvalidFile) as refused:
        auth.parse_tokens(line.encode("latin-1"), {})

    text = str(refused.value)
    assert text.startswith(f"INDEXER_SERVICE_TOKENS_FILE: {problem}")
    assert "the-token-itself" not in text
    assert DIGEST not in text


def test_a_hash_is_not_shown_when_a_token_is_printed() -> None:
    """It has no use in a log."""
    found = auth.parse_tokens(f"shop {DIGEST} index 100/1".encode(), {})

    shown = repr([*found.values()])

    assert "shop" in shown
    assert DIGEST not in shown
    assert repr(bytes.fromhex(DIGEST)) not in shown


@hypothesis.given(
    capacity=strategies.integers(1, 50),
    window=strategies.sampled_from([0.5, 1.0, 7.0, 60.0]),
    steps=strategies.lists(strategies.floats(0, 2), max_size=200),
)
def test_a_caller_gets_no_more_than_its_rate_when_it_calls_at_any_times(
    capacity: int, window: float, steps: Sequence[float]
) -> None:
    """At once as many as the capacity, over any time no more than that plus the rate; the wait is exact."""
    bucket = auth.RequestBucket(settings.Rate(capacity=capacity, window=window))
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


def test_the_whole_capacity_is_free_when_a_caller_was_idle() -> None:
    """And not one request more."""
    bucket = auth.RequestBucket(settings.Rate(capacity=1000, window=1.0))

    waits = [bucket.take(5.0) for _ in range(1001)]

    assert waits[:1000] == [0.0] * 1000
    assert waits[1000] == pytest.approx(0.001)


def test_a_token_in_a_log_line_shows_neither_its_hash_nor_its_bucket() -> None:
    """Its caller and scopes say enough."""
    digest = "ab" * 32
    (token,) = auth.parse_tokens(f"web {digest} read 5/1".encode(), {}).values()

    assert repr(token) == f"ServiceToken(caller='web', scopes={token.scopes!r})"


def test_a_bucket_gives_its_capacity_at_once_and_then_one_for_each_share_of_the_window() -> None:
    """A refused request takes nothing; the answer is the seconds until one is free."""
    bucket = auth.RequestBucket(auth.RATE.validate_python("4/2"))

    first = [bucket.take(100.0) for _ in range(5)]
    later = [bucket.take(at) for at in (100.25, 100.5, 100.5, 102.0, 102.0, 102.0, 102.0)]

    assert first == [0.0, 0.0, 0.0, 0.0, 0.5]
    assert later == [0.25, 0.0, 0.5, 0.0, 0.0, 0.0, 0.5]
