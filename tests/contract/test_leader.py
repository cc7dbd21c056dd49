"""Who does a periodic duty this time."""

import asyncio
import contextlib

import pytest
import redis.asyncio

from indexing import errors, settings
from indexing.messaging import coordination, redis_client
from tests import servers


async def test_one_is_first_when_many_ask_in_a_period(redis_client: redis.asyncio.Redis) -> None:
    """For each duty one, and not again before the period is over."""
    asked = [
        coordination.LeaderLock(redis_client).try_acquire(duty, 60.0) for duty in ("sweep", "refresh") for _ in range(8)
    ]

    answers = await asyncio.gather(*asked, coordination.LeaderLock(redis_client).try_acquire("sweep", 60.0))

    assert sum(answers[:8]) + sum(answers[16:]) == 1
    assert sum(answers[8:16]) == 1


async def test_another_can_be_first_when_the_period_is_over(redis_client: redis.asyncio.Redis) -> None:
    """Also when the first one has died: nobody has to give anything back."""
    who = coordination.LeaderLock(redis_client)
    await who.try_acquire("sweep", 60.0)
    (key,) = await redis_client.keys("*")

    remaining = await redis_client.pttl(key)
    await redis_client.pexpire(key, 0)

    assert 0 < remaining <= 60_000
    assert await who.try_acquire("sweep", 60.0)


async def test_the_failure_is_ours_when_redis_is_lost() -> None:
    """Nobody is first then."""
    async with contextlib.AsyncExitStack() as stack:
        with servers.valkey() as url:
            client = await stack.enter_async_context(redis_client.open_redis(settings.RedisSettings(url=url)))

        with pytest.raises(errors.QueueUnavailable):
            await coordination.LeaderLock(client).try_acquire("sweep", 60.0)
