"""The cached set of guilds that have our bot."""

import pytest

from indexing.domain import ports
from indexing.messaging import coordination as redis_installs
from tests import clockwork, fakes

NOW = clockwork.START + 0.125


@pytest.fixture(params=["memory", "redis"])
def installs(request: pytest.FixtureRequest) -> ports.BotGuildsCache:
    """Nothing known."""
    if request.param == "memory":
        return fakes.MemoryBotGuilds()
    return redis_installs.RedisBotGuilds(request.getfixturevalue("redis_client"))


async def test_nothing_is_known_when_the_set_was_never_stored(installs: ports.BotGuildsCache) -> None:
    """Unknown differs from empty."""
    assert await installs.load() is None


@pytest.mark.parametrize("guild_ids", [frozenset[int](), frozenset({1, (1 << 63) - 1})], ids=["empty", "some"])
async def test_the_set_comes_back_when_it_was_stored(installs: ports.BotGuildsCache, guild_ids: frozenset[int]) -> None:
    """With the time at which it was read; the latest counts."""
    await installs.store(frozenset({5}), NOW - 60)

    await installs.store(guild_ids, NOW)

    assert await installs.load() == (guild_ids, NOW)
