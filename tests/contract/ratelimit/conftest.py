"""The budgets over both stores, on a clock that jumps to the next timer."""

import asyncio
from collections.abc import Iterator

import pytest
import redis

from indexing import settings
from indexing.ratelimit import redis_store
from tests import clockwork
from tests.contract.ratelimit import blocking, fleet
from tests.ratelimit_model import store as model_store


@pytest.fixture(params=["memory", "redis"])
async def shared(request: pytest.FixtureRequest) -> fleet.Fleet:
    """An empty store; its processes use no warm-up hold."""
    clock = clockwork.running_clock()
    if request.param == "memory":
        memory = model_store.MemoryBudgetStore(asyncio.get_running_loop().time)
        return fleet.Fleet(memory, memory.lose)
    client: redis.Redis = request.getfixturevalue("blocking_redis")
    store = redis_store.RedisBudgetStore(
        blocking.as_async(blocking.BlockingClient(client)), "test", clock=asyncio.get_running_loop().time, now=clock
    )
    return fleet.Fleet(store, client.flushdb)


@pytest.fixture
async def process(shared: fleet.Fleet) -> fleet.Process:
    """One process with the default settings."""
    return shared.process()


@pytest.fixture
def blocking_redis(redis_settings: settings.RedisSettings) -> Iterator[redis.Redis]:
    """A blocking client of an empty Redis database."""
    with redis.Redis.from_url(redis_settings.url.get_secret_value()) as client:
        yield client
