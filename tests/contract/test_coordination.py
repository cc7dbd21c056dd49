"""The bot guilds cache."""

import math

import pytest
import redis.asyncio

from indexing.domain import ports
from indexing.messaging import coordination
from tests import clockwork, fakes

NOW = clockwork.START + 0.125


@pytest.fixture(params=["memory", "redis"])
def bot_guilds(request: pytest.FixtureRequest) -> ports.BotGuildsCache:
    """An empty cache."""
    if request.param == "memory":
        return fakes.MemoryBotGuilds()
    return coordination.RedisBotGuilds(request.getfixturevalue("redis_client"))


async def test_the_cache_returns_none_when_nothing_was_stored(bot_guilds: ports.BotGuildsCache) -> None:
    """Unknown differs from empty."""
    assert await bot_guilds.load() is None


@pytest.mark.parametrize("guild_ids", [frozenset[int](), frozenset({1, (1 << 63) - 1})], ids=["empty", "some"])
async def test_the_cache_returns_the_set_when_it_was_stored(
    bot_guilds: ports.BotGuildsCache, guild_ids: frozenset[int]
) -> None:
    """With the time at which it was fetched; the latest value counts."""
    await bot_guilds.store(frozenset({5}), NOW - 60)

    await bot_guilds.store(guild_ids, NOW)

    assert await bot_guilds.load() == (guild_ids, NOW)


async def test_the_cache_returns_the_new_set_when_another_process_changed_it(redis_client: redis.asyncio.Redis) -> None:
    """A process keeps the set that it decoded as long as the stored one has the same time and size."""
    one, other = coordination.RedisBotGuilds(redis_client), coordination.RedisBotGuilds(redis_client)
    await one.store(frozenset({10, 20}), NOW)
    first, unchanged = await other.load(), await other.load()

    await one.store(frozenset({10, 30}), math.nextafter(NOW, math.inf))
    later = await other.load()
    await one.store(frozenset({10, 30, 40}), math.nextafter(NOW, math.inf))
    largest = await other.load()

    assert first is not None
    assert unchanged is not None
    assert unchanged[0] is first[0] == frozenset({10, 20})
    assert later == (frozenset({10, 30}), math.nextafter(NOW, math.inf))
    assert largest == (frozenset({10, 30, 40}), math.nextafter(NOW, math.inf))


async def test_the_cache_returns_none_when_redis_lost_the_set_that_a_process_keeps(
    redis_client: redis.asyncio.Redis,
) -> None:
    """What a process has decoded is used only while Redis has it."""
    cache = coordination.RedisBotGuilds(redis_client)
    await cache.store(frozenset({10}), NOW)
    await cache.load()

    await redis_client.delete(coordination.KEY)

    assert await cache.load() is None


async def test_one_process_claims_until_the_claim_is_released(bot_guilds: ports.BotGuildsCache) -> None:
    """Other claims are independent."""
    claims = [await bot_guilds.claim(what, 60.0) for what in ("refresh", "refresh", "7")]

    await bot_guilds.release("refresh")

    assert claims == [True, False, True]
    assert await bot_guilds.claim("refresh", 60.0)
    assert not await bot_guilds.claim("7", 60.0)


async def test_questions_of_one_window_are_counted_together(bot_guilds: ports.BotGuildsCache) -> None:
    """The fleet asks about single guilds only so often."""
    assert [await bot_guilds.count_question(60.0) for _ in range(3)] == [1, 2, 3]


async def test_suspects_keep_the_time_since_when(bot_guilds: ports.BotGuildsCache) -> None:
    """The latest ones count; unknown is none."""
    before = await bot_guilds.load_suspects()
    await bot_guilds.store_suspects({5: NOW - 60})

    await bot_guilds.store_suspects({(1 << 63) - 1: NOW})

    assert before == {}
    assert await bot_guilds.load_suspects() == {(1 << 63) - 1: NOW}
