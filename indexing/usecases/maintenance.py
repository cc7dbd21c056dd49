"""
Periodic tasks: enqueue overdue turns, refresh guilds that are due, purge expired data.

One elected process runs each of them (messaging/coordination.py); concurrent runs are harmless.
"""

import asyncio
import collections
import dataclasses

from indexing import concurrency, errors, settings
from indexing.domain import freshness, model, ports, turns
from indexing.telemetry import logs, metrics
from indexing.usecases import read_channels

OVERDUE_AFTER = 5.0
"""Seconds past its due time after which a turn counts as lost; poller and queue take well under one."""
BATCH_SIZE = 500
"""Jobs enqueued in one sweep, or guilds loaded for one refresh, most overdue first."""
REQUEUE_INTERVAL = 30.0
"""Seconds until a job that a sweep enqueued counts as due again, so that sweeps do not lengthen a long queue."""

MAX_PERMIT_WAIT = 1.0
"""Longest wait of a refresh for one permit, in seconds: when the other lanes leave none, the round ends."""
PURGE_INTERVAL = 86_400.0
"""Seconds between two purges."""


class Sweeper:
    """Enqueues lost turns. A turn that is enqueued twice runs once. One round trip when none is lost."""

    def __init__(self, deps: ports.Dependencies, config: settings.IndexingSettings) -> None:
        self._deps = deps
        self._config = config
        self._log = logs.get(__name__)

    async def sweep(self, overdue_after: float = OVERDUE_AFTER) -> int:
        """
        Enqueue turns that are *overdue_after* seconds past their due time; returns how many.

        Raises:
            errors.StoreUnavailable, errors.QueueUnavailable: The next sweep retries.
        """
        overdue = await self._deps.jobs.list_overdue(self._deps.clock() - overdue_after, BATCH_SIZE)
        for job in overdue:
            if await self._deps.jobs.postpone(job, self._deps.clock() + REQUEUE_INTERVAL):
                await self._deps.queue.enqueue(turns.turn_after(job))
        if overdue:
            self._log.warning("overdue_turns_enqueued", jobs=len(overdue))
        return len(overdue)


class Refresher:
    """Fetches due guilds again in the refresh lane, which uses the permits that the other lanes leave."""

    def __init__(
        self,
        deps: ports.Dependencies,
        config: settings.IndexingSettings,
        metrics: metrics.IndexingMetrics,
        fetcher: read_channels.ChannelFetcher,
    ) -> None:
        self._deps = deps
        self._config = config
        self._metrics = metrics
        self._fetcher = fetcher
        self._log = logs.get(__name__)

    async def refresh(self) -> int:
        """
        Fetch due guilds, most overdue first, until none is left or quota or the interval is used up.

        Returns:
            How many were fetched; the others stay due.

        Raises:
            errors.StoreUnavailable: The next round retries.
        """
        now = self._deps.clock()
        queue = collections.deque(await self._deps.guilds.list_due(now, BATCH_SIZE))
        round_ = _Round(queue, until=now + self._config.refresh_interval)
        with concurrency.first_error_alone():
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._config.refresh_width, len(queue))):
                    group.create_task(self._refresh_from_queue(round_))
        return round_.done

    async def _refresh_from_queue(self, round_: "_Round") -> None:
        while round_.queue and self._deps.clock() < round_.until:
            guild = round_.queue.popleft()
            if freshness.tier_of(guild.last_viewed_at, self._deps.clock()) is None:
                await self._unschedule(guild)
                continue
            result = await self._refetch(guild)
            if result is None:
                round_.queue.clear()
                return
            if result:
                self._metrics.refreshes.labels(result).inc()
                round_.done += result != "error"

    async def _refetch(self, guild: model.Guild) -> str | None:
        """Fetch a guild; returns a result label, "" when it was fetched elsewhere, None when the round must end."""
        purpose = ports.Purpose(model.Lane.REFRESH, None, f"refresh:{guild.guild_id}", MAX_PERMIT_WAIT)
        try:
            fetched = await self._fetcher.fetch(
                read_channels.FetchRequest(guild, guild.fetched_at or 0.0, _ignore_start), purpose
            )
        except (errors.RateLimited, errors.EgressBlocked, errors.LimiterUnavailable) as problem:
            self._log.info("refresh_paused", reason=problem.reason, error=str(problem))
            return None
        except errors.DiscordTransient:
            return "error"
        except errors.DiscordRefused as refusal:
            self._log.error("refresh_refused", guild=guild.guild_id, reason=refusal.reason, status=refusal.status)
            return None
        if fetched is None:
            return ""
        if fetched.reason:
            return "error"
        return "changed" if fetched.changed else "unchanged"

    async def _unschedule(self, guild: model.Guild) -> None:
        """Remove a guild from the schedule that was not viewed for a month; the next view adds it again."""
        now = self._deps.clock()
        fence = await self._deps.guilds.acquire_lease(
            guild.guild_id, now=now, until=now + 1.0, fetched_before=guild.fetched_at or 0.0
        )
        if fence is not None:
            idle = dataclasses.replace(guild.schedule, next_at=0.0)
            await self._deps.guilds.release_lease(guild.guild_id, fence=fence, schedule=idle)


@dataclasses.dataclass(slots=True)
class _Round:
    queue: collections.deque[model.Guild]
    until: float
    done: int = 0


async def _ignore_start() -> None:
    """Ignore the start of a fetch: no job waits for it."""


class Purger:
    """Erases data that has been gone for longer than the retention."""

    def __init__(self, deps: ports.Dependencies, config: settings.IndexingSettings) -> None:
        self._deps = deps
        self._config = config
        self._log = logs.get(__name__)

    async def purge(self) -> int:
        """Erase ended memberships, hidden channels and empty guilds; returns how many. errors.StoreUnavailable."""
        before = self._deps.clock() - self._config.retention
        erased = await self._deps.guilds.purge(before) + await self._deps.user_data.purge()
        self._log.info("purged", documents=erased)
        return erased
