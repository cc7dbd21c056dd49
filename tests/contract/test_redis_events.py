"""What only the real stream shows: bounds, outages, and concurrent reads."""

import asyncio
import contextlib
from typing import Any

import pytest
import redis
import redis.asyncio

from indexing import concurrency, errors, settings
from indexing.domain import job_updates
from indexing.messaging import events, redis_client
from tests import servers, values

JOB = values.job(listed=True)
PATIENCE = 20.0
FIRST = "0-0"


def update(guild_id: int, revision: int = 1) -> job_updates.JobUpdate:
    """Return an update of one row."""
    return job_updates.JobUpdate(JOB, job_updates.Tally(1, 1), (values.task(guild_id, revision=revision),))


async def test_the_stream_stays_bounded_when_many_updates_are_published(redis_client: redis.asyncio.Redis) -> None:
    """A job that runs for days does not fill Redis, and its stream expires."""
    bus = events.RedisEvents(redis_client)

    for revision in range(events.MAX_LENGTH + 200):
        await bus.publish(update(1, revision))

    (key,) = await redis_client.keys("*")
    # Redis trims in whole nodes of 100 entries.
    assert await redis_client.xlen(key) <= events.MAX_LENGTH + 100
    assert 0 < await redis_client.ttl(key) <= events.TTL
    assert not await bus.has_all_since(JOB.job_id, FIRST)


async def test_no_update_is_skipped_when_a_watcher_resumes_during_a_read(
    redis_settings: settings.RedisSettings, redis_client: redis.asyncio.Redis
) -> None:
    """A read that started before the subscription says nothing about the updates before it."""
    bus = events.RedisEvents(redis_client)
    elsewhere = redis.Redis.from_url(redis_settings.url.get_secret_value())
    with contextlib.closing(elsewhere):
        async with concurrency.background_tasks(events=bus.relay_updates):
            await bus.publish(update(1))
            position = await bus.get_last_position(JOB.job_id)
            await bus.publish(update(2))
            gone = await bus.subscribe(JOB.job_id, await bus.get_last_position(JOB.job_id))
            await bus.publish(update(3))
            assert await gone.next(PATIENCE) is not None
            (key,) = await redis_client.keys("*}:" + JOB.job_id)
            newest: Any = await redis_client.xrevrange(key, count=1)
            await gone.close()
            # Published by another process while this one is not reading: the response is in flight when it subscribes.
            elsewhere.xadd(key, newest[0][1])

            resuming = await bus.subscribe(JOB.job_id, position)

            told: set[int] = set()
            while 3 not in told:
                news = await resuming.next(PATIENCE)
                assert news is not None
                told |= {unit.guild_id for unit in news.tasks}
        await bus.close()
    assert told == {2, 3}


async def test_the_listener_is_called_when_the_process_publishes_or_reads_an_update(
    redis_client: redis.asyncio.Redis,
) -> None:
    """At once: the process's cached state of the job is stale."""
    here, elsewhere = events.RedisEvents(redis_client), events.RedisEvents(redis_client)
    heard: list[int] = []
    here.add_listener(lambda news: heard.append(news.tasks[0].guild_id))
    async with concurrency.background_tasks(events=here.relay_updates):
        watcher = await here.subscribe(JOB.job_id, FIRST)

        await elsewhere.publish(update(1))
        await watcher.next(PATIENCE)
        await here.publish(update(2))

        assert heard[:2] == [1, 2]
        await here.close()
    await elsewhere.close()


async def test_watchers_return_at_once_when_they_are_released(redis_client: redis.asyncio.Redis) -> None:
    """At the end of a process no watcher waits for its timeout."""
    bus = events.RedisEvents(redis_client)
    watcher = await bus.subscribe(JOB.job_id, FIRST)
    waiting = asyncio.create_task(watcher.next(PATIENCE))
    await asyncio.sleep(0)

    bus.wake_all_watchers()

    assert await asyncio.wait_for(waiting, PATIENCE / 2) is None
    await bus.close()


async def test_the_next_update_arrives_when_one_before_it_cannot_be_decoded(redis_client: redis.asyncio.Redis) -> None:
    """Another release may publish an unknown format."""
    bus = events.RedisEvents(redis_client)
    watcher = await bus.subscribe(JOB.job_id, FIRST)
    await redis_client.xadd(f"indexer:{{events}}:{JOB.job_id}", {"u": b'{"job": 7}'})
    await bus.publish(update(1))

    async with concurrency.background_tasks(read=bus.relay_updates):
        news = await watcher.next(PATIENCE)

    assert news is not None
    assert news.tasks == update(1).tasks
    await bus.close()


async def test_a_late_watcher_returns_at_once_when_the_process_is_ending(redis_client: redis.asyncio.Redis) -> None:
    """A call that was accepted just before the end does not delay it."""
    bus = events.RedisEvents(redis_client)
    bus.wake_all_watchers()

    watcher = await bus.subscribe(JOB.job_id, FIRST)

    assert await asyncio.wait_for(watcher.next(PATIENCE), PATIENCE / 2) is None
    await bus.close()


async def test_every_method_raises_queue_unavailable_when_redis_is_lost() -> None:
    """A watcher whose subscription failed is removed."""
    with servers.valkey() as url:
        stack = contextlib.AsyncExitStack()
        client = await stack.enter_async_context(redis_client.open_redis(settings.RedisSettings(url=url)))
        bus = events.RedisEvents(client)
        await bus.publish(update(1))
        watcher = await bus.subscribe(JOB.job_id, await bus.get_last_position(JOB.job_id))
    attempts = {
        "publish": bus.publish(update(2)),
        "tail": bus.get_last_position(JOB.job_id),
        "holds": bus.has_all_since(JOB.job_id, FIRST),
        "subscribe": bus.subscribe("b" * 32, FIRST),
        "subscribe late": bus.subscribe(JOB.job_id, FIRST),
    }

    for attempt in attempts.values():
        with pytest.raises(errors.QueueUnavailable):
            await attempt

    await watcher.close()
    assert not [feed for feed in bus._feeds.values() if feed.watchers]
    await bus.close()
    await stack.aclose()


async def test_watchers_continue_when_redis_recovers(redis_settings: settings.RedisSettings) -> None:
    """The reader waits for the end of the outage, reconnects, and misses no update."""
    async with redis_client.open_redis(redis_settings) as client:
        bus = events.RedisEvents(client)
        async with concurrency.background_tasks(events=bus.relay_updates):
            watcher = await bus.subscribe(JOB.job_id, FIRST)
            await bus.publish(update(1))
            assert await watcher.next(PATIENCE) is not None
            await client.client_kill_filter(_type="normal", skipme=True)

            await bus.publish(update(2))

            news = await watcher.next(PATIENCE)
        await bus.close()
    assert news is not None
    assert [unit.guild_id for unit in news.tasks] == [2]


def test_the_lag_of_an_update_is_counted_from_its_publishing() -> None:
    """Its position holds Redis' time in milliseconds; a clock behind Redis' gives 0, not less."""
    assert events.lag(b"1700000000500-3", 1_700_000_001.0) == pytest.approx(0.5)
    assert events.lag(b"1700000000500-3", 1_700_000_000.0) == 0.0
