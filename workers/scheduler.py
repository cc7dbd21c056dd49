"""
What one process of all does at a time though nobody asks; whose time it is stands in Redis.

Sweeping goes with running turns: where turns can be run, no job may stop. Refreshing and erasing may be left to
processes of their own (workers/refresh.py).
"""

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from indexing import concurrency, settings, wiring
from indexing.domain import ports
from indexing.messaging import coordination
from indexing.telemetry import metrics
from indexing.usecases import guild_lists, maintenance, read_channels

PeriodicTask: TypeAlias = Callable[[], Awaitable[Any]]
REFRESH_TASKS = ("refresh", "purge")
"""Names under which the duties of refreshing are counted."""


class Scheduler:
    """Makes duties for `duties.running`, by name."""

    def __init__(
        self, parts: wiring.Components, rules: settings.IndexingSettings, seen: metrics.Metrics, clock: ports.Clock
    ) -> None:
        self._world = parts.dependencies
        self._leader = coordination.LeaderLock(parts.redis)
        self._rules = rules
        self._seen = seen
        self._clock = clock

    def sweep_tasks(self) -> dict[str, PeriodicTask]:
        """Return what finds turns that got lost."""
        sweeper = maintenance.Sweeper(self._world, self._rules)
        return {"sweeper": self._elected("sweep", sweeper.sweep, period=self._rules.sweep_interval)}

    def refresh_tasks(self, bot: guild_lists.BotGuilds) -> dict[str, PeriodicTask]:
        """Return what reads guilds again and erases what is gone."""
        reader = read_channels.ChannelFetcher(self._world, self._rules, self._seen.indexing, bot)
        refresher = maintenance.Refresher(self._world, self._rules, self._seen.indexing, reader)
        purger = maintenance.Purger(self._world, self._rules)
        return {
            "refresher": self._elected("refresh", refresher.refresh, period=self._rules.refresh_interval),
            "purger": self._elected("purge", purger.purge, period=maintenance.PURGE_EVERY, looks=24),
        }

    def _elected(self, name: str, work: PeriodicTask, *, period: float, looks: int = 1) -> PeriodicTask:
        async def once() -> None:
            # A little less than the period, so that no round is left out because two clocks differ.
            if await self._leader.try_acquire(name, period * 0.9):
                await work()
                self._seen.process.record_success(name, self._clock())

        return lambda: concurrency.repeat_every(period / looks, once)
