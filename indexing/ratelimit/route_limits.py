"""A route's limit: as the X-RateLimit headers of one answer show it, and as the store remembers it."""

import dataclasses
from collections.abc import Mapping
from typing import Self

from indexing.ratelimit import bounds

NO_HEADERS = "-"
"""Bucket of a route whose answers carry no X-RateLimit headers: the route has no known limit."""


@dataclasses.dataclass(frozen=True, slots=True)
class RouteLimit:
    """
    What the fleet knows of a route's limit.

    Attributes:
        stored: The value as the store keeps it; "" until the first answer: then only one call may be in flight.
        bucket: Discord's opaque id.
        capacity: Calls per window; 0 when answers carry no headers.
        window: In seconds.
        per_guild: Whether answers have proven that each guild has a bucket of its own.
    """

    stored: str = ""
    bucket: str = ""
    capacity: int = 1
    window: float = 0.0
    per_guild: bool = False

    @property
    def known(self) -> bool:
        """Whether an answer has been read."""
        return self.stored != ""

    @classmethod
    def parse_stored(cls, stored: str) -> Self:
        """Parse "<bucket> <capacity> <window in ms> <1 if per guild>"; "" gives an unknown limit."""
        if not stored:
            return cls()
        bucket, capacity, window_ms, per_guild = stored.split(" ")
        return cls(stored, bucket, int(capacity), int(window_ms) / 1000, per_guild == "1")


UNKNOWN = RouteLimit()


@dataclasses.dataclass(frozen=True, slots=True)
class BucketHeaders:
    """
    A bucket as one answer shows it (developers/topics/rate-limits.mdx, read 2026-08-06).

    Attributes:
        reset_after: Seconds until the bucket resets.
    """

    bucket: str
    limit: int
    remaining: int
    reset_after: float

    @classmethod
    def parse_headers(cls, headers: Mapping[str, str]) -> Self | None:
        """Parse headers with lower-case names; None when they are missing or invalid."""
        bucket = headers.get("x-ratelimit-bucket", "")
        limit = bounds.header_count(headers.get("x-ratelimit-limit", ""))
        remaining = bounds.header_count(headers.get("x-ratelimit-remaining", ""))
        reset_after = bounds.header_wait(headers.get("x-ratelimit-reset-after", ""))
        if limit is None or remaining is None or reset_after is None:
            return None
        valid_bucket = bucket.isascii() and bucket.isalnum() and len(bucket) <= bounds.MAX_BUCKET_LENGTH
        if not valid_bucket or not remaining <= limit or limit == 0:
            return None
        return cls(bucket, limit, remaining, reset_after)
