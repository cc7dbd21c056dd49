"""
A turn's time for tasks, which starts when it can work, and turns that begin nothing.

With a slow store a turn spends seconds before its tasks. If these counted, turns would follow each other for ever and
begin nothing, and every one of them would end well. What still begins nothing is counted, and logged once a minute.
"""

import dataclasses
import time
from collections.abc import Callable

from indexing import errors, settings
from indexing.domain import model, ports
from indexing.telemetry import logs, metrics
from indexing.usecases import turn_state

LEASE_USED = 0.25
"""Share of a turn's lease after which it is renewed before tasks run."""
LOG_INTERVAL = 60.0
"""Seconds between two log lines: many jobs may stand still for one reason."""


class TurnTime:
    """Starts the time of turns, and notes those that began nothing. Round trips: one when the lease is renewed."""

    def __init__(
        self,
        deps: ports.Dependencies,
        config: settings.IndexingSettings,
        metrics: metrics.IndexingMetrics,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._deps = deps
        self._config = config
        self._metrics = metrics
        self._monotonic = monotonic
        self._unlogged = 0
        self._logged_at = float("-inf")
        self._log = logs.get(__name__)

    async def start(self, run: turn_state.TurnState, began_at: float) -> bool:
        """
        Start the time of a turn that can run tasks now; returns False when another turn owns the job.

        The lease is renewed when much of it was used since the turn began.
        """
        now = self._deps.clock()
        if run.limits.seconds is not None:
            run.limits = dataclasses.replace(run.limits, until=now + run.limits.seconds)
            run.until = run.limits.until
        if 0.0 <= now - began_at < self._config.turn_lease * LEASE_USED:
            return True
        return await self._deps.jobs.postpone(run.job, now + self._config.turn_lease)

    def note_end(self, run: turn_state.TurnState, *, due: bool) -> None:
        """Note a background turn that completed no step although a task was *due* and quota was no reason."""
        if run.completed or run.abandoned or not due or run.limits.lane is model.Lane.INTERACTIVE:
            return
        if run.refusal is None or run.refusal.why == errors.PERMIT_EXPIRED:
            self.note_idle("time" if run.refusal is None else "permit")

    def note_idle(self, reason: str) -> None:
        """Note a turn that completed no step of a task although one was due; *reason* as in `metric_types`."""
        self._metrics.idle_turns.labels(reason).inc()
        self._unlogged += 1
        now = self._monotonic()
        if now - self._logged_at >= LOG_INTERVAL:
            self._log.warning("turns_began_nothing", turns=self._unlogged, reason=reason)
            self._logged_at, self._unlogged = now, 0
