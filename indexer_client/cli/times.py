"""Times and numbers as a person at a terminal reads them."""

import datetime

from google.protobuf import duration_pb2, timestamp_pb2

CENTURY = 100 * 365 * 86_400.0
"""The longest time from now that is believed, in seconds: what is beyond may be no date any more."""


def local_time(stamp: timestamp_pb2.Timestamp) -> datetime.datetime:
    """Return the time in the zone of this machine."""
    return stamp.ToDatetime(tzinfo=datetime.UTC).astimezone()


def time_of_day(stamp: timestamp_pb2.Timestamp) -> str:
    """Return the time of day."""
    return local_time(stamp).strftime("%H:%M:%S")


def date_and_time(stamp: timestamp_pb2.Timestamp) -> str:
    """Return day and time of day, for times that may be long ago."""
    return local_time(stamp).strftime("%Y-%m-%d %H:%M")


def to_duration(seconds: float) -> duration_pb2.Duration:
    """Return seconds as the API wants them."""
    made = duration_pb2.Duration()
    made.FromMicroseconds(round(seconds * 1e6))
    return made


def timestamp_in(seconds: float) -> timestamp_pb2.Timestamp:
    """Return the time that is so many seconds from now."""
    made = timestamp_pb2.Timestamp()
    made.FromDatetime(datetime.datetime.now(tz=datetime.UTC) + datetime.timedelta(seconds=seconds))
    return made


def format_seconds(seconds: float) -> str:
    """Return a length of time, as in 0.8 s, 59.3 s, 2:05 or 1:02:05."""
    minutes, rest = divmod(round(seconds), 60)
    if seconds < 60 and minutes == 0:  # noqa: PLR2004 -- a minute
        return f"{seconds:.1f} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def pluralize(number: int, noun: str) -> str:
    """Return a number with its noun, as in 1 guild or 1,503 channels."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
