"""Cached responses to joining starts: made once for a crowd, and never older than promised."""

import asyncio
from collections.abc import Mapping

import pytest

from indexer_service.api import join_cache
from indexing import errors
from indexing.domain import job_updates, model
from tests import clockwork, fake_backend, values

pytestmark = pytest.mark.clockwork
JOB = values.job(listed=True)
USER = values.USER
MOMENT = 0.01


class CountingEvents(fake_backend.MemoryEvents):
    """Events that count the checks; each takes a moment."""

    def __init__(self) -> None:
        super().__init__()
        self.checks = 0

    async def list_updated(self, positions: Mapping[str, str]) -> set[str]:
        """Return which jobs have news."""
        self.checks += 1
        await asyncio.sleep(MOMENT)
        return await super().list_updated(positions)


class Bench:
    """A cache over events in memory. A response's body is its number; `job` is the job that can be joined."""

    def __init__(self) -> None:
        self.events = CountingEvents()
        self.cache = join_cache.JoinCache(self.events, clockwork.running_clock(), self._make)
        self.made = 0
        self.seconds = 0.0
        self.job: model.Job | None = JOB

    async def _make(self, _user_id: int) -> join_cache.JoinResponse | None:
        """Make the next response as the service does: the position first, then the state at it."""
        self.made += 1
        number, job = self.made, self.job
        position = await self.events.get_last_position(JOB.job_id)
        await asyncio.sleep(self.seconds)
        return join_cache.JoinResponse(job.job_id, position, b"%d" % number) if job is not None else None

    async def get(self, user_id: int) -> bytes | None:
        """Return the body of the response to a start."""
        response = await self.cache.get(user_id)
        return response.body if response is not None else None

    async def publish(self) -> None:
        """Publish a change of the job, as another process does."""
        await self.events.publish(job_updates.JobUpdate(JOB, job_updates.Tally()))


@pytest.fixture
async def bench() -> Bench:
    """A job with some progress."""
    made = Bench()
    await made.publish()
    return made


async def test_the_response_is_made_once_when_a_crowd_joins(bench: Bench) -> None:
    """At the same time, and one after the other."""
    bench.seconds = 1.0
    crowd = await asyncio.gather(*(bench.get(USER) for _ in range(100)))

    later = [await bench.get(USER) for _ in range(100)]

    assert set(crowd) == set(later) == {b"1"}
    assert (bench.made, bench.events.checks) == (1, 1)


async def test_redis_is_asked_once_when_many_responses_are_checked(bench: Bench) -> None:
    """For any number of callers and users: one check for those waiting, one more for those that call meanwhile."""
    await asyncio.gather(*(bench.get(user) for user in range(50)))
    clockwork.running_clock().advance(2 * join_cache.CHECK_AGE)

    first = [asyncio.create_task(bench.get(number % 50)) for number in range(100)]
    await asyncio.sleep(MOMENT / 2)
    second = [asyncio.create_task(bench.get(number % 50)) for number in range(100)]
    await asyncio.gather(*first, *second)

    assert (bench.made, bench.events.checks) == (50, 2)


@pytest.mark.parametrize("pause", [0.0, 0.1, 0.2, 1.0, 3.0])
async def test_a_change_is_seen_in_time_when_another_process_published_it(bench: Bench, pause: float) -> None:
    """However often the response is requested in between."""
    clock = clockwork.running_clock()
    await bench.get(USER)
    clock.advance(pause)
    await bench.get(USER)
    await bench.publish()

    bodies = []
    for _ in range(10):
        clock.advance(join_cache.CHECK_AGE / 5)
        bodies.append(await bench.get(USER))

    assert set(bodies[6:]) == {b"2"}


async def test_a_change_is_seen_at_once_when_this_process_knows_it(bench: Bench) -> None:
    """A response that is being made from the old state is not returned to later callers."""
    await bench.get(USER)
    bench.cache.forget(USER)
    second = await bench.get(USER)
    bench.cache.forget(USER)
    bench.seconds = 1.0
    making = asyncio.create_task(bench.get(USER))
    await asyncio.sleep(0.5)

    bench.cache.forget(USER)
    after = asyncio.create_task(bench.get(USER))

    assert [second, await making, await after, await bench.get(USER)] == [b"2", b"3", b"4", b"4"]


async def test_a_change_is_seen_when_it_happens_while_a_response_is_made(bench: Bench) -> None:
    """A caller after the change does not get the state before it."""
    bench.seconds = 1.0
    early = asyncio.create_task(bench.get(USER))
    await asyncio.sleep(0.5)
    await bench.publish()
    await asyncio.sleep(0.1)

    late = await bench.get(USER)

    assert (await early, late) == (b"1", b"2")


async def test_a_response_is_never_older_than_promised_when_events_are_lost(bench: Bench) -> None:
    """And frequent callers do not wait for the new one."""
    clock, began = clockwork.running_clock(), clockwork.running_clock()()
    bench.events.flush()
    ages = []
    made_at = {b"1": began}
    while clock() < began + 5 * join_cache.MAX_AGE:
        called = clock()
        body = await bench.get(USER)
        assert body is not None
        ages.append(clock() - made_at.setdefault(body, called))
        bench.seconds = 1.0
        await asyncio.sleep(0.1)

    assert max(ages) <= join_cache.MAX_AGE
    assert bench.made > 5


async def test_the_response_is_made_again_when_it_has_expired(bench: Bench) -> None:
    """Whatever the stream says."""
    await bench.get(USER)
    clockwork.running_clock().advance(join_cache.MAX_AGE)

    assert await bench.get(USER) == b"2"


async def test_every_caller_gets_none_when_there_is_nothing_to_join(bench: Bench) -> None:
    """A crowd costs at most two lookups, and nothing is cached."""
    bench.job, bench.seconds = None, 1.0
    early = asyncio.create_task(bench.get(USER))
    await asyncio.sleep(0.5)
    crowd = await asyncio.gather(*(bench.get(USER) for _ in range(50)))
    bench.job = JOB

    assert {await early, *crowd} == {None}
    assert bench.made == 2
    assert await bench.get(USER) == b"3"


async def test_other_callers_get_their_response_when_one_is_cancelled(bench: Bench) -> None:
    """Although the cancelled one was first."""
    bench.seconds = 1.0
    callers = [asyncio.create_task(bench.get(USER)) for _ in range(3)]
    await asyncio.sleep(0.5)

    callers[0].cancel()

    assert await asyncio.gather(*callers[1:]) == [b"1", b"1"]


async def test_an_error_is_raised_when_a_response_cannot_be_checked(bench: Bench) -> None:
    """A response that may be wrong is not returned; when Redis is back, it is."""
    await bench.get(USER)
    bench.events.away = True
    clockwork.running_clock().advance(2 * join_cache.CHECK_AGE)

    with pytest.raises(errors.QueueUnavailable):
        await bench.get(USER)
    bench.events.away = False

    assert await bench.get(USER) == b"1"


async def test_the_cache_is_bounded_when_many_users_call(bench: Bench) -> None:
    """The newest responses are kept."""
    for user in range(join_cache.MAX_RESPONSES + 10):
        await bench.get(user)

    assert len(bench.cache._entries) == join_cache.MAX_RESPONSES
    assert await bench.get(join_cache.MAX_RESPONSES + 9) == b"%d" % (join_cache.MAX_RESPONSES + 10)
