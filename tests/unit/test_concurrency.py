"""Background tasks, and one request for concurrent callers."""

import asyncio

import pytest
import structlog.testing

from indexing import concurrency, errors
from tests import clockwork

pytestmark = pytest.mark.clockwork
SECOND = 1.0


async def test_a_task_is_repeated_when_it_has_an_interval() -> None:
    """With that pause between two runs, from the start on."""
    clock = clockwork.running_clock()
    times: list[float] = []

    async def work() -> None:
        times.append(clock.elapsed)

    async with concurrency.background_tasks(sweep=lambda: concurrency.repeat_every(15.0, work)):
        await asyncio.sleep(40.0)

    assert times == pytest.approx([0.0, 15.0, 30.0])


async def _fail(problem: BaseException) -> None:
    raise problem


async def _fail_together(*problems: BaseException) -> None:
    with concurrency.first_error_alone():
        async with asyncio.TaskGroup() as group:
            for problem in problems:
                group.create_task(_fail(problem))


async def test_an_error_is_raised_alone_when_all_tasks_failed_with_known_errors() -> None:
    """Callers catch the error, not a group, on each version of Python; the group is its cause."""
    first = errors.StoreUnavailable("MongoDB is slow")

    with pytest.raises(errors.StoreUnavailable) as raised:
        await _fail_together(first, errors.QueueUnavailable("Redis is slow"))

    assert raised.value is first
    assert isinstance(raised.value.__cause__, BaseExceptionGroup)


async def test_the_group_is_raised_when_one_of_its_errors_is_a_bug() -> None:
    """A known error does not hide it."""
    with pytest.raises(ExceptionGroup) as raised:
        await _fail_together(errors.StoreUnavailable("MongoDB is slow"), KeyError("a bug"))

    assert [type(error) for error in raised.value.exceptions] == [errors.StoreUnavailable, KeyError]


@pytest.mark.parametrize(
    ("problem", "event"),
    [
        pytest.param(errors.QueueUnavailable("away"), "background_task_failed", id="on-purpose"),
        pytest.param(KeyError("a bug"), "background_task_crashed", id="by-a-bug"),
    ],
)
async def test_a_task_restarts_when_it_fails(problem: Exception, event: str) -> None:
    """After a pause, any number of times; each failure is logged with the task's name."""
    tries: list[int] = []

    async def failing() -> None:
        tries.append(len(tries))
        if len(tries) < 4:
            raise problem
        await asyncio.Event().wait()

    with structlog.testing.capture_logs() as logged:
        async with concurrency.background_tasks(poller=failing):
            await asyncio.sleep(3.5 * concurrency.RESTART_DELAY)

    assert len(tries) == 4
    assert [(line["event"], line["task"]) for line in logged] == [(event, "poller")] * 3


@pytest.mark.parametrize(("seconds", "starts"), [(0.0, [0, 1, 2]), (7.0, [0, 7]), (3_000.0, [0])])
async def test_a_task_waits_without_a_warning_when_it_gets_no_permit(seconds: float, starts: list[int]) -> None:
    """As long as the limiter says, at least a second and at most 30: a hold after the start is no failure."""
    began, runs = asyncio.get_running_loop().time(), []

    async def refused() -> None:
        runs.append(round(asyncio.get_running_loop().time() - began))
        raise errors.RateLimited("global", retry_after=seconds, why="hold")

    with structlog.testing.capture_logs() as logged:
        async with concurrency.background_tasks(poller=refused):
            await asyncio.sleep(starts[-1] + 0.5)
            early = list(runs)
            await asyncio.sleep(30.0)

    assert early == starts
    assert len(runs) > len(starts)
    assert {(line["event"], line["log_level"]) for line in logged} == {("background_task_waits", "info")}


async def test_one_task_does_not_stop_another_when_it_fails() -> None:
    """The poller runs while the sweeper cannot reach its server."""
    done: list[str] = []

    async def failing() -> None:
        raise errors.StoreUnavailable("away")

    async def work() -> None:
        done.append("polled")

    async with concurrency.background_tasks(sweep=failing, poller=lambda: concurrency.repeat_every(1.0, work)):
        await asyncio.sleep(3.5)

    assert done == ["polled"] * 4


async def test_every_task_has_ended_when_the_block_ends() -> None:
    """Also when the block fails, whose exception is raised."""
    ended: list[str] = []

    async def lasting() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("ended")

    async def failing() -> None:
        async with concurrency.background_tasks(first=lasting, second=lasting):
            await asyncio.sleep(1.0)
            raise KeyError

    with pytest.raises(KeyError):
        await failing()

    assert ended == ["ended"] * 2


