"""Processes that share budgets, on a clock that jumps from timer to timer."""

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
TRIP = 0.1
"""Seconds of a call in these tests unless they say otherwise."""
CALL_TIMEOUT = 10.0
CHARGE = limits.Charge(model.Lane.INTERACTIVE, CHANNELS, "bot", 1, 7)
LOST = CALL_TIMEOUT + limits.FENCE
"""Seconds for which a permit that is never settled is held, besides its window."""


def charge(user: int | None = 1, **others: Any) -> limits.Charge:  # noqa: ANN401 -- the fields of a charge
    """Return a charge; by default somebody waits for a guild's channels."""
    return dataclasses.replace(CHARGE, user=user, **others)


def headers(remaining: int, limit: int = 1000, reset_after: float = 1.0, bucket: str = "b1") -> dict[str, str]:
    """Return the headers of a route's bucket."""
    return {
        "x-ratelimit-bucket": bucket,
        "x-ratelimit-limit": str(limit),
        "x-ratelimit-remaining": str(remaining),
        "x-ratelimit-reset-after": str(reset_after),
    }


class Process:
    """One process of the fleet: a limiter of its own over the shared store."""

    def __init__(self, store: protocol.BudgetStore, config: settings.LimiterSettings, *, gather: float = 0.0) -> None:
        clock = limiter.Clock(asyncio.get_running_loop().time, asyncio.sleep, gather)
        self.registry = prometheus_client.CollectorRegistry()
        seen = metrics.LimiterMetrics(self.registry)
        self.limiter = limiter.Limiter(store, config, seen, call_timeout=CALL_TIMEOUT, clock=clock)

    async def take(self, of: limits.Charge | None = None, *, patience: float = 0.0) -> limiter.Permit:
        """Take a permit; by default without waiting."""
        return await self.limiter.take(of or charge(), patience=patience)

    async def refused(self, of: limits.Charge | None = None, *, patience: float = 0.0) -> errors.RateLimited:
        """Ask for a permit that must not be given."""
        try:
            permit = await self.take(of, patience=patience)
        except errors.RateLimited as refusal:
            return refusal
        raise AssertionError(f"{permit} was given")

    async def settle(
        self, permit: limiter.Permit, seen: Mapping[str, str] | None = None, *, status: int | None = 200
    ) -> None:
        """Bring an answer back; by default one without headers."""
        await self.limiter.settle(permit, limiter.Answer(status, seen or {}, TRIP))
        await self.limiter.close()

    async def call(self, of: limits.Charge | None = None, seen: Mapping[str, str] | None = None) -> limiter.Permit:
        """Take a permit, let a round trip pass, settle."""
        permit = await self.take(of)
        await asyncio.sleep(TRIP)
        await self.settle(permit, seen)
        return permit

    async def call_patiently(self, of: limits.Charge) -> None:
        """The same, waiting for the permit."""
        permit = await self.take(of, patience=30.0)
        await asyncio.sleep(TRIP)
        await self.settle(permit)

    async def learn(self, *routes: str, identity: str = "bot", seen: Mapping[str, str] | None = None) -> None:
        """Make the first call of each route, for no user, and wait until nothing of it is left."""
        for route in routes or (CHANNELS,):
            await self.call(charge(None, route=route, identity=identity), seen)
        await asyncio.sleep(60)

    def value(self, name: str, **labels: str) -> float:
        """Return a metric's value."""
        return self.registry.get_sample_value(name, labels) or 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Fleet:
    """A store that processes share, and how to make it lose everything."""

    store: protocol.BudgetStore
    lose: Callable[[], object]

    def process(self, **options: object) -> Process:
        """Start a process with settings other than the defaults."""
        config = settings.LimiterSettings.model_validate({"limiter_hold": 0.0} | options)
        return Process(self.store, config)


async def rejected(
    process: Process, seen: Mapping[str, str], *, of: limits.Charge | None = None, **body: float
) -> None:
    """Take a permit and bring back a 429."""
    permit = await process.take(of)
    answer = limiter.Answer(
        429, seen, TRIP, body_retry_after=body.get("retry_after"), body_global=seen.get("x-ratelimit-scope") == "global"
    )
    await process.limiter.settle(permit, answer)
