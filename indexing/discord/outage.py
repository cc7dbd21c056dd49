"""
Distinguishes an outage of Discord, which concerns all users, from a failure of one resource.

When calls of this process fail and none has succeeded for `QUIET` seconds, one neutral call, the bot's list of guilds
with one row, decides. If it fails as well, Discord is away: calls are refused with `errors.DiscordOutage`, a wait that
counts as no attempt, and one probe is made at growing intervals for all. The first that gets an answer ends the outage.

Each process decides for itself. The state is not shared, because a process that cannot reach Discord need not be like
the others. A probe takes a permit like any call; without a permit nothing changes.
"""

import asyncio
from collections.abc import Awaitable, Callable

from indexing import concurrency, errors
from indexing.domain import ports
from indexing.telemetry import logs, metrics

QUIET = 5.0
"""Seconds without an answer of Discord after which a failure makes a probe; also the life of a probe's result."""
INTERVALS = (5.0, 10.0, 15.0)
"""Seconds between the probes of an outage; the last one repeats."""

Probe = Callable[[ports.Purpose], Awaitable[None]]
"""Makes the neutral call; raises what any call raises."""


class OutageDetector:
    """Decides whether Discord is away, for one process. *monotonic* returns seconds that only grow."""

    def __init__(self, probe: Probe, discord_metrics: metrics.DiscordMetrics, monotonic: Callable[[], float]) -> None:
        self._probe = probe
        self._metrics = discord_metrics
        self._now = monotonic
        self._answered_at = float("-inf")
        self._probes = 0
        self._next_probe_at = 0.0
        self._probing: asyncio.Task[None] | None = None
        self._began = 0.0
        self._log = logs.get(__name__)

    @property
    def is_open(self) -> bool:
        """Whether Discord is away."""
        return self._probes > 0

    def note_answer(self) -> None:
        """Record that Discord answered; ends an outage."""
        self._answered_at = self._now()
        if self.is_open:
            self._log.warning("discord_outage_ended", seconds=round(self._now() - self._began, 1), probes=self._probes)
            self._probes = 0
            self._metrics.outage.set(0)

    async def check(self, purpose: ports.Purpose) -> None:
        """Raise errors.DiscordOutage during an outage, after a probe if one is due."""
        if self.is_open and self._now() >= self._next_probe_at:
            await self._probe_once(purpose)
        self._raise_if_open()

    async def note_failure(self, purpose: ports.Purpose) -> None:
        """Record a failure that may pass; raises errors.DiscordOutage when a probe fails as well."""
        if not self.is_open and self._now() - self._answered_at >= QUIET:
            await self._probe_once(purpose)
        self._raise_if_open()

    def _raise_if_open(self) -> None:
        if self.is_open:
            raise errors.DiscordOutage(max(0.1, self._next_probe_at - self._now()))

    async def _probe_once(self, purpose: ports.Purpose) -> None:
        """Make a probe, or wait for the one that is under way."""
        if self._probing is None:
            self._probing = concurrency.spawn_shared(self._make_probe(purpose))
        await asyncio.shield(self._probing)

    async def _make_probe(self, purpose: ports.Purpose) -> None:
        try:
            await self._probe(purpose)
        except errors.DiscordTransient as failure:
            self._note_failed_probe(failure)
        except (errors.RateLimited, errors.LimiterUnavailable, errors.EgressBlocked) as refusal:
            self._next_probe_at = self._now() + min(max(refusal.retry_after, 1.0), INTERVALS[-1])
        except errors.DiscordRefused:
            self.note_answer()
        else:
            self.note_answer()
        finally:
            self._probing = None

    def _note_failed_probe(self, failure: errors.DiscordTransient) -> None:
        if not self.is_open:
            self._began = self._now()
            self._metrics.outage.set(1)
            self._log.error("discord_outage", error=str(failure))
        self._next_probe_at = self._now() + INTERVALS[min(self._probes, len(INTERVALS) - 1)]
        self._probes += 1
