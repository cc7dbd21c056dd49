"""The limiter while each exchange with Redis takes long: permits are used at the rate of the budget."""

import asyncio

import prometheus_client
import pytest

from indexing import settings
from indexing.domain import model
from indexing.ratelimit import limiter, limits
from indexing.telemetry import metrics
from tests.ratelimit_model import store

pytestmark = pytest.mark.clockwork
CALLS, AT_ONCE = 600, 60
BUDGET = settings.Rate(capacity=50, window=1.0)


class SlowStore(store.MemoryBudgetStore):
    """Budgets in memory, each exchange with which takes *seconds*, half of them before it is made."""

    seconds = 0.0

    async def exchange(self, *given, **named):  # type: ignore[no-untyped-def] # noqa: ANN002, ANN003, ANN201, D102
        await asyncio.sleep(self.seconds / 2)
        made = await super().exchange(*given, **named)
        await asyncio.sleep(self.seconds / 2)
        return made


async def use_budget(seconds: float) -> float:
    """Make many calls of the background lane, some at once; returns the simulated seconds."""
    loop = asyncio.get_running_loop()
    slow = SlowStore(loop.time)
    slow.seconds = seconds
    config = settings.LimiterSettings(limiter_hold=0.0, global_budget=BUDGET)
    permits = limiter.Limiter(
        slow, config, metrics.LimiterMetrics(prometheus_client.CollectorRegistry()), clock=limiter.Clock(now=loop.time)
    )
    left = iter(range(CALLS))

    async def call(number: int) -> None:
        for each in left:
            charge = limits.Charge(
                model.Lane.BACKGROUND, "GET /guilds/{guild.id}/channels", "bot", number, each, f"w{number}"
            )
            permit = await permits.take(charge, max_wait=60.0)
            await asyncio.sleep(0.05)
            await permits.settle(permit, limiter.Answer(200, {}, 0.05))

    began = loop.time()
    await asyncio.gather(*map(call, range(AT_ONCE)))
    took = loop.time() - began
    await permits.close()
    return took


async def test_the_budget_is_used_when_each_exchange_takes_100_ms() -> None:
    """Permits are granted as early as an exchange takes, because the next one cannot grant them in time."""
    usual, slow = [await use_budget(seconds) for seconds in (0.002, 0.1)]

    assert usual < slow <= 1.25 * usual


async def test_calls_go_on_when_each_exchange_takes_half_a_second() -> None:
    """An exchange has 25 requests, and a call needs three: 600 calls take 36 s, and the first and last a few more."""
    assert await use_budget(0.5) <= 40.0
