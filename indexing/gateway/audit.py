"""
Compares fed guilds with Discord's HTTP API, because a session can lose events without any sign.

Such sessions are known (discord-api-docs issue 8162): heartbeats are answered while events do not come, and only a new
session helps. A difference that lasts ends the session, at most once an hour; the guild is stored as REST has it.

Audits are calls, so a session that brings changes is audited seldom, and one that brings none at every interval.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from indexing import errors
from indexing.domain import freshness, model, ports
from indexing.telemetry import gateway_metrics, logs

PERMIT_WAIT = 1.0
ENDED_EVERY = 3_600.0
"""Least seconds between two sessions that audits of one process end."""


SILENT_AFTER = 6.0
"""Intervals without a change after which a session counts as silent. A shard of 1,000 guilds has one in ten minutes."""
HEARD_EVERY = 24.0
"""Intervals between two audits of a session that brings changes: it may lack some."""
RECENT_SHARE = 0.75
"""Share of audits that take a guild that has changed lately, which finds a deaf session sooner; the rest takes any."""


class AuditPlan:
    """
    When the sessions of one shard are audited.

    Args:
        interval: Seconds between two looks at the plan.
        now: Monotonic seconds.
        share: From 0 to 1, how much of `HEARD_EVERY` has passed: at random, so that restarts do not put audits off.
    """

    def __init__(self, interval: float, now: float, share: float) -> None:
        self._interval = interval
        self._next_at = now + (1.0 - share) * HEARD_EVERY * interval

    def is_due(self, now: float, changed_at: float) -> bool:
        """Return whether to audit now; *changed_at* is when the last change was stored."""
        if now - changed_at < SILENT_AFTER * self._interval and now < self._next_at:
            return False
        self._next_at = now + HEARD_EVERY * self._interval
        return True


class Auditor:
    """Audits guilds of one shard."""

    def __init__(
        self,
        deps: ports.Dependencies,
        metrics: gateway_metrics.GatewayMetrics,
        *,
        wait: float,
        end_session: Callable[[str], Awaitable[None]],
    ) -> None:
        """*wait*: seconds for which a difference must last. *end_session* ends the shard's session for a reason."""
        self._deps = deps
        self._metrics = metrics
        self._wait = wait
        self._end_session = end_session
        self._ended_at = float("-inf")
        self._log = logs.get(__name__)

    async def audit(self, guild_id: int) -> str:
        """Compare one guild; returns same, differs or unknown."""
        try:
            differs = await self._differs(guild_id)
            if differs:
                await asyncio.sleep(self._wait)
                differs = await self._differs(guild_id)
        except (errors.RateLimited, errors.DiscordTransient, errors.EgressBlocked, errors.DiscordRefused) as problem:
            self._log.info("audit_not_possible", guild=guild_id, reason=problem.reason)
            differs = None
        result = {None: "unknown", False: "same", True: "differs"}[differs]
        self._metrics.audits.labels(result).inc()
        if differs:
            self._log.error("audit_differs", guild=guild_id)
            await self._deps.guilds.schedule_soon([guild_id], self._deps.clock())
            await self.end_session()
        return result

    async def end_session(self) -> None:
        """End the session because of a difference, at most once an hour."""
        if time.monotonic() - self._ended_at >= ENDED_EVERY:
            self._ended_at = time.monotonic()
            await self._end_session("audit")

    async def _differs(self, guild_id: int) -> bool | None:
        """
        Return whether Discord's listing is neither what was stored before the request nor what is stored after it.

        None when the guild is not fed.
        """
        before = await self._fingerprint(guild_id)
        purpose = ports.Purpose(model.Lane.REFRESH, None, f"audit:{guild_id}", PERMIT_WAIT)
        listed = await self._deps.discord.guild_channels(guild_id, purpose, _wanted)
        await asyncio.sleep(min(1.0, self._wait))
        after = await self._fingerprint(guild_id)
        if listed is None or before is None or after is None:
            return None
        return freshness.fingerprint([row for row in listed if not row.redacted]) not in {before, after}

    async def _fingerprint(self, guild_id: int) -> str | None:
        found = (await self._deps.guilds.load([guild_id])).get(guild_id)
        return freshness.fingerprint(found.channels) if found is not None and found.guild.fed_by else None


async def _wanted() -> bool:
    return True
