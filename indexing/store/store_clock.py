"""
One clock for all processes: that of MongoDB's primary, where the due times and leases are stored.

A process asks for it every few seconds and counts on with its monotonic clock, so that the clock of its own machine
decides nothing: a wrong one would hold leases for ever, starve the jobs of others, or run two turns at once.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

from indexing import errors
from indexing.telemetry import logs, metrics

INTERVAL = 5.0
"""Seconds between two readings."""
DRIFT = 0.0005
"""Seconds per second by which two monotonic clocks drift apart at most (adjtimex(2): 500 ppm)."""
SLACK = 0.1
"""Seconds beyond the uncertainty from which the store's clock counts as set; it is read in milliseconds."""
FAR = 60.0
"""Seconds by which the clock of a machine may differ before its process is not ready. Our guess."""


class StoreClock:
    """
    Port `ports.Clock`. Before the first reading it shows the local clock.

    Args:
        read: Returns the epoch second of the store, None when it does not tell.
        witness: Returns the epoch second of another server, None when unknown. It tells whose clock is wrong.
        server_metrics: Where the difference is shown.
        local: The clock of this machine.
        monotonic: Monotonic seconds.
    """

    def __init__(
        self,
        read: Callable[[], Awaitable[float | None]],
        *,
        witness: Callable[[], float | None] = lambda: None,
        server_metrics: metrics.ServerMetrics | None = None,
        local: Callable[[], float],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._witness = witness
        self._metrics = server_metrics
        self._local = local
        self._monotonic = monotonic
        self._base: float | None = None
        self._uncertainty = 0.0
        self._read_at = 0.0
        self._log = logs.get(__name__)

    def __call__(self) -> float:
        """Return the epoch second."""
        return self._local() if self._base is None else self._base + self._monotonic()

    @property
    def difference(self) -> float:
        """Seconds by which the local clock is ahead of the store's."""
        return self._local() - self()

    async def watch(self) -> None:
        """Read the store's clock until cancelled. While the store is away, the last reading is counted on."""
        while True:
            with contextlib.suppress(errors.StoreUnavailable):
                await self.measure()
            await asyncio.sleep(INTERVAL)

    async def measure(self) -> None:
        """Read the store's clock once; a precise reading counts more than a later one. errors.StoreUnavailable."""
        sent_at = self._monotonic()
        shown = await self._read()
        now = self._monotonic()
        if shown is None:
            return
        # Some time between sending and reading it showed this.
        uncertainty = (now - sent_at) / 2
        base = shown - (sent_at + now) / 2
        known = self._uncertainty + DRIFT * (now - self._read_at)
        step = 0.0 if self._base is None else base - self._base
        was_set = abs(step) > known + uncertainty + SLACK
        if was_set:
            self._log.warning("store_clock_set", seconds=round(step, 1))
        if self._base is None or was_set or uncertainty <= known:
            self._base, self._uncertainty, self._read_at = base, uncertainty, now
        if self._metrics is not None:
            self._metrics.clock_difference.set(self.difference)

    def unready_reason(self) -> str:
        """Return why the process is not ready: its machine's clock is wrong; empty when it is right, or unknown."""
        witness = self._witness()
        if self._base is None or witness is None or abs(self.difference) < FAR:
            return ""
        if abs(witness - self()) >= FAR:
            # The store's clock is the odd one, and every other process would say the same.
            return ""
        return f"the clock of this machine differs by {self.difference:.0f} s from MongoDB's and Redis'"


async def open_clock(clock: StoreClock) -> None:
    """Read the clock before anything uses it; a store that does not answer now is asked again by `watch`."""
    try:
        await clock.measure()
    except errors.StoreUnavailable as problem:
        logs.get(__name__).warning("store_clock_unknown", error=str(problem))
