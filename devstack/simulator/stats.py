"""Counters of requests and replies, returned by `GET /_sim/stats`."""

import collections
from typing import Any

from devstack.simulator import calls, replies, routes

LOG_LENGTH = 200_000
"""Arrivals kept for `?log=1`."""

BOT_WINDOW = 1.0
USER_WINDOW = 5.0


class Peak:
    """The largest number of events in any window of a given length."""

    __slots__ = ("_recent", "_window", "most")

    def __init__(self, window: float) -> None:
        self._window = window
        self._recent: collections.deque[float] = collections.deque()
        self.most = 0

    def add(self, now: float) -> None:
        """Count an event."""
        self._recent.append(now)
        while now - self._recent[0] >= self._window:
            self._recent.popleft()
        self.most = max(self.most, len(self._recent))


class Stats:
    """Counters since the start or the last reset; times are seconds since the simulator started."""

    def __init__(self) -> None:
        self.in_flight = 0
        self.reset()

    def reset(self) -> None:
        """Reset all counters except the number of requests in flight."""
        self.calls = 0
        self.peak_in_flight = self.in_flight
        self.by: collections.Counter[tuple[str, str, int]] = collections.Counter()
        self.rate_limited: collections.Counter[str] = collections.Counter()
        self.refused: collections.Counter[str] = collections.Counter()
        self.faults: collections.Counter[str] = collections.Counter()
        self.fetched: collections.Counter[int] = collections.Counter()
        self.first: float | None = None
        self.last: float | None = None
        self.log: collections.deque[tuple[float, str, str, str, int]] = collections.deque(maxlen=LOG_LENGTH)
        self._bot = Peak(BOT_WINDOW)
        self._users: dict[int, Peak] = {}

    def request_started(self) -> None:
        """Count a request in flight."""
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)

    def request_finished(self) -> None:
        """Count the end of a request in flight."""
        self.in_flight -= 1

    def count_arrival(self, call: calls.Call, reply: replies.Reply, now: float) -> None:
        """Count a call that arrived at *now* with its reply."""
        self.calls += 1
        self.first = now if self.first is None else self.first
        self.last = now
        kind = "unresolved" if call.identity is None else call.identity.kind
        self.by[call.route, kind, reply.client_status] += 1
        if reply.status == 429:
            self.rate_limited[reply.scope or "edge"] += 1
        if call.route == routes.GUILD_CHANNELS and reply.status == 200 and reply.connection_fault is None:
            self.fetched[call.guild_id] += 1
        if kind == "bot":
            self._bot.add(now)
        elif call.identity is not None and call.identity.user_id:
            self._users.setdefault(call.identity.user_id, Peak(USER_WINDOW)).add(now)
        who = str(call.identity.user_id) if call.identity and call.identity.user_id else kind
        self.log.append((round(now, 6), who, call.route, str(call.guild_id or ""), reply.client_status))

    def document(self) -> dict[str, Any]:
        """Return all counters."""
        return {
            "calls": self.calls,
            "by_route": self._sum(route=True),
            "by_token": self._sum(token=True),
            "by_route_token": self._sum(route=True, token=True),
            "by_status": self._sum(status=True),
            "by_route_status": self._sum(route=True, status=True),
            "http_429": sum(self.rate_limited.values()),
            "http_429_by_scope": dict(self.rate_limited),
            "http_429_by_class": dict(self.refused),
            "channel_fetches": sum(self.fetched.values()),
            "channel_fetches_guilds": len(self.fetched),
            "channel_fetches_most": max(self.fetched.values(), default=0),
            "duplicate_guild_fetches": sum(self.fetched.values()) - len(self.fetched),
            "bot_peak_1s": self._bot.most,
            "user_peak_5s": max((peak.most for peak in self._users.values()), default=0),
            "faults_served": dict(self.faults),
            "in_flight": self.in_flight,
            "peak_concurrency": self.peak_in_flight,
            "first_request": self.first,
            "last_request": self.last,
        }

    def _sum(self, *, route: bool = False, token: bool = False, status: bool = False) -> dict[str, int]:
        sums: collections.Counter[str] = collections.Counter()
        for key, count in self.by.items():
            parts = (str(part) for part, wanted in zip(key, (route, token, status), strict=True) if wanted)
            sums[" ".join(parts)] += count
        return dict(sorted(sums.items()))
