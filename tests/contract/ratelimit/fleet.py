"""Processes that share budgets, on a clock that jumps to the next timer."""

import asyncio
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import prometheus_client

from indexing import errors, settings
from indexing.domain import model
from indexing.ratelimit import limiter, limits, protocol
from indexing.telemetry import metrics

CHANNELS = "GET /guilds/{guild.id}/channels"
GUILDS = "GET /users/@me/guilds"
ROUND_TRIP = 0.1
"""Seconds of a call in these tests, unless a test uses another value."""
CALL_TIMEOUT = 10.0
CHARGE = limits.Charge(model.Lane.INTERACTIVE, CHANNELS, "bot", 1, 7)
MAX_IN_FLIGHT = CALL_TIMEOUT + limits.SEND_DEADLINE
"""Seconds for which a permit that is never settled is held, in addition to its window."""


def charge(user_id: int | None = 1, **others: Any) -> limits.Charge:  # noqa: ANN401 -- the fields of a charge
    """Return a charge; by default an interactive call for a guild's channels."""
    return dataclasses.replace(CHARGE, user_id=user_id, **others)


def headers(remaining: int, limit: int = 1000, reset_after: float = 1.0, bucket: str = "b1") -> dict[str, str]:
    """Return the headers of a route's bucket."""
    return {
        "x-ratelimit-bucket": bucket,
        "x-ratelimit-limit": str(limit),
        "x-ratelimit-remaining": str(remaining),
        "x-ratelimit-reset-after": str(reset_after),
    }


class Process:
    """One process of the fleet: its own limiter over the shared store."""

    def __init__(
        self, store: protocol.BudgetStore, config: settings.LimiterSettings, *, batch_delay: float = 0.0
    ) -> None:
        clock = limiter.Clock(asyncio.get_running_loop().time, asyncio.sleep, batch_delay)
        self.registry = prometheus_client.CollectorRegistry()
        limiter_metrics = metrics.LimiterMetrics(self.registry)
        self.limiter = limiter.Limiter(store, config, limiter_metrics, call_timeout=CALL_TIMEOUT, clock=clock)

    async def take(self, of: limits.Charge | None = None, *, max_wait: float = 0.0) -> limiter.Permit:
        """Take a permit; by default without waiting."""
        return await self.limiter.take(of or charge(), max_wait=max_wait)

    async def refused(self, of: limits.Charge | None = None, *, max_wait: float = 0.0) -> errors.RateLimited:
        """Request a permit that must be refused; return the refusal."""
        try:
            permit = await self.take(of, max_wait=max_wait)
        except errors.RateLimited as refusal:
            return refusal
        raise AssertionError(f"{permit} was granted")

    async def settle(
        self, permit: limiter.Permit, seen: Mapping[str, str] | None = None, *, status: int | None = 200
    ) -> None:
        """Settle with an answer; by default one without headers."""
        await self.limiter.settle(permit, limiter.Answer(status, seen or {}, ROUND_TRIP))
        await self.limiter.close()

    async def call(self, of: limits.Charge | None = None, seen: Mapping[str, str] | None = None) -> limiter.Permit:
        """Take a permit, let a round trip pass, settle."""
        permit = await self.take(of)
        await asyncio.sleep(ROUND_TRIP)
        await self.settle(permit, seen)
        return permit

    async def wait_and_call(self, of: limits.Charge) -> None:
        """Wait for a permit, let a round trip pass, settle."""
        permit = await self.take(of, max_wait=30.0)
        await asyncio.sleep(ROUND_TRIP)
        await self.settle(permit)

    async def learn_routes(self, *routes: str, identity: str = "bot", seen: Mapping[str, str] | None = None) -> None:
        """Make the first call of each route, for no user, and wait until its permits are free."""
        for route in routes or (CHANNELS,):
            await self.call(charge(None, route=route, identity=identity), seen)
        await asyncio.sleep(60)

    def value(self, name: str, **labels: str) -> float:
        """Return a metric's value."""
        return self.registry.get_sample_value(name, labels) or 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Fleet:
    """A store that processes share, and how to make it lose its state."""

    store: protocol.BudgetStore
    lose: Callable[[], object]

    def process(self, **options: object) -> Process:
        """Start a process, by default without a warm-up hold."""
        config = settings.LimiterSettings.model_validate({"limiter_hold": 0.0} | options)
        return Process(self.store, config)


async def settle_429(
    process: Process, seen: Mapping[str, str], *, of: limits.Charge | None = None, **body: float
) -> None:
    """Take a permit and settle it with a 429."""
    permit = await process.take(of)
    answer = limiter.Answer(
        429,
        seen,
        ROUND_TRIP,
        body_retry_after=body.get("retry_after"),
        body_global=seen.get("x-ratelimit-scope") == "global",
    )
    await process.limiter.settle(permit, answer)
