"""Validation of request fields."""

import math
import uuid
from collections.abc import Callable

import pytest
from google.protobuf import duration_pb2, timestamp_pb2

from indexer_service.api import convert, validate
from indexing import errors

LARGEST = (1 << 63) - 1
HOSTILE = ["", "0", "01", "-1", "+1", "1.0", "1e5", " 1", "1\n", "１", "9" * 19, "9" * 100, "0x1", "one", "1_0", "\0"]  # noqa: RUF001 -- a digit of another script


def duration(seconds: float) -> duration_pb2.Duration:
    """Return a Duration."""
    made = duration_pb2.Duration()
    made.FromMilliseconds(round(seconds * 1000))
    return made


@pytest.mark.parametrize("number", [1, 80351110224678912, LARGEST], ids=str)
def test_an_id_is_accepted_when_it_is_a_snowflake(number: int) -> None:
    """Up to 63 bits."""
    assert validate.snowflake("user_id", str(number)) == number


@pytest.mark.parametrize("text", [*HOSTILE, str(LARGEST + 1)])
def test_an_id_is_refused_when_it_is_no_snowflake(text: str) -> None:
    """Only a plain decimal number in its canonical form is accepted."""
    with pytest.raises(errors.InvalidArgument) as refused:
        validate.snowflake("user_id", text)

    assert refused.value.field == "user_id"


def test_each_id_counts_once_when_ids_are_repeated() -> None:
    """In the order of their first occurrence."""
    assert validate.snowflakes("pinned", ["7", "3", "7", "1"], most=4) == (7, 3, 1)


def test_a_request_id_is_canonical_when_it_is_written_differently() -> None:
    """A UUID in upper case or without dashes is the same UUID."""
    made = uuid.UUID("123e4567-e89b-12d3-a456-426614174000")

    found = {validate.request_id("request_id", text) for text in (str(made), str(made).upper(), made.hex)}

    assert found == {str(made)}
    assert validate.request_id("request_id", "") == ""


@pytest.mark.parametrize(
    ("size", "wanted"), [(0, 50), (1, 1), (200, 200), (201, 200)], ids=["default", "least", "most", "above"]
)
def test_a_page_size_is_accepted_when_it_is_not_negative(size: int, wanted: int) -> None:
    """Zero means the default, and a size above the maximum means the maximum."""
    assert validate.page_size(size, default=50, most=200) == wanted


@pytest.mark.parametrize(
    ("check", "field"),
    [
        pytest.param(lambda: validate.snowflakes("pins", ["1", "x"], most=5), "pins[2]", id="one-bad-id"),
        pytest.param(lambda: validate.snowflakes("pins", ["1"] * 6, most=5), "pins", id="too-many-ids"),
        pytest.param(lambda: validate.job_id("job_id", "A" * 32), "job_id", id="job-id-in-capitals"),
        pytest.param(lambda: validate.job_id("job_id", "a" * 31), "job_id", id="short-job-id"),
        pytest.param(lambda: validate.job_id("job_id", "a" * 32 + "\n"), "job_id", id="job-id-and-newline"),
        pytest.param(lambda: validate.request_id("request_id", "x"), "request_id", id="no-uuid"),
        pytest.param(lambda: validate.page_size(-1, default=5, most=9), "page_size", id="negative-page"),
        pytest.param(lambda: validate.number("n", 6, least=0, most=5), "n", id="number-above"),
        pytest.param(lambda: validate.number("n", -1, least=0, most=5), "n", id="number-below"),
        pytest.param(lambda: validate.number("n", math.nan, least=0, most=5), "n", id="not-a-number"),
        pytest.param(
            lambda: validate.seconds("heartbeat", duration(4.999), default=15, bounds=(5, 60)), "heartbeat", id="short"
        ),
        pytest.param(lambda: validate.text("name_prefix", "x" * 101, most=100), "name_prefix", id="long-text"),
        pytest.param(lambda: validate.text("scopes", "", least=1, most=100), "scopes", id="empty-text"),
        pytest.param(lambda: validate.max_entries("types", [0] * 21, most=20), "types", id="too-many"),
        pytest.param(lambda: validate.header("token", "a b", least=1, most=9), "token", id="blank-in-header"),
        pytest.param(lambda: validate.header("token", "a\r\nX: y", least=1, most=9), "token", id="header-smuggling"),
        pytest.param(lambda: validate.header("token", "ä", least=1, most=9), "token", id="header-not-ascii"),
        pytest.param(lambda: validate.header("token", "", least=1, most=9), "token", id="empty-header"),
        pytest.param(lambda: validate.header("token", "x" * 10, least=1, most=9), "token", id="long-header"),
    ],
)
def test_the_field_is_named_when_a_value_is_refused(check: Callable[[], object], field: str) -> None:
    """As data and at the start of the message."""
    with pytest.raises(errors.InvalidArgument) as refused:
        check()

    assert refused.value.field == field
    assert str(refused.value).startswith(f"{field}: ")


