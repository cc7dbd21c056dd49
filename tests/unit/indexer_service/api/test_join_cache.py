"""Answers to joining starts: made once for a crowd, and never older than is promised."""

import asyncio
from collections.abc import Mapping

import pytest

from indexer_service.api import join_cache
from indexing import errors
from indexing.domain import model
from tests import clockwork, values, worlds

pytestmark = pytest.mark.clockwork
JOB = values.job(listed=True)
USER = values.USER
MOMENT = 0.01


class Asked(worlds.MemoryEvents):
    """Events that count the questions for news; each takes a moment."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    async def list_updated(self, positions: Mapping[str, str]) -> set[str]:
        """Return which jobs have news."""
        self.asked += 1
        await asyncio.sleep(MOMENT)
        return await super().list_updated(positions)


class Desk:
    """Joins over events in memory; an answer's body counts the answers, and `job` is what can be joined."""

    def __init__(self) -> None:
        self.events = Asked()
        self.joins = join_cache.Joins(self.events, clockwork.running_clock(), self._make)
        self.made = 0
        self.seconds = 0.0
        self.job: model.Job | None = JOB

    async def _make(self, _user_id: int) -> join_cache.Answer | None:
        """Make the next answer as the service does: the position first, then what is true there."""
        self.made += 1
        number, job = self.made, self.job
        position = await self.events.get_last_position(JOB.job_id)
        await asyncio.sleep(self.seconds)
        return join_cache.Answer(job.job_id, position, b"%d" % number) if job is not None else None

    async def publish(self) -> None:
        """Let something happen to the job, in another process."""
        await self.events.publish(model.JobUpdate(JOB, model.Tally()))


@pytest.fixture
async def desk() -> Desk:
    """A desk whose job has made some progress."""
    made = Desk()
    await made.publish()
    return made


async def test_the_answer_is_made_once_when_a_crowd_joins(desk: Desk) -> None:
    """All at once, and one after the other."""
    desk.seconds = 1.0
    crowd = await asyncio.gather(*(desk.joins.get(USER) for _ in range(100)))

    later = [await desk.joins.get(USER) for _ in range(100)]

    assert set(crowd) == set(later) == {b"1"}
    assert (desk.made, desk.events.asked) == (1, 1)


async def test_redis_is_asked_once_for_all_when_answers_have_to_be_checked(desk: Desk) -> None:
    """However many callers and users: one question for who is there, one more for who comes meanwhile."""
    await asyncio.gather(*(desk.joins.get(user) for user in range(50)))
    clockwork.running_clock().advance(2 * join_cache.CHECKED)

    first = [asyncio.create_task(desk.joins.get(number % 50)) for number in range(100)]
    await asyncio.sleep(MOMENT / 2)
    second = [asyncio.create_task(desk.joins.get(number % 50)) for number in range(100)]
    await asyncio.gather(*first, *second)

    assert (desk.made, desk.events.asked) == (50, 2)


@pytest.mark.parametrize("pause", [0.0, 0.1, 0.2, 1.0, 3.0])
async def test_news_are_told_in_time_when_another_process_published_them(desk: Desk, pause: float) -> None:
    """However often the answer is asked for in between."""
    clock = clockwork.running_clock()
    await desk.joins.get(USER)
    clock.advance(pause)
    await desk.joins.get(USER)
    await desk.publish()

    told = []
    for _ in range(10):
        clock.advance(join_cache.CHECKED / 5)
        told.append(await desk.joins.get(USER))

    assert set(told[6:]) == {b"2"}


async def test_news_are_told_at_once_when_this_process_knows_them(desk: Desk) -> None:
    """An answer that is being made from what was there before is not given to who comes after."""
    await desk.joins.get(USER)
    desk.joins.forget(USER)
    second = await desk.joins.get(USER)
    desk.joins.forget(USER)
    desk.seconds = 1.0
    making = asyncio.create_task(desk.joins.get(USER))
    await asyncio.sleep(0.5)

    desk.joins.forget(USER)
    after = asyncio.create_task(desk.joins.get(USER))

    assert [second, await making, await after, await desk.joins.get(USER)] == [b"2", b"3", b"4", b"4"]


async def test_news_are_told_when_they_come_while_the_answer_is_being_made(desk: Desk) -> None:
    """Whoever asks after them is not given what was read before them."""
    desk.seconds = 1.0
    early = asyncio.create_task(desk.joins.get(USER))
    await asyncio.sleep(0.5)
    await desk.publish()
    await asyncio.sleep(0.1)

    late = await desk.joins.get(USER)

    assert (await early, late) == (b"1", b"2")


async def test_an_answer_is_never_older_than_its_age_when_events_are_lost(desk: Desk) -> None:
    """And who asks all the time does not have to wait for the new one."""
    clock, began = clockwork.running_clock(), clockwork.running_clock()()
    desk.events.flush()
    ages = []
    births = {b"1": began}
    while clock() < began + 5 * join_cache.AGE:
        called = clock()
        told = await desk.joins.get(USER)
        assert told is not None
        ages.append(clock() - births.setdefault(told, called))
        desk.seconds = 1.0
        await asyncio.sleep(0.1)

    assert max(ages) <= join_cache.AGE
    assert desk.made > 5


async def test_the_answer_is_made_anew_when_nobody_asked_for_long(desk: Desk) -> None:
    """An old one is not given, whatever the stream says."""
    await desk.joins.get(USER)
    clockwork.running_clock().advance(join_cache.AGE)

    assert await desk.joins.get(USER) == b"2"


async def test_every_caller_is_told_when_there_is_nothing_to_join(desk: Desk) -> None:
    """A crowd costs two questions at most, and nothing is remembered of it."""
    desk.job, desk.seconds = None, 1.0
    early = asyncio.create_task(desk.joins.get(USER))
    await asyncio.sleep(0.5)
    crowd = await asyncio.gather(*(desk.joins.get(USER) for _ in range(50)))
    desk.job = JOB

    assert {await early, *crowd} == {None}
    assert desk.made == 2
    assert await desk.joins.get(USER) == b"3"


async def test_nobody_loses_his_answer_when_another_caller_leaves(desk: Desk) -> None:
    """The one who came first makes it for all."""
    desk.seconds = 1.0
    callers = [asyncio.create_task(desk.joins.get(USER)) for _ in range(3)]
    await asyncio.sleep(0.5)

    callers[0].cancel()

    assert await asyncio.gather(*callers[1:]) == [b"1", b"1"]


async def test_the_outage_is_told_when_an_answer_cannot_be_checked(desk: Desk) -> None:
    """Rather than something that may be wrong; with Redis the answer is back."""
    await desk.joins.get(USER)
    desk.events.away = True
    clockwork.running_clock().advance(2 * join_cache.CHECKED)

    with pytest.raises(errors.QueueUnavailable):
        await desk.joins.get(USER)
    desk.events.away = False

    assert await desk.joins.get(USER) == b"1"


async def test_few_answers_are_kept_when_very_many_users_come(desk: Desk) -> None:
    """The newest; memory is bounded."""
    for user in range(join_cache.MOST + 10):
        await desk.joins.get(user)

    assert len(desk.joins._known) == join_cache.MOST
    assert await desk.joins.get(join_cache.MOST + 9) == b"%d" % (join_cache.MOST + 10)
