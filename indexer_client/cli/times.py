"""Times, durations and counts as text."""

import datetime

from google.protobuf import duration_pb2, timestamp_pb2

CENTURY = 100 * 365 * 86_400.0
"""Longest accepted lifetime of a token, in seconds; a later date may not fit into a timestamp."""


def local_time(stamp: timestamp_pb2.Timestamp) -> datetime.datetime:
    """Return the time in this machine's time zone."""
    return stamp.ToDatetime(tzinfo=datetime.UTC).astimezone()


def time_of_day(stamp: timestamp_pb2.Timestamp) -> str:
    """Return the time of day."""
    return local_time(stamp).strftime("%H:%M:%S")


def has_passed(stamp: timestamp_pb2.Timestamp) -> bool:
    """Return whether a time has passed on this machine's clock."""
    return stamp.ToDatetime(tzinfo=datetime.UTC) <= datetime.datetime.now(tz=datetime.UTC)


def date_and_time(stamp: timestamp_pb2.Timestamp) -> str:
    """Return the date and the time of day."""
    return local_time(stamp).strftime("%Y-%m-%d %H:%M")


def to_duration(seconds: float) -> duration_pb2.Duration:
    """Return *seconds* as a protobuf duration."""
    made = duration_pb2.Duration()
    made.FromMicroseconds(round(seconds * 1e6))
    return made


def timestamp_in(seconds: float) -> timestamp_pb2.Timestamp:
    """Return the time *seconds* from now."""
    made = timestamp_pb2.Timestamp()
    made.FromDatetime(datetime.datetime.now(tz=datetime.UTC) + datetime.timedelta(seconds=seconds))
    return made


def format_seconds(seconds: float) -> str:
    """Return a duration such as 0.8 s, 59.3 s, 2:05 or 1:02:05."""
    minutes, rest = divmod(round(seconds), 60)
    if seconds < 60 and minutes == 0:  # noqa: PLR2004 -- a minute
        return f"{seconds:.1f} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def pluralize(number: int, noun: str) -> str:
    """Return a count with its noun, such as 1 guild or 1,503 channels."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
