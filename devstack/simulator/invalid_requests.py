"""
Counts invalid requests per address, and shuts out who makes too many.

Counted are 401, 403 and 429, except 429 with scope `shared`: developers/topics/rate-limits.mdx, Invalid Request Limit
(read 2026-08-06). How long a ban lasts and what it looks like is not documented: here it lasts as long as the last
ten minutes are over the limit, and looks as discord-api-docs issues 1463 and 5810 describe.
"""

import collections

from devstack.simulator import models, replies

COUNTED = frozenset({401, 403, 429})


class InvalidRequests:
    """The log of invalid requests of each address."""

    def __init__(self, limit: models.Limit) -> None:
        self._limit = limit
        self._logs: dict[str, collections.deque[float]] = {}
        self.most = 0

    def check(self, origin: str, now: float) -> None:
        """
        Let an address pass.

        Raises:
            replies.Refused: It has made too many invalid requests.
        """
        if self._recent(origin, now) >= self._limit.capacity:
            raise replies.Refused(replies.edge_page(429))

    def count_reply(self, origin: str, reply: replies.Reply, now: float) -> None:
        """Count a reply if it is of the kind that counts."""
        if reply.status in COUNTED and reply.scope != "shared":
            log = self._logs.setdefault(origin, collections.deque(maxlen=self._limit.capacity))
            log.append(now)
            self.most = max(self.most, self._recent(origin, now))

    def reset(self) -> None:
        """Forget every address."""
        self._logs.clear()
        self.most = 0

    def _recent(self, origin: str, now: float) -> int:
        log = self._logs.get(origin)
        if log is None:
            return 0
        while log and now - log[0] >= self._limit.window:
            log.popleft()
        return len(log)
