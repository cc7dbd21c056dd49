"""What a process does all the time beside its calls, and the messages that its parts exchange."""

import asyncio

import pytest
import structlog.testing

from indexing import concurrency, errors
from indexing.domain import turns
from tests import clockwork

pytestmark = pytest.mark.clockwork


async def test_a_duty_is_done_again_and_again_when_it_has_a_rhythm() -> None:
    """With that pause between two times, from the beginning on."""
    clock = clockwork.running_clock()
    times: list[float] = []

    async def work() -> None:
        times.append(clock.elapsed)

    async with concurrency.background_tasks(sweep=lambda: concurrency.repeat_every(15.0, work)):
        await asyncio.sleep(40.0)

    assert times == pytest.approx([0.0, 15.0, 30.0])


@pytest.mark.parametrize(
    ("problem", "event"),
    [
        pytest.param(errors.QueueUnavailable("away"), "background_task_failed", id="on-purpose"),
        pytest.param(KeyError("a bug"), "background_task_crashed", id="by-a-bug"),
    ],
)
async def test_a_duty_begins_again_when_it_fails(problem: Exception, event: str) -> None:
    """After a pause, as often as need be; each failure is logged with the duty's name."""
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


async def test_one_duty_does_not_stop_another_when_it_fails() -> None:
    """The alarm rings while the sweeper cannot reach its server."""
    done: list[str] = []

    async def failing() -> None:
        raise errors.StoreUnavailable("away")

    async def work() -> None:
        done.append("rang")

    async with concurrency.background_tasks(sweep=failing, poller=lambda: concurrency.repeat_every(1.0, work)):
        await asyncio.sleep(3.5)

    assert done == ["rang"] * 4


async def test_every_duty_has_ended_when_the_block_is_left() -> None:
    """Also when the block fails, and what it raises is what is raised."""
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


async def test_a_duty_ends_when_a_library_swallows_its_cancellation() -> None:
    """redis-py does while it connects; the end of the process must not wait for ever."""
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


async def test_a_turn_is_the_same_when_it_comes_out_of_its_message() -> None:
    """Whichever version has put it there: unknown fields are ignored, numbers may be texts."""
    turn = turns.Turn("a" * 32, 7)

    found = [
        turns.parse(turn.payload()),
        turns.parse({**turn.payload(), "brand_new": [1]}),
        turns.parse({"job_id": "a" * 32, "number": "7"}),
    ]

    assert found == [turn] * 3


async def test_a_message_without_its_fields_is_refused_when_it_is_parsed() -> None:
    """It is none of ours."""
    payloads: list[dict[str, object]] = [{}, {"job_id": "a"}, {"number": 1}]

    for payload in payloads:
        with pytest.raises(KeyError):
            turns.parse(payload)
