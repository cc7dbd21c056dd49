"""
Periodic tasks that one elected process runs at a time. The election is in Redis.

Sweeping runs in every process that runs turns, so that no job stalls while turns can run. Refreshing and purging may
be moved to separate processes (workers/refresh.py).
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from indexing import concurrency, settings, wiring
from indexing.domain import ports
from indexing.messaging import coordination
from indexing.telemetry import metrics
from indexing.usecases import bot_list, maintenance, read_channels

PeriodicTask: TypeAlias = Callable[[], Awaitable[Any]]
REFRESH_TASKS = ("refresh", "purge")
"""Names of `Scheduler.refresh_tasks`, in metrics and logs."""
REQUESTED_SWEEPS = 15
"""Sweeps after a request. Turns that other processes could not enqueue become overdue in the seconds after it."""
REQUESTED_PAUSE = 1.0
REQUESTED_OVERDUE = 0.5
"""Seconds past its due time after which a turn counts as lost, and between two of these sweeps."""


class Scheduler:
    """Makes the periodic tasks for `concurrency.background_tasks`, by name."""

    def __init__(
        self,
        components: wiring.Components,
        config: settings.IndexingSettings,
        metrics: metrics.Metrics,
        clock: ports.Clock,
    ) -> None:
        self._dependencies = components.dependencies
        self._leader = coordination.LeaderLock(components.redis)
        self._config = config
        self._metrics = metrics
        self._clock = clock
        self._sweep_requested = asyncio.Event()

    def sweep_tasks(self) -> dict[str, PeriodicTask]:
        """Return the tasks that enqueue lost turns: regularly, and at once when a process requests it."""
        sweeper = maintenance.Sweeper(self._dependencies, self._config)

        async def sweep_on_request() -> None:
            await self._sweep_requested.wait()
            self._sweep_requested.clear()
            for _ in range(REQUESTED_SWEEPS):
                await sweeper.sweep(REQUESTED_OVERDUE)
                await asyncio.sleep(REQUESTED_PAUSE)

        return {
            "sweep": self._elected("sweep", sweeper.sweep, period=self._config.sweep_interval),
            "sweep_on_request": sweep_on_request,
        }

    def request_sweep(self) -> None:
        """Have this process sweep for a while: turns may have been lost or could not be enqueued."""
        self._sweep_requested.set()

    def refresh_tasks(self, bot_guilds: bot_list.BotGuilds) -> dict[str, PeriodicTask]:
        """Return the tasks that refresh guilds and purge old data."""
        metrics = self._metrics.indexing
        fetcher = read_channels.ChannelFetcher(self._dependencies, self._config, metrics, bot_guilds)
        refresher = maintenance.Refresher(self._dependencies, self._config, metrics, fetcher)
        purger = maintenance.Purger(self._dependencies, self._config)
        return {
            "refresh": self._elected("refresh", refresher.refresh, period=self._config.refresh_interval),
            "purge": self._elected("purge", purger.purge, period=maintenance.PURGE_INTERVAL, elections=24),
        }

    def _elected(self, name: str, work: PeriodicTask, *, period: float, elections: int = 1) -> PeriodicTask:
        """Return a task that runs *work* once in each period in one process. Elections are held that often a period."""

        async def run_if_elected() -> None:
            # Slightly shorter than the period, so that no round is skipped because two clocks differ.
            if await self._leader.try_acquire(name, period * 0.9):
                await work()
                self._metrics.process.record_success(name, self._clock())

        return lambda: concurrency.repeat_every(period / elections, run_if_elected)