async def test_a_task_ends_when_a_library_swallows_its_cancellation() -> None:
    """redis-py does so while it connects; the end of the process must not wait forever."""
    swallowed: list[int] = []

    async def stubborn() -> None:
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                swallowed.append(1)
                if len(swallowed) > 2:
                    raise

    async with concurrency.background_tasks(events=stubborn):
        await asyncio.sleep(1.0)

    assert len(swallowed) == 3


class DoublingSource:
    """Answers each item with its double, a second later, and records the fetches."""

    def __init__(self) -> None:
        self.fetched: list[list[int]] = []
        self.away = False

    async def fetch(self, items: list[int]) -> dict[int, int]:
        """Fetch the answers of some items."""
        self.fetched.append(items)
        await asyncio.sleep(SECOND)
        if self.away:
            raise errors.QueueUnavailable("played")
        return {item: 2 * item for item in items}


async def request(coalescer: concurrency.Coalescer[int, int], item: int, *, after: float = 0.0) -> int:
    """Request one item after a delay."""
    await asyncio.sleep(after)
    return (await asyncio.shield(coalescer.request(item)))[item]


async def test_every_caller_gets_its_answer_when_many_request_at_once() -> None:
    """One fetch for the first, one for all that arrive while it runs; each item once."""
    source = DoublingSource()
    coalescer = concurrency.Coalescer(source.fetch)

    early = [request(coalescer, item) for item in (1, 2, 3, 2)]
    late = [request(coalescer, item, after=SECOND / 2) for item in (4, 1, 4)]
    answers = await asyncio.gather(*early, *late)

    assert answers == [2, 4, 6, 4, 8, 2, 8]
    assert source.fetched == [[1, 2, 3], [4, 1]]


async def test_more_requests_share_a_fetch_when_it_lingers() -> None:
    """All that arrive within the linger time."""
    source = DoublingSource()
    coalescer = concurrency.Coalescer(source.fetch, linger=SECOND)

    await asyncio.gather(*(request(coalescer, item, after=item * 0.3) for item in range(4)))

    assert source.fetched == [[0, 1, 2, 3]]


async def test_a_fetch_gathers_requests_when_the_one_before_served_several() -> None:
    """A caller alone waits for nothing, and neither does the first one after a fetch that served one."""
    source = DoublingSource()
    coalescer = concurrency.Coalescer(source.fetch, gather=SECOND / 2)
    clock = clockwork.running_clock()

    async def fetch(item: int, *, after: float) -> float:
        await asyncio.sleep(after)
        began = clock.elapsed
        await coalescer.fetch([item])
        return clock.elapsed - began

    alone = [await fetch(1, after=0.0), await fetch(2, after=0.0)]
    several = [*await asyncio.gather(fetch(3, after=0.0), fetch(4, after=0.0))]
    late = await asyncio.gather(fetch(5, after=0.0), fetch(6, after=SECOND / 4))

    assert alone == [SECOND, SECOND]
    assert several == [SECOND, SECOND]
    assert late == pytest.approx([1.5 * SECOND, 1.25 * SECOND])
    assert source.fetched == [[1], [2], [3, 4], [5, 6]]


async def test_every_caller_fails_when_the_fetch_fails() -> None:
    """The next fetch starts anew."""
    source = DoublingSource()
    coalescer = concurrency.Coalescer(source.fetch)
    source.away = True
    results = await asyncio.gather(request(coalescer, 1), request(coalescer, 2), return_exceptions=True)

    source.away = False

    assert [type(problem) for problem in results] == [errors.QueueUnavailable] * 2
    assert await request(coalescer, 1) == 2


async def test_the_others_get_their_answers_when_one_caller_leaves() -> None:
    """Also when it was the first."""
    coalescer = concurrency.Coalescer(DoublingSource().fetch)
    callers = [asyncio.create_task(request(coalescer, item)) for item in (1, 2)]
    await asyncio.sleep(SECOND / 2)

    callers[0].cancel()

    assert await callers[1] == 4


class RecordingCommit:
    """Commits that take a second; records when each began and its items."""

    def __init__(self) -> None:
        self.clock = clockwork.running_clock()
        self.began: list[float] = []
        self.batches: list[list[int]] = []
        self.away = False

    async def __call__(self, items: list[int]) -> None:
        """Write items."""
        self.began.append(self.clock.elapsed)
        self.batches.append(items)
        await asyncio.sleep(SECOND)
        if self.away:
            raise errors.StoreUnavailable("simulated")


