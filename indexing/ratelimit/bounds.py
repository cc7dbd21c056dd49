"""
The bounds of every number in a 429 and in rate-limit headers.

A value of the wrong type, or outside its bounds, counts as missing. Waits and windows are clipped to `MAX_WAIT`.
"""

import math

MAX_WAIT = 300.0
"""Longest wait, and longest window, that one answer may ask for, in seconds: our guess. After it, one call finds out
whether to wait on."""
MAX_BUCKET_LENGTH = 128
"""Characters of a bucket's id. Our guess, far above what Discord sends."""
MAX_CAPACITY = 100_000
"""Calls of a bucket. Our guess, far above what Discord sends."""
_INT64 = (1 << 63) - 1


def wait(value: object) -> float | None:
    """Return a wait in seconds, at most `MAX_WAIT`; None when *value* is no number of seconds from now on."""
    seconds = number(value)
    return None if seconds is None or seconds < 0 else min(seconds, MAX_WAIT)


def header_wait(text: str) -> float | None:
    """Return the wait, or the time until a reset, of a header; see `wait`."""
    try:
        return wait(float(text)) if text.isascii() and "_" not in text else None
    except ValueError:
        return None


def header_count(text: str) -> int | None:
    """Return a number of calls; None when *text* is none, or larger than `MAX_CAPACITY`."""
    # int() also accepts signs, blanks, underscores and other digits.
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(MAX_CAPACITY))):
        return None
    return int(text) if int(text) <= MAX_CAPACITY else None


def number(value: object) -> float | None:
    """Return a JSON number as a float, clipped to 64 bits; None when *value* is none."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return float(max(min(value, _INT64), -_INT64))
    return value if isinstance(value, float) and not math.isnan(value) else None