def test_a_token_is_not_repeated_when_it_is_refused() -> None:
    """A message must not repeat what may be a secret."""
    with pytest.raises(errors.InvalidArgument) as refused:
        validate.header("access_token", "my secret", least=1, most=2048)

    assert "secret" not in str(refused.value)


def test_a_duration_is_seconds_when_it_is_within_bounds() -> None:
    """With fractions; an absent field means the default."""
    assert validate.seconds("heartbeat", duration(5.5), default=15, bounds=(5, 60)) == 5.5
    assert validate.seconds("heartbeat", None, default=15, bounds=(5, 60)) == 15


@pytest.mark.parametrize(
    ("requested", "remaining", "wanted"),
    [
        pytest.param(None, None, 2.0, id="default"),
        pytest.param(None, 30.0, 2.0, id="default-within-deadline"),
        pytest.param(None, 1.0, 1.0 - validate.RESPONSE_TIME, id="default-shortened"),
        pytest.param(None, 0.1, 0.0, id="hardly-any-time"),
        pytest.param(0.0, 1.0, 0.0, id="no-wait"),
        pytest.param(10.0, None, 10.0, id="longest"),
        pytest.param(3.0, 3.5, 3.0, id="asked-within-deadline"),
    ],
)
def test_a_wait_ends_before_the_deadline_when_the_call_has_one(
    requested: float | None, remaining: float | None, wanted: float
) -> None:
    """A requested wait is kept; the default is shortened."""
    field = None if requested is None else duration(requested)

    assert validate.wait(field, default=2.0, most=10.0, remaining=remaining) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("requested", "remaining"), [(10.001, None), (-0.001, None), (3.0, 2.9)], ids=["long", "negative", "past-deadline"]
)
def test_a_wait_is_refused_when_it_is_out_of_bounds(requested: float, remaining: float | None) -> None:
    """It is not shortened silently."""
    with pytest.raises(errors.InvalidArgument) as refused:
        validate.wait(duration(requested), default=2.0, most=10.0, remaining=remaining)

    assert refused.value.field == "wait"


@pytest.mark.parametrize(
    "field",
    [
        pytest.param(timestamp_pb2.Timestamp(seconds=253_402_300_799), id="last-second"),
        pytest.param(timestamp_pb2.Timestamp(seconds=-62_135_596_800), id="first-second"),
        pytest.param(timestamp_pb2.Timestamp(seconds=1, nanos=999_999_999), id="nanoseconds"),
    ],
)
def test_a_time_converts_back_when_it_is_accepted(field: timestamp_pb2.Timestamp) -> None:
    """A later response has to carry it as a Timestamp."""
    found = validate.epoch_seconds("expire_time", field)

    assert abs(convert.timestamp(found).ToNanoseconds() / 1e9 - found) < 1.0


@pytest.mark.parametrize(
    ("seconds", "nanos"),
    [(253_402_300_799, 999_999_999), (253_402_300_800, 0), (-62_135_596_801, 0), (0, -1), (0, 10**9), (1 << 62, 0)],
)
def test_a_time_is_refused_when_it_does_not_convert_back(seconds: int, nanos: int) -> None:
    """Also one that only rounding moves beyond the last year."""
    with pytest.raises(errors.InvalidArgument) as refused:
        validate.epoch_seconds("expire_time", timestamp_pb2.Timestamp(seconds=seconds, nanos=nanos))

    assert refused.value.field == "expire_time"
