"""The limits of identifying, in Redis: one at a time for each key, as many a day as Discord allows."""

import pytest
import redis.asyncio

from indexing.ratelimit import identifies

APPLICATION = "app"
LONG = identifies.CONNECT_TIME + identifies.WINDOW


@pytest.fixture
def permits(redis_client: redis.asyncio.Redis) -> identifies.Identifies:
    """Permits without a hold after lost state."""
    return identifies.Identifies(redis_client, APPLICATION, hold=0.0, window=identifies.WINDOW)


async def take(permits: identifies.Identifies, shard_id: int, *, per_day: int = 10) -> identifies.Identify | float:
    """Take with two keys."""
    return await permits.take(shard_id, concurrency=2, per_day=per_day)


async def test_one_identify_of_a_key_is_permitted_at_a_time(permits: identifies.Identifies) -> None:
    """Shards 0 and 2 share a key, 1 has its own; a permit that may still be used is held longest."""
    first, second, other = [await take(permits, shard_id) for shard_id in (0, 2, 1)]

    assert isinstance(first, identifies.Identify)
    assert isinstance(other, identifies.Identify)
    assert isinstance(second, float)
    assert LONG < second <= LONG + identifies.MARGIN


async def test_the_key_is_free_after_the_window_when_the_identify_was_sent(permits: identifies.Identifies) -> None:
    """It counts from its sending."""
    first = await take(permits, 0)
    assert isinstance(first, identifies.Identify)
    await permits.sent(first)

    wait = await take(permits, 2)

    assert isinstance(wait, float)
    assert wait <= identifies.WINDOW + identifies.MARGIN


async def test_nothing_is_used_up_when_the_identify_is_given_back(
    permits: identifies.Identifies, redis_client: redis.asyncio.Redis
) -> None:
    """A connection that never came up costs neither the key nor one of the day's."""
    first = await take(permits, 0, per_day=1)
    assert isinstance(first, identifies.Identify)
    await permits.give_back(first)

    assert await identifies.read_left(redis_client, APPLICATION) == (1, 1)
    assert isinstance(await take(permits, 2, per_day=1), identifies.Identify)


async def test_none_is_permitted_when_the_day_is_used_up(
    permits: identifies.Identifies, redis_client: redis.asyncio.Redis
) -> None:
    """Neither with another key."""
    await take(permits, 0, per_day=1)

    wait = await take(permits, 1, per_day=1)

    assert isinstance(wait, float)
    assert wait > 3_600.0
    assert await identifies.read_left(redis_client, APPLICATION) == (0, 1)


async def test_none_is_permitted_at_first_when_redis_lost_its_state(redis_client: redis.asyncio.Redis) -> None:
    """One may have been sent just before."""
    permits = identifies.Identifies(redis_client, APPLICATION, hold=None, window=identifies.WINDOW)

    wait = await take(permits, 0)

    assert isinstance(wait, float)
    assert LONG - 1.0 < wait <= LONG
