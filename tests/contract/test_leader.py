"""Periodic duties are done by one of all processes."""

import asyncio

import redis.asyncio

from indexing.bus import leader


async def test_one_is_first_when_many_ask_at_once(redis_client: redis.asyncio.Redis) -> None:
    """Of twenty that ask in the same period one is the first, and each duty has a first of its own."""
    who = leader.Leader(redis_client)

    answers = await asyncio.gather(*(who.first("sweep", 60) for _ in range(20)))

    assert sum(answers) == 1
    assert await who.first("another", 60)


async def test_the_period_ends_by_itself_when_the_first_has_died(redis_client: redis.asyncio.Redis) -> None:
    """The place of the first has a time to live, so that another follows without anybody's help."""
    await leader.Leader(redis_client).first("sweep", 60)

    remaining = [await redis_client.pttl(key) async for key in redis_client.scan_iter("indexer:{duty}:*")]

    assert all(0 < left <= 60_000 for left in remaining)
    assert remaining
