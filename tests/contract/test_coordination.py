"""The bot guilds cache."""

import pytest

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
