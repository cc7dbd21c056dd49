"""The time limit of many short operations."""

import asyncio

import pytest

from indexer_service.interceptors import receive
from tests import clockwork

pytestmark = pytest.mark.clockwork
LIMIT = 10.0


async def test_an_operation_ends_at_its_own_limit_when_others_began_before_and_after() -> None:
    """One timer serves them all, also the first one after a pause."""
    clock, limit = clockwork.running_clock(), receive.TimeLimit(LIMIT)
    ends = dict[float, float]()

    async def begin(at: float) -> None:
        await asyncio.sleep(at)
        with pytest.raises(TimeoutError):
            await limit.run(asyncio.sleep(1_000.0))
        ends[at] = clock.elapsed

    await asyncio.gather(*map(begin, (0.0, 3.0, 3.5, 12.0, 60.0)))

    assert ends == pytest.approx({0.0: 10.0, 3.0: 13.0, 3.5: 13.5, 12.0: 22.0, 60.0: 70.0})


async def test_the_result_is_returned_when_an_operation_ends_in_time() -> None:
    """Nothing cancels its task afterwards."""
    limit = receive.TimeLimit(LIMIT)

    result = await limit.run(asyncio.sleep(9.9, "read"))
    await asyncio.sleep(30.0)

    assert result == "read"


async def test_a_cancellation_stays_one_when_somebody_else_cancels() -> None:
    """Also at the very moment at which the limit ends: the caller has left."""
    limit = receive.TimeLimit(LIMIT)
    early, late = (asyncio.ensure_future(limit.run(asyncio.sleep(1_000.0))) for _ in range(2))

    asyncio.get_running_loop().call_later(5.0, early.cancel)
    asyncio.get_running_loop().call_later(LIMIT, late.cancel)
    await asyncio.wait([early, late])

    assert early.cancelled()
    assert late.cancelled()


async def test_the_task_goes_on_when_it_handles_the_end_of_the_limit() -> None:
    """It is not cancelled any more, and may use the limit again."""
    limit = receive.TimeLimit(LIMIT)

    for _ in range(2):
        with pytest.raises(TimeoutError):
            await limit.run(asyncio.sleep(1_000.0))

    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
