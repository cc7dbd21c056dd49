"""Which requests begin an exchange at once, and which wait for the next one."""

import asyncio

import pytest

from indexing import settings
from tests.contract.ratelimit import fleet
from tests.ratelimit_model import store

pytestmark = pytest.mark.clockwork
DELAY = 0.25


async def test_a_request_waits_for_the_next_exchange_only_when_it_was_refused_before() -> None:
    """Until a little before the moment that the refusal named; the requests of other users are sent at once."""
    loop = asyncio.get_running_loop()
    config = settings.LimiterSettings(limiter_hold=0.0, user_budget="1/5")
    process = fleet.Process(store.MemoryBudgetStore(loop.time), config, batch_delay=DELAY)
    await process.learn_routes()
    waited = []

    async def refuse(user_id: int) -> float:
        began = loop.time()
        refusal = await process.refused(fleet.charge(user_id))
        waited.append(round(loop.time() - began, 6))
        return refusal.retry_after

    for user_id in (1, 2):
        began = loop.time()
        await process.take(fleet.charge(user_id))
        waited.append(round(loop.time() - began, 6))
    retry_after = await refuse(1)
    await refuse(1)
    await refuse(2)
    await asyncio.sleep(retry_after - 2 * DELAY)
    await refuse(1)

    assert waited == [0.0, 0.0, 0.0, DELAY, 0.0, 0.0]
