"""
Traffic of another client that uses the same bot token: generated requests that only count in the limits.

There is no background task. Before each real arrival, the generated requests that are due are counted at their due
times, so they follow a test's manual clock.
"""

from collections.abc import Iterator
from typing import Annotated

import msgspec

from devstack.simulator import limits, routes

LONGEST_REPLAY = 60.0
"""Longest time in seconds for which due requests are counted later, when no real call arrives."""


class TrafficSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Evenly spaced requests: *rate* per second for *seconds*; with *route* they also use that route's bucket."""

    rate: Annotated[float, msgspec.Meta(gt=0, le=500)]
    seconds: Annotated[float, msgspec.Meta(gt=0, le=3600)]
    route: str | None = None
    guild: Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,20}$")] = "0"

    def __post_init__(self) -> None:
        if self.route is not None and self.route not in routes.ROUTES:
            raise ValueError(f"route must be one of: {', '.join(routes.ROUTES)}")


class _Stream:
    __slots__ = ("_sent", "_start", "spec")

    def __init__(self, spec: TrafficSpec, now: float) -> None:
        self.spec = spec
        self._start = now
        self._sent = 0

    def take(self, now: float) -> Iterator[float]:
        """Yield the due times up to *now* that were not yielded yet."""
        while not self.over():
            due = self._start + self._sent / self.spec.rate
            if due > now:
                return
            self._sent += 1
            yield due

    def over(self) -> bool:
        return self._sent >= int(self.spec.rate * self.spec.seconds)


class ForeignTraffic:
    """All streams of foreign requests."""

    def __init__(self) -> None:
        self._streams: list[_Stream] = []
        self.admitted = 0
        self.refused = 0

    def add(self, spec: TrafficSpec, now: float) -> None:
        """Start a stream at *now*."""
        self._streams.append(_Stream(spec, now))

    def reset(self) -> None:
        """Stop all streams and reset the counters."""
        self._streams.clear()
        self.admitted = self.refused = 0

    def due(self, now: float) -> list[tuple[float, TrafficSpec]]:
        """Remove and return the requests that are due at *now*, oldest first."""
        found: list[tuple[float, TrafficSpec]] = []
        for stream in self._streams:
            found += [(due, stream.spec) for due in stream.take(now) if now - due < LONGEST_REPLAY]
        self._streams = [stream for stream in self._streams if not stream.over()]
        return sorted(found, key=lambda pair: pair[0])

    def count_verdict(self, verdict: limits.Verdict) -> None:
        """Count the verdict on one foreign request."""
        if verdict.refused is None:
            self.admitted += 1
        else:
            self.refused += 1
