"""What the X-RateLimit headers say about a route's budget, and how it is remembered."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Self

LONGEST_BUCKET, MOST_CALLS = 128, 100_000
"""What a header may say at most before it is taken for nonsense: our guess, far above what is seen."""
NO_HEADERS = "-"
"""Stands for the bucket of a route whose answers carry no headers; it has no limit that we know of."""


@dataclasses.dataclass(frozen=True, slots=True)
class RouteLimit:
    """
    What is known of a route.

    Attributes:
        value: As it is remembered; "" when no answer has come yet: then one call at a time.
        bucket: Discord's opaque id.
        capacity: Calls per window; 0 when answers carry no headers.
        window: In seconds.
        split: Whether each guild is proven to have a budget of its own.
    """

    value: str = ""
    bucket: str = ""
    capacity: int = 1
    window: float = 0.0
    split: bool = False

    @property
    def known(self) -> bool:
        """Whether an answer has come."""
        return self.value != ""

    @classmethod
    def parse(cls, value: str) -> Self:
        """Read what was remembered: bucket, capacity, window in milliseconds, split."""
        if not value:
            return cls()
        bucket, capacity, window_ms, split = value.split(" ")
        return cls(value, bucket, int(capacity), int(window_ms) / 1000, split == "1")


UNKNOWN = RouteLimit()


@dataclasses.dataclass(frozen=True, slots=True)
class Headers:
    """
    A bucket as one answer shows it (developers/topics/rate-limits.mdx, read 2026-08-06).

    Attributes:
        reset_after: Seconds until the bucket resets.
        stamp: Discord's clock when it looked, in seconds, None when it does not show.
    """

    bucket: str
    limit: int
    remaining: int
    reset_after: float
    stamp: float | None = None

    @classmethod
    def read(cls, headers: Mapping[str, str]) -> Self | None:
        """Read them, names in lower case; None when they are missing or make no sense."""
        try:
            bucket = headers["x-ratelimit-bucket"]
            limit, remaining = int(headers["x-ratelimit-limit"]), int(headers["x-ratelimit-remaining"])
            reset_after = float(headers["x-ratelimit-reset-after"])
        except (KeyError, ValueError):
            return None
        named = bucket.isascii() and bucket.isalnum() and len(bucket) <= LONGEST_BUCKET
        if not named or not 0 <= remaining <= limit <= MOST_CALLS or limit == 0:
            return None
        if not math.isfinite(reset_after) or reset_after < 0:
            return None
        return cls(bucket, limit, remaining, reset_after, _stamp(headers, reset_after))


def _stamp(headers: Mapping[str, str], reset_after: float) -> float | None:
    try:
        stamp = float(headers["x-ratelimit-reset"]) - reset_after
    except (KeyError, ValueError):
        return None
    return stamp if math.isfinite(stamp) else None
