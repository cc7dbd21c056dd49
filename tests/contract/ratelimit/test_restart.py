"""A restarted Redis may have lost its last writes, even when it kept the others."""

import pathlib

import redis.asyncio

from indexing import settings
from indexing.ratelimit import limits, protocol, redis_store, route_limits
from tests import clockwork, servers
from tests.contract.ratelimit import fleet

PARAMETERS = limits.LimiterParameters.from_settings(settings.LimiterSettings(limiter_hold=9.0), fleet.CALL_TIMEOUT)


async def request_permit(url: str, now: float) -> protocol.Decision:
    """Request one permit, as a process that just started, when Redis' clock shows *now*."""
    async with redis.asyncio.Redis.from_url(url) as client:
        store = redis_store.RedisBudgetStore(client, "test", now=lambda: now)
        request = protocol.PermitRequest("1", fleet.charge(), 0.0, route_limits.UNKNOWN, 0.0)
        _, (decision,) = await store.exchange(PARAMETERS, [], [request])
        return decision


async def test_the_hold_begins_again_when_redis_was_restarted_with_its_data(tmp_path: pathlib.Path) -> None:
    """The replication id reveals the restart, long after the first hold."""
    with servers.valkey(tmp_path) as url:
        await request_permit(url, clockwork.START)

    with servers.valkey(tmp_path) as url:
        decision = await request_permit(url, clockwork.START + 60.0)

    assert isinstance(decision, protocol.Wait)
    assert (decision.reason, decision.seconds) == ("hold", 9.0)
