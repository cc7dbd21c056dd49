"""The election of one process for each period of a periodic task."""

import asyncio
import contextlib

import pytest
import redis.asyncio

from indexing import errors, settings
from indexing.messaging import coordination, redis_client
from tests import servers


async def test_one_process_is_elected_when_many_try_in_a_period(redis_client: redis.asyncio.Redis) -> None:
    """For each task one, and not again before the period is over."""
    elections = [
        coordination.LeaderLock(redis_client).try_acquire(task, 60.0) for task in ("sweep", "refresh") for _ in range(8)
    ]

    answers = await asyncio.gather(*elections, coordination.LeaderLock(redis_client).try_acquire("sweep", 60.0))

    assert sum(answers[:8]) + sum(answers[16:]) == 1
    assert sum(answers[8:16]) == 1


async def test_another_process_can_be_elected_when_the_period_is_over(redis_client: redis.asyncio.Redis) -> None:
    """Also when the elected process has died: no process has to release the lock."""
    lock = coordination.LeaderLock(redis_client)
    await lock.try_acquire("sweep", 60.0)
    (key,) = await redis_client.keys("*")

    remaining = await redis_client.pttl(key)
    await redis_client.pexpire(key, 0)

    assert 0 < remaining <= 60_000
    assert await lock.try_acquire("sweep", 60.0)


async def test_another_process_can_be_elected_when_redis_clock_was_set_back(redis_client: redis.asyncio.Redis) -> None:
    """The lock would last for as long as the step. The lock of a holder of release 0.1, which notes no period, does."""
    lock = coordination.LeaderLock(redis_client)
    await lock.try_acquire("sweep", 60.0)
    (key,) = await redis_client.keys("*")

    await redis_client.pexpire(key, 360_000)
    elected = [await lock.try_acquire("sweep", 60.0) for _ in range(2)]
    await redis_client.set(key, "1", px=360_000)
    old = await lock.try_acquire("sweep", 60.0)

    assert elected == [True, False]
    assert not old


async def test_the_election_raises_queue_unavailable_when_redis_is_lost() -> None:
    """No process is elected then."""
    async with contextlib.AsyncExitStack() as stack:
        with servers.valkey() as url:
            client = await stack.enter_async_context(redis_client.open_redis(settings.RedisSettings(url=url)))

        with pytest.raises(errors.QueueUnavailable):
            await coordination.LeaderLock(client).try_acquire("sweep", 60.0)
