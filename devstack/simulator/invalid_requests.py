"""
Counts invalid requests per address, and bans addresses above the limit.

401, 403 and 429 count, except 429 with scope `shared` (developers/topics/rate-limits.mdx, Invalid Request Limit, read
2026-08-06). Duration and response of a ban are not documented: here a ban lasts while the last ten minutes are above
the limit, and its response follows discord-api-docs issues 1463 and 5810.
"""

import collections

from devstack.simulator import models, replies

COUNTED = frozenset({401, 403, 429})


class InvalidRequests:
    """Logs the invalid requests of each address."""

    def __init__(self, limit: models.Limit) -> None:
        self._limit = limit
        self._logs: dict[str, collections.deque[float]] = {}
        self.most = 0

    def check(self, origin: str, now: float) -> None:
        """
        Check that an address is not banned.

        Raises:
            replies.Refused: The address is above the limit.
        """
        if self._recent(origin, now) >= self._limit.capacity:
            raise replies.Refused(replies.edge_page(429))

    def count_reply(self, origin: str, reply: replies.Reply, now: float) -> None:
        """Count a reply if its status is counted."""
        if reply.status in COUNTED and reply.scope != "shared":
            log = self._logs.setdefault(origin, collections.deque(maxlen=self._limit.capacity))
            log.append(now)
            self.most = max(self.most, self._recent(origin, now))

    def reset(self) -> None:
        """Clear all logs."""
        self._logs.clear()
        self.most = 0

    def _recent(self, origin: str, now: float) -> int:
        log = self._logs.get(origin)
        if log is None:
            return 0
        while log and now - log[0] >= self._limit.window:
            log.popleft()
        return len(log)