async def submit(group: concurrency.GroupCommit[int], item: int, *, after: float = 0.0, urgent: bool = False) -> float:
    """Submit one item after a delay; returns when it was written."""
    await asyncio.sleep(after)
    await group.submit(item, urgent=urgent)
    return clockwork.running_clock().elapsed


async def test_an_item_is_written_at_once_when_nothing_was_written_lately() -> None:
    """Together with items of the same tick, and again after a long enough pause."""
    commit = RecordingCommit()
    group = concurrency.GroupCommit(commit, interval=5.0)

    first = await asyncio.gather(*(submit(group, item) for item in (1, 2, 3)))
    later = await submit(group, 4, after=5.0)

    assert first == pytest.approx([SECOND] * 3)
    assert later == pytest.approx(7.0)
    assert commit.batches == [[1, 2, 3], [4]]


async def test_writes_are_paced_when_items_keep_arriving() -> None:
    """One at a time, the interval apart; items that arrive meanwhile go with the next, in order."""
    commit = RecordingCommit()
    group = concurrency.GroupCommit(commit, interval=5.0)

    written = await asyncio.gather(*(submit(group, item, after=item * 0.5) for item in range(20)))

    assert commit.began == pytest.approx([0.0, 6.0, 12.0])
    assert commit.batches == [[0], list(range(1, 13)), list(range(13, 20))]
    assert written == pytest.approx([1.0] + [7.0] * 12 + [13.0] * 7)


async def test_an_item_is_written_without_a_pause_when_it_is_urgent() -> None:
    """With all that waits; the next one that is not urgent waits for its time."""
    commit = RecordingCommit()
    group = concurrency.GroupCommit(commit, interval=5.0)

    written = await asyncio.gather(
        submit(group, 1),
        submit(group, 2, after=1.5),
        submit(group, 3, after=2.0, urgent=True),
        submit(group, 4, after=2.5, urgent=True),
        submit(group, 5, after=4.5),
    )

    assert commit.began == pytest.approx([0.0, 2.0, 3.0, 9.0])
    assert commit.batches == [[1], [2, 3], [4], [5]]
    assert written == pytest.approx([1.0, 3.0, 3.0, 4.0, 10.0])


async def test_the_next_write_waits_when_the_current_one_is_slower_than_the_pace() -> None:
    """A slow server gets larger writes, not more of them at a time."""
    commit = RecordingCommit()
    group = concurrency.GroupCommit(commit, interval=0.0)

    await asyncio.gather(*(submit(group, item, after=item * 0.25) for item in range(8)))

    assert commit.began == pytest.approx([0.0, 1.0, 2.0])
    assert sorted(item for batch in commit.batches for item in batch) == list(range(8))


async def test_every_caller_fails_when_a_write_fails() -> None:
    """Only callers with items in that write; the next write is made."""
    commit = RecordingCommit()
    group = concurrency.GroupCommit(commit, interval=0.0)
    commit.away = True
    early = [asyncio.create_task(submit(group, item)) for item in (1, 2)]
    late = asyncio.create_task(submit(group, 3, after=SECOND / 2))
    results = await asyncio.gather(*early, return_exceptions=True)

    commit.away = False

    assert [type(problem) for problem in results] == [errors.StoreUnavailable] * 2
    assert await late == pytest.approx(2 * SECOND)
    assert commit.batches == [[1, 2], [3]]


async def test_an_item_is_written_when_its_caller_leaves() -> None:
    """Before or during the write; the other callers get their answers."""
    commit = RecordingCommit()
    group = concurrency.GroupCommit(commit, interval=5.0)
    callers = [asyncio.create_task(submit(group, item, after=after)) for item, after in ((1, 0), (2, 0.2), (3, 0.2))]
    await asyncio.sleep(SECOND / 2)

    callers[0].cancel()
    callers[1].cancel()

    assert await callers[2] == pytest.approx(7.0)
    assert commit.batches == [[1], [2, 3]]
    assert [caller.cancelled() for caller in callers] == [True, True, False]


async def test_an_item_is_written_when_all_callers_have_left() -> None:
    """Items are stored without callers; a failure is not raised to any caller."""
    commit = RecordingCommit()
    commit.away = True
    group = concurrency.GroupCommit(commit, interval=0.0)
    caller = asyncio.create_task(submit(group, 1))
    await asyncio.sleep(SECOND / 2)

    caller.cancel()
    await asyncio.sleep(SECOND)

    assert commit.batches == [[1]]
    commit.away = False
    assert await submit(group, 2) == pytest.approx(2.5)
