"""Routes whose windows outlive the hold: when Redis loses their permits, they are held until the window is over."""

import asyncio

import pytest
import redis

from indexing.ratelimit import limits
from tests.contract.ratelimit import fleet

pytestmark = pytest.mark.clockwork
HOLD = 17.0
LONG, SHORT = "GET /guilds/{guild.id}/members/{user.id}", fleet.CHANNELS
WINDOWS = {LONG: 30.0, SHORT: 5.0}
MORE = 25.0
"""Seconds by which the window of LONG exceeds that of the longest budget, 5 s."""


async def learn(process: fleet.Process) -> None:
    """Wait out the first hold, call each route, whose answer shows its window, and let all permits expire."""
    await process.limiter.warm_up()
    await asyncio.sleep(HOLD)
    for route, window in WINDOWS.items():
        await process.call(fleet.charge(None, route=route), fleet.headers(4, 5, window, bucket=f"b{window:g}"))
    await asyncio.sleep(60)


async def test_a_route_is_held_for_its_window_when_all_is_lost(shared: fleet.Fleet) -> None:
    """The process that knew the window tells the others, also those that begin after the loss."""
    knows = shared.process(limiter_hold=HOLD)
    await learn(knows)
    shared.lose()
    assert (await knows.refused(fleet.charge(None, route=LONG))).why == "hold"
    await asyncio.sleep(HOLD)

    new = shared.process(limiter_hold=HOLD)
    refusals = [await each.refused(fleet.charge(None, route=LONG)) for each in (knows, new)]
    await new.take(fleet.charge(None, route=SHORT))
    await asyncio.sleep(MORE)
    await new.take(fleet.charge(None, route=LONG))

    assert [(each.budget, each.why, each.retry_after) for each in refusals] == [("route", "hold", MORE)] * 2


async def test_a_route_is_held_for_its_window_after_a_failover(
    shared: fleet.Fleet, request: pytest.FixtureRequest
) -> None:
    """The new server has the routes, but not their last permits; no process has to remember anything."""
    if "redis" not in request.node.callspec.id:
        pytest.skip("the model has no failover")
    client: redis.Redis = request.getfixturevalue("blocking_redis")
    process = shared.process(limiter_hold=HOLD)
    await learn(process)
    client.hset(f"{limits.Keys('test').tag}m", "run", "another")
    new = shared.process(limiter_hold=HOLD)
    assert (await new.refused(fleet.charge(None))).why == "hold"
    await asyncio.sleep(HOLD)

    refusal = await new.refused(fleet.charge(None, route=LONG))

    assert (refusal.budget, refusal.why, refusal.retry_after) == ("route", "hold", MORE)
    await new.take(fleet.charge(None, route=SHORT))


async def test_no_route_is_held_when_the_hold_is_switched_off(shared: fleet.Fleet) -> None:
    """LIMITER_HOLD=0 says that Discord's counters were lost as well."""
    process = shared.process(limiter_hold=0.0)
    await learn(process)
    shared.lose()

    await process.take(fleet.charge(None, route=LONG))
