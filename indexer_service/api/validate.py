"""
Validation of request fields.

Each function raises errors.InvalidArgument, which names the field. `Checks` collects these, so that a caller learns all
wrong fields of a request at once (AIP-193).
"""

import re
import types
import uuid
from collections.abc import Callable, Collection, Sequence
from typing import ParamSpec, Self, TypeVar

from google.protobuf import duration_pb2, message, timestamp_pb2

from indexing import errors

SNOWFLAKE = re.compile(r"[1-9][0-9]{0,18}")
JOB_ID = re.compile(r"[0-9a-f]{32}")
INT64 = (1 << 63) - 1
MAX_TIMESTAMP = 253_402_300_799.0
"""The last second of the year 9999, where Timestamps end (google/protobuf/timestamp.proto)."""
LONGEST_AGE = 365 * 86_400.0
"""Seconds of the greatest max_age."""
RESPONSE_TIME = 0.25
"""Seconds reserved for the response when the default wait is shortened to the call's deadline."""


Arguments = ParamSpec("Arguments")
Checked = TypeVar("Checked")


class Checks:
    """
    Collects the wrong fields of a request; the end of the `with` block raises errors.InvalidArgument with all of them.

    Inside the block nothing may be done with the results but to check more: what is wrong is None.
    """

    def __init__(self) -> None:
        self._problems: list[errors.InvalidArgument] = []

    def __call__(
        self, check: Callable[Arguments, Checked], *values: Arguments.args, **options: Arguments.kwargs
    ) -> Checked:
        """Return the result of *check*, or note that it failed."""
        try:
            return check(*values, **options)
        except errors.InvalidArgument as problem:
            self._problems.append(problem)
            return None  # type: ignore[return-value]  # never used: the block raises

    def __enter__(self) -> Self:
        """Begin to check."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        """Raise what was collected, unless something else went wrong."""
        if error is None and self._problems:
            first, *others = self._problems
            raise errors.InvalidArgument(first.field, first.problem, *others)


def snowflake(field: str, text: str) -> int:
    """Return a Discord id."""
    if not SNOWFLAKE.fullmatch(text) or int(text) > INT64:
        raise errors.InvalidArgument(field, "must be a Discord id: a decimal number of 1 to 19 digits")
    return int(text)


def snowflakes(field: str, texts: Sequence[str], *, most: int) -> tuple[int, ...]:
    """Return Discord ids without duplicates, in their order."""
    max_entries(field, texts, most=most)
    return tuple(dict.fromkeys(snowflake(element(field, place), text) for place, text in enumerate(texts)))


def element(field: str, place: int) -> str:
    """Return the path of a list's element; errors count from 1 (google/rpc/error_details.proto, FieldViolation)."""
    return f"{field}[{place + 1}]"


def ids_as_text(field: str, texts: Sequence[str], *, most: int) -> Sequence[str]:
    """Return Discord ids as they are written. Fast for many of them."""
    max_entries(field, texts, most=most)
    if not texts:
        raise errors.InvalidArgument(field, "must have at least one entry")
    if not all(map(SNOWFLAKE.fullmatch, texts)):
        snowflakes(field, texts, most=most)
    return texts


def max_age(requested: duration_pb2.Duration | None) -> float | None:
    """Return the greatest age of what is read, in seconds; None for any."""
    if requested is None:
        return None
    return seconds("max_age", requested, default=0.0, bounds=(0.0, LONGEST_AGE))


def job_id(field: str, text: str) -> str:
    """Return a job id."""
    if not JOB_ID.fullmatch(text):
        raise errors.InvalidArgument(field, "must be a job id: 32 hexadecimal digits")
    return text


def request_id(field: str, text: str) -> str:
    """Return a request id in its canonical form, or the empty text."""
    if text:
        try:
            return str(uuid.UUID(text))
        except ValueError as error:
            raise errors.InvalidArgument(field, "must be a UUID") from error
    return ""


def page_size(size: int, *, default: int, most: int) -> int:
    """Return the page size; 0 means the default, and what is above the maximum means the maximum (AIP-158)."""
    if size < 0:
        raise errors.InvalidArgument("page_size", f"must be between 1 and {most}, or 0 for {default}")
    return min(size, most) or default


def number(field: str, value: float, *, least: float, most: float) -> float:
    """Return a number that is within its bounds."""
    if not least <= value <= most:
        raise errors.InvalidArgument(field, f"must be between {least:g} and {most:g}")
    return value


def seconds(field: str, value: duration_pb2.Duration | None, *, default: float, bounds: tuple[float, float]) -> float:
    """Return a duration in seconds; None means the default."""
    if value is None:
        return default
    return number(field, value.seconds + value.nanos / 1e9, least=bounds[0], most=bounds[1])


def epoch_seconds(field: str, value: timestamp_pb2.Timestamp) -> float:
    """Return a time in epoch seconds that converts back to a Timestamp."""
    problem = "must be a time between the years 1 and 9999"
    try:
        found = value.ToNanoseconds() / 1e9
    except ValueError as error:
        raise errors.InvalidArgument(field, problem) from error
    if found > MAX_TIMESTAMP:
        # As a float, the last nanoseconds of the year 9999 round to the year 10000.
        raise errors.InvalidArgument(field, problem)
    return found


def wait(requested: duration_pb2.Duration | None, *, default: float, most: float, remaining: float | None) -> float:
    """
    Return how long a call may wait, in seconds.

    A requested wait beyond the call's deadline is refused; the default is shortened to the deadline.

    Args:
        requested: The field, None when it is not set.
        default: Wait for a field that is not set.
        most: Longest wait that is accepted.
        remaining: Seconds until the call's deadline, None when it has none.
    """
    if requested is None:
        return default if remaining is None else min(default, max(0.0, remaining - RESPONSE_TIME))
    found = seconds("wait", requested, default=default, bounds=(0.0, most))
    if remaining is not None and found > remaining:
        raise errors.InvalidArgument("wait", f"{found:g} s exceed the call's deadline of {remaining:.1f} s")
    return found


def text(field: str, value: str, *, most: int, least: int = 0) -> str:
    """Return a text whose length is within its bounds."""
    if not least <= len(value) <= most:
        raise errors.InvalidArgument(field, f"must have {least} to {most} characters")
    return value


def max_entries(field: str, values: Sequence[object], *, most: int) -> None:
    """Raise errors.InvalidArgument when a list is too long."""
    if len(values) > most:
        raise errors.InvalidArgument(field, f"must have at most {most} entries")


def header(field: str, value: str, *, least: int, most: int) -> str:
    """Return a text that an HTTP header can carry: printable ASCII, no spaces. The error never repeats it."""
    if not least <= len(value) <= most or any(not "!" <= character <= "~" for character in value):
        raise errors.InvalidArgument(field, f"must have {least} to {most} printable ASCII characters and no spaces")
    return value


def known_value(field: str, value: int, values: Collection[int]) -> int:
    """Return the value of an enum; a request may not have one that this release does not know."""
    if value not in values:
        raise errors.InvalidArgument(field, "has a value that this version does not know")
    return value


def update_mask(field: str, paths: Sequence[str], values: message.Message) -> Collection[str]:
    """Return the fields of *values* to store: those in the mask, all for `*`, the set ones without a mask (AIP-134)."""
    if not paths:
        return [known.name for known, _ in values.ListFields()]
    known = values.DESCRIPTOR.fields_by_name
    if list(paths) == ["*"]:
        return list(known)
    for place, path in enumerate(paths):
        if path not in known:
            raise errors.InvalidArgument(element(field + ".paths", place), f"must be * or some of {', '.join(known)}")
    return list(paths)
