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

Duty: TypeAlias = Callable[[], Awaitable[Any]]
REFRESHING = ("refresh", "purge")
"""Names under which the duties of refreshing are counted."""


class Rota:
    """Makes duties for `duties.running`, by name."""

    def __init__(
        self, parts: wiring.Parts, rules: settings.IndexingSettings, seen: metrics.Metrics, clock: ports.Clock
    ) -> None:
        self._world = parts.world
        self._leader = coordination.Leader(parts.redis)
        self._rules = rules
        self._seen = seen
        self._clock = clock

    def sweeping(self) -> dict[str, Duty]:
        """Return what finds turns that got lost."""
        sweeper = maintenance.Sweeper(self._world, self._rules)
        return {"sweeper": self._by_one("sweep", sweeper.sweep, period=self._rules.sweep_interval)}

    def refreshing(self, bot: guild_lists.BotGuilds) -> dict[str, Duty]:
        """Return what reads guilds again and erases what is gone."""
        reader = read_channels.ChannelFetcher(self._world, self._rules, self._seen.indexing, bot)
        refresher = maintenance.Refresher(self._world, self._rules, self._seen.indexing, reader)
        purger = maintenance.Purger(self._world, self._rules)
        return {
            "refresher": self._by_one("refresh", refresher.refresh, period=self._rules.refresh_interval),
            "purger": self._by_one("purge", purger.purge, period=maintenance.PURGE_EVERY, looks=24),
        }

    def _by_one(self, name: str, work: Duty, *, period: float, looks: int = 1) -> Duty:
        async def once() -> None:
            # A little less than the period, so that no round is left out because two clocks differ.
            if await self._leader.first(name, period * 0.9):
                await work()
                self._seen.process.duty_done(name, self._clock())

        return lambda: concurrency.every(period / looks, once)
