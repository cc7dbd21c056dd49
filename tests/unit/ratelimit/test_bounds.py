"""Numbers of 429s and rate-limit headers: what counts, what is clipped, what counts as missing."""

import pytest

from indexing.ratelimit import bounds, route_limits


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, 0.0),
        (1.5, 1.5),
        (300, 300.0),
        (300.1, 300.0),
        (1e9, 300.0),
        (float("inf"), 300.0),
        (10**400, 300.0),
        (-0.1, None),
        (float("-inf"), None),
        (float("nan"), None),
        ("5", None),
        (True, None),
        (None, None),
        ([5], None),
    ],
    ids=repr,
)
def test_a_wait_of_the_body_is_a_number_of_seconds_up_to_five_minutes(value: object, expected: float | None) -> None:
    """Anything else is a missing wait."""
    assert bounds.wait(value) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2", 2.0),
        ("0.25", 0.25),
        ("1e9", 300.0),
        ("-1", None),
        ("1_0", None),
        ("nan", None),
        ("\u0661", None),
        ("", None),
    ],
)
def test_a_wait_of_a_header_is_a_number_of_seconds_up_to_five_minutes(text: str, expected: float | None) -> None:
    """Anything else is a missing wait, dates included."""
    assert bounds.header_wait(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("5", 5),
        ("100000", 100_000),
        ("100001", None),
        ("-1", None),
        ("+1", None),
        ("1_0", None),
        ("\u0661", None),
    ],
)
def test_a_count_of_a_header_is_a_whole_number_up_to_the_largest_capacity(text: str, expected: int | None) -> None:
    """Anything else is a missing count."""
    assert bounds.header_count(text) == expected


GOOD = {
    "x-ratelimit-bucket": "b1",
    "x-ratelimit-limit": "5",
    "x-ratelimit-remaining": "4",
    "x-ratelimit-reset-after": "1.5",
}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("bucket", ""),
        ("bucket", "a b"),
        ("bucket", "b" * 129),
        ("limit", "0"),
        ("limit", "five"),
        ("limit", "100001"),
        ("remaining", "6"),
        ("remaining", "-1"),
        ("reset-after", "soon"),
        ("reset-after", "-1"),
        ("reset-after", "nan"),
    ],
)
def test_headers_are_missing_when_one_of_them_is_no_good(name: str, value: str) -> None:
    """A bucket is learned whole or not."""
    assert route_limits.BucketHeaders.parse_headers(GOOD) == route_limits.BucketHeaders("b1", 5, 4, 1.5)
    assert route_limits.BucketHeaders.parse_headers(GOOD | {f"x-ratelimit-{name}": value}) is None


def test_the_reset_of_headers_is_five_minutes_at_most() -> None:
    """However late the answer says that it is."""
    found = route_limits.BucketHeaders.parse_headers(GOOD | {"x-ratelimit-reset-after": "1e9"})

    assert found == route_limits.BucketHeaders("b1", 5, 4, 300.0)


@pytest.mark.parametrize(("length", "counts"), [(1, True), (128, True), (129, False)])
def test_a_buckets_name_has_at_most_128_characters(length: int, *, counts: bool) -> None:
    """Headers with a longer one are not learned from."""
    headers = {
        "x-ratelimit-bucket": "b" * length,
        "x-ratelimit-limit": "5",
        "x-ratelimit-remaining": "4",
        "x-ratelimit-reset-after": "1.0",
    }

    assert (route_limits.BucketHeaders.parse_headers(headers) is not None) is counts
