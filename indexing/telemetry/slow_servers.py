"""
Says when MongoDB or Redis is what work waits for: one log line when a server becomes slow, and one when it recovers.

A server is slow while more than one in twenty commands of the last minute took longer than its limit. That it answers
at all makes it no outage, so nothing else tells.
"""

import collections
import threading
import time
from collections.abc import Callable

from indexing.telemetry import logs

WINDOW = 60.0
"""Seconds for which a command counts."""
MOST = 2_000
"""Latest commands that count; a busy process makes more in a minute."""
FEWEST = 10
"""Commands below which nothing is said."""
QUANTILE = 0.95
RECOVERED = 0.5
"""Share of the limit below which a slow server has recovered, so that one near its limit is not logged for ever."""
INTERVAL = 1.0
"""Least seconds between two evaluations."""


class SlowServer:
    """
    Judges one server by the time that its commands take. Any thread may call its methods.

    Args:
        name: The server's name in log lines.
        limit: Seconds from which it is slow. Our guess: `make bench-slope` shows what such a delay costs jobs.
        clock: Monotonic seconds.
    """

    def __init__(self, name: str, limit: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._name = name
        self._limit = limit
        self._clock = clock
        self._samples: collections.deque[tuple[float, float]] = collections.deque(maxlen=MOST)
        self._lock = threading.Lock()
        self._judged_at = clock()
        self._slow = False
        self._log = logs.get(__name__)

    def observe(self, seconds: float) -> None:
        """Take in the duration of a command."""
        now = self._clock()
        with self._lock:
            self._samples.append((now, seconds))
            if now - self._judged_at < INTERVAL:
                return
            self._judged_at = now
        self._judge(now)

    def is_slow(self) -> bool:
        """Return whether the server is slow now; without commands in the last minute it is not."""
        self._judge(self._clock())
        return self._slow

    def _judge(self, now: float) -> None:
        with self._lock:
            while self._samples and now - self._samples[0][0] > WINDOW:
                self._samples.popleft()
            durations = sorted(seconds for _, seconds in self._samples)
            usual = durations[int(len(durations) * QUANTILE)] if len(durations) >= FEWEST else 0.0
            before = self._slow
            self._slow = usual > (self._limit * RECOVERED if before else self._limit)
        if self._slow and not before:
            self._log.warning("server_slow", server=self._name, p95=round(usual, 3))
        elif before and not self._slow:
            self._log.info("server_recovered", server=self._name, p95=round(usual, 3))
