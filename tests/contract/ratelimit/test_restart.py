"""A Redis that was restarted may have lost the last writes, even when the others came back."""

import pathlib

import redis.asyncio

from indexing import settings
from indexing.ratelimit import limits, protocol, redis_store, route_limits
from tests import servers
from tests.contract.ratelimit import fleet

RULES = limits.Rules.of(settings.LimiterSettings(limiter_hold=9.0), fleet.CALL_TIMEOUT)


async def ask(url: str) -> protocol.Verdict:
    """Ask once, as a process that just started."""
    async with redis.asyncio.Redis.from_url(url) as client:
        store = redis_store.RedisBudgets(client, "test")
        _, (verdict,) = await store.exchange(RULES, [], [protocol.Ask("1", fleet.charge(), 0.0, route_limits.UNKNOWN)])
        return verdict


async def test_nothing_goes_for_the_hold_when_redis_was_restarted_with_its_data(tmp_path: pathlib.Path) -> None:
    """The replication id tells; what was written down in between is not enough to go on."""
    with servers.valkey(tmp_path) as url:
        await ask(url)
        async with redis.asyncio.Redis.from_url(url) as client:
            # As if the first hold were long over.
            await client.hset(f"{limits.Keys('test').tag}m", "hold", 0)

    with servers.valkey(tmp_path) as url:
        verdict = await ask(url)

    assert isinstance(verdict, protocol.Wait)
    assert (verdict.why, round(verdict.seconds)) == ("hold", 9)
