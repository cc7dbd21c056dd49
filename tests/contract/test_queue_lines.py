"""The lines of due turns: callers take turns, whatever each of them enqueued before."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import dramatiq
import pytest
import redis.asyncio

from indexing import settings
from indexing.domain import turns
from indexing.messaging import queue

MOST_READY = 4
PAST = 1_000.0


class Bench:
    """A turn queue with a poller, and a worker that fetches one message at a time."""

    def __init__(self, broker: queue.Broker, client: redis.asyncio.Redis) -> None:
        self.client = client
        self.queue = queue.DramatiqQueue(broker, client)
        self.poller = queue.DelayedQueuePoller(client, self.queue, most_ready=MOST_READY)
        self._consumer = broker.consume(turns.QUEUE, prefetch=1, timeout=10)

    async def add(self, caller: str, count: int, first: int = 0, *others: str) -> None:
        """Enqueue turns of *count* jobs; a job's id says whose it is."""
        callers = tuple(name for name in (caller, *others) if name)
        for number in range(first, first + count):
            await self.queue.enqueue(turns.Turn(f"{caller or 'unnamed'}-{number}", 1, callers=callers))

    async def ready(self) -> int:
        """Return the number of messages that no worker has fetched."""
        return int(await self.client.llen(queue.READY))

    async def run(self, count: int) -> list[str]:
        """Let the worker run *count* turns one after the other; return their jobs in order."""
        jobs = []
        for _ in range(count):
            await self.poller.enqueue_due()
            message = next(self._consumer)
            assert message is not None
            self._consumer.ack(message)
            jobs.append(turns.parse(message.kwargs).job_id)
        return jobs


@pytest.fixture
def broker(redis_settings: settings.RedisSettings) -> Iterator[queue.Broker]:
    """The product's broker over an empty Redis database."""
    made = queue.make_broker(redis_settings, middleware=[])
    yield made
    made.close()
    made.client.connection_pool.disconnect()


@pytest.fixture
async def bench(broker: queue.Broker, redis_client: redis.asyncio.Redis) -> AsyncIterator[Bench]:
    """A queue and its poller."""
    made = Bench(broker, redis_client)
    yield made
    await made.poller.close()


@pytest.mark.parametrize("light", ["", "a", "z"])
async def test_a_callers_first_turn_runs_among_the_next_when_another_has_300_in_line(bench: Bench, light: str) -> None:
    """It waits for the turns that are ready already and at most one more, whatever the callers' names."""
    await bench.add("heavy", 300)
    await bench.run(20)

    await bench.add(light, 1)

    assert f"{light or 'unnamed'}-0" in await bench.run(MOST_READY + 2)


async def test_callers_take_turns_when_all_have_turns_in_line(bench: Bench) -> None:
    """One turn each, and each caller's in the order in which they became due."""
    for caller in ("b", "a", "c"):
        for number in range(6):
            turn = turns.Turn(f"{caller}-{number}", 1, callers=(caller,))
            await bench.queue.schedule(turn, PAST + number)

    order = await bench.run(18)

    assert [sorted(order[start : start + 3]) for start in range(0, 18, 3)] == [
        [f"{caller}-{number}" for caller in "abc"] for number in range(6)
    ]


async def test_a_caller_with_one_job_does_not_starve_another_when_its_turns_follow_each_other(bench: Bench) -> None:
    """Its line is empty while its turn runs, which must not make it the first again and again."""
    await bench.add("heavy", 50)
    await bench.run(10)
    await bench.add("a", 1)
    order = []

    for number in range(1, 31):
        order += await bench.run(1)
        if order[-1].startswith("a-"):
            await bench.add("a", 1, number)

    assert sum(job.startswith("heavy") for job in order) >= 15


async def test_a_turn_of_two_callers_goes_to_the_line_that_is_served_first(bench: Bench) -> None:
    """A job that another caller joins is not slower for it."""
    await bench.add("heavy", 100)
    await bench.run(20)

    await bench.add("heavy", 1, 900, "light")

    assert "heavy-900" in await bench.run(MOST_READY + 2)


async def test_turns_wait_in_line_when_enough_are_ready(bench: Bench) -> None:
    """What is ready precedes everything else, so it is little; the poller looks again soon."""
    await bench.add("a", 10)

    pauses = [await bench.poller.enqueue_due() for _ in range(2)]

    assert pauses == [0.0, queue.FULL_PAUSE]
    assert await bench.ready() == MOST_READY


async def test_a_turn_runs_once_when_it_is_enqueued_again_while_it_is_in_line(bench: Bench) -> None:
    """As the sweeper does with overdue turns: its sweeps do not lengthen a long line."""
    await bench.add("a", 10)
    await bench.poller.enqueue_due()

    await bench.add("a", 6, MOST_READY)
    order = await bench.run(10)

    assert order == [f"a-{number}" for number in range(10)]
    assert await bench.ready() == 0
    assert await bench.poller.enqueue_due() > queue.FULL_PAUSE


async def test_nothing_stays_behind_when_all_turns_have_run(bench: Bench) -> None:
    """Neither lines nor callers."""
    for caller in ("a", "b", ""):
        await bench.add(caller, 5)
    await bench.run(15)

    await bench.poller.enqueue_due()

    left: Any = await bench.client.keys("indexer:{turns}:*")
    assert {key.decode() for key in left} <= {queue.CLOCK, queue.WAKE}


async def test_a_message_says_how_long_its_turn_was_in_line(bench: Bench, broker: queue.Broker) -> None:
    """The message is made when the turn leaves the line; the wait before belongs to the measured delay."""
    await bench.queue.enqueue(turns.Turn("a" * 32, 1))
    await bench.client.zadd(queue.WAITING, {f"{'a' * 32}:1": 1_000.0})

    await bench.poller.enqueue_due()
    with contextlib.closing(broker.consume(turns.QUEUE, prefetch=1, timeout=10)) as consumer:
        message = next(consumer)

    assert isinstance(message, dramatiq.MessageProxy)
    assert message.options[queue.WAITED] > 1e9
