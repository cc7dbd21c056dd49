"""
Traffic of somebody else who uses our bot token: invented requests that count in the limits and nowhere else.

No task runs for it: before each real arrival the invented ones that were due by then are counted, at the very
moments when they were due. So a test's manual clock moves them as well.
"""

from collections.abc import Iterator
from typing import Annotated

import msgspec

from devstack.simulator import limits, routes

LONGEST_REPLAY = 60.0
"""Invented requests older than this are not counted any more when nobody else called for long, in seconds."""


class TrafficSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Requests to invent: evenly *rate* a second for *seconds*; with *route* they draw on that bucket too."""

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
        """Yield the moments of the requests due by *now* that were not taken yet."""
        while not self.over():
            due = self._start + self._sent / self.spec.rate
            if due > now:
                return
            self._sent += 1
            yield due

    def over(self) -> bool:
        return self._sent >= int(self.spec.rate * self.spec.seconds)


class ForeignTraffic:
    """All streams of invented requests."""

    def __init__(self) -> None:
        self._streams: list[_Stream] = []
        self.admitted = 0
        self.refused = 0

    def add(self, spec: TrafficSpec, now: float) -> None:
        """Start a stream at *now*."""
        self._streams.append(_Stream(spec, now))

    def reset(self) -> None:
        """Stop all streams and forget their numbers."""
        self._streams.clear()
        self.admitted = self.refused = 0

    def due(self, now: float) -> list[tuple[float, TrafficSpec]]:
        """Take out what is due by *now*, oldest first."""
        found: list[tuple[float, TrafficSpec]] = []
        for stream in self._streams:
            found += [(due, stream.spec) for due in stream.take(now) if now - due < LONGEST_REPLAY]
        self._streams = [stream for stream in self._streams if not stream.over()]
        return sorted(found, key=lambda pair: pair[0])

    def count_verdict(self, verdict: limits.Verdict) -> None:
        """Count how one invented request fared."""
        if verdict.refused is None:
            self.admitted += 1
        else:
            self.refused += 1
