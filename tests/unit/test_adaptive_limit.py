"""The limit of concurrent first turns: who gets the next free slot."""

import asyncio

import pytest

from indexing import concurrency
from tests import clockwork

pytestmark = pytest.mark.clockwork
LONG = 100.0


class Bench:
    """A limit of two slots, and the order in which acquirers got theirs."""

    def __init__(self) -> None:
        self.limit = concurrency.AdaptiveLimit(lambda: clockwork.running_clock().elapsed, initial=2, most=2)
        self.served: list[str] = []
        self.tasks: list[asyncio.Task[bool]] = []

    async def ask(self, *callers: str, max_wait: float = LONG) -> None:
        """Let an acquirer of each caller queue, in this order."""
        for caller in callers:
            self.tasks.append(asyncio.create_task(self._acquire(caller, max_wait)))
            await asyncio.sleep(0)

    async def _acquire(self, caller: str, max_wait: float) -> bool:
        acquired = await self.limit.acquire(max_wait, caller)
        if acquired:
            self.served.append(caller)
        return acquired

    async def release(self, *callers: str) -> None:
        """Release a slot of each caller, one after the other."""
        for caller in callers:
            self.limit.release(caller)
            await asyncio.sleep(0.001)


@pytest.fixture
async def bench() -> Bench:
    """No slot is taken."""
    return Bench()


async def test_a_light_caller_gets_the_next_slot_when_a_heavy_one_has_many_in_the_queue(bench: Bench) -> None:
    """It waits for one slot to be free, not for the other's queue."""
    await bench.ask(*["heavy"] * 50, "light")

    await bench.release("heavy")

    assert bench.served == ["heavy", "heavy", "light"]


async def test_callers_share_the_slots_when_all_of_them_wait(bench: Bench) -> None:
    """The one with the fewest is served, and among equals the one that waits longest."""
    await bench.ask(*["a"] * 6, *["b"] * 3, *["c"] * 3)

    for _ in range(9):
        await bench.release(bench.served[-2])

    assert bench.served[:2] == ["a", "a"]
    assert sorted(bench.served[2:8]) == ["a", "a", "b", "b", "c", "c"]


async def test_slots_are_given_in_order_when_there_is_one_caller(bench: Bench) -> None:
    """As without callers."""
    order: list[int] = []

    async def acquire(number: int) -> None:
        await bench.limit.acquire(LONG)
        order.append(number)

    tasks = [asyncio.create_task(acquire(number)) for number in range(5)]
    for _ in range(3):
        await asyncio.sleep(0.001)
        bench.limit.release()
    await asyncio.gather(*tasks)

    assert order == [0, 1, 2, 3, 4]


async def test_nothing_is_kept_of_a_caller_when_it_neither_waits_nor_runs(bench: Bench) -> None:
    """Also after acquirers that gave up: the limit forgets names."""
    await bench.ask("a", "b")
    await bench.ask("c", "d", max_wait=1.0)
    bench.tasks[-1].cancel()
    await asyncio.sleep(2.0)
    await bench.release("a", "b")

    assert bench.tasks[2].result() is False
    assert (bench.limit.running, bench.limit.waiting_callers(), bench.limit.waiting("c")) == (0, 1, 0)
    assert await bench.limit.acquire(0.0, "e")


async def test_a_slot_is_not_lost_when_its_acquirer_is_cancelled_as_it_gets_it(bench: Bench) -> None:
    """The next one gets it."""
    await bench.ask("a", "a", "b", "c")

    bench.limit.release("a")
    bench.tasks[2].cancel()
    await asyncio.sleep(0.001)

    assert bench.served == ["a", "a", "c"]
