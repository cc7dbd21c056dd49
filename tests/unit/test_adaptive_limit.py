"""A limit that adapts to a server: how it follows latencies, and who gets the next free slot."""

import asyncio
from collections.abc import Sequence

import hypothesis
import pytest
from hypothesis import strategies

from indexing import concurrency
from tests import clockwork

pytestmark = pytest.mark.clockwork
LONG = 100.0


class Bench:
    """A limit of two slots, and the order in which acquirers got theirs."""

    def __init__(self) -> None:
        self.limit = concurrency.AdaptiveLimit(
            lambda: clockwork.running_clock().elapsed, concurrency.LimitRule(2, 2, 2)
        )
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


async def test_the_smallest_rank_goes_first_in_the_queue_of_a_caller(bench: Bench) -> None:
    """Those of one rank in the order of their requests; one that gives up leaves the others in order."""
    await bench.ask("a", "a")
    served = []

    async def queue(name: str, rank: float, max_wait: float = LONG) -> None:
        if await bench.limit.acquire(max_wait, "a", rank=rank):
            served.append(name)

    async with asyncio.TaskGroup() as group:
        for name, rank, max_wait in [("late", 3.0, LONG), ("gone", 1.0, 0.5), ("x", 2.0, LONG), ("y", 2.0, LONG)]:
            group.create_task(queue(name, rank, max_wait))
        await asyncio.sleep(1.0)
        await bench.release("a", "a", "a")

    assert served == ["x", "y", "late"]


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


RULE = concurrency.LimitRule(initial=4, base=4, most=32, least=4, near=0.01, healthy=0.02)


def follow(seconds: Sequence[Sequence[float]], rule: concurrency.LimitRule = RULE) -> list[int]:
    """Return the limit after each second with these latencies."""
    now = 0.0
    limit = concurrency.AdaptiveLimit(lambda: now, rule)
    found = []
    for latencies in seconds:
        for latency in latencies[:-1]:
            limit.observe(latency)
        now += 1.0
        limit.observe(latencies[-1])
        found.append(limit.limit)
    return found


FAR, BUSY, NEAR = [0.1, 0.11, 0.13], [0.002, 0.4, 0.4], [0.002, 0.003]


def test_limit_grows_when_the_shortest_latency_is_long() -> None:
    """The server is far away: it doubles, and one more, up to the upper bound."""
    assert follow([FAR] * 5) == [9, 19, 32, 32, 32]


def test_limit_grows_in_proportion_when_the_server_is_a_little_away() -> None:
    """21 ms are 2.1 times 10 ms: 8 operations in place of 4."""
    assert follow([[0.021, 0.022]] * 3) == [8, 8, 8]


def test_limit_stays_when_only_the_usual_latency_is_long() -> None:
    """The server is near and busy: more work would make it slower."""
    assert follow([BUSY] * 10) == [4] * 10


def test_limit_shrinks_back_when_the_server_is_near_again() -> None:
    """With the first short latency."""
    assert follow([FAR, FAR, FAR, NEAR]) == [9, 19, 32, 4]


def test_limit_shrinks_when_a_far_server_becomes_busy() -> None:
    """Its usual latency is four times the shortest, twice what is tolerated: half of it, each second."""
    assert follow([FAR, FAR, FAR, [0.1, 0.4, 0.4], [0.1, 0.4, 0.4]]) == [9, 19, 32, 16, 8]


def test_limit_grows_only_when_no_latency_of_the_last_seconds_was_short() -> None:
    """Four of them: a second in which all operations waited for the server is no distance."""
    assert follow([NEAR, FAR, FAR, FAR, FAR]) == [4, 4, 4, 4, 9]


def test_probe_tells_the_distance_without_being_usual() -> None:
    """Statements that all wait for a lock are slow, and what waits for none is not: the server is near."""
    now = 0.0
    limit = concurrency.AdaptiveLimit(lambda: now, RULE)
    for _ in range(5):
        limit.observe_least(0.001)
        now += 1.0
        limit.observe(2.0)

    assert limit.limit == 4


def test_first_turns_are_fewer_when_writes_become_slow_and_recover_afterwards() -> None:
    """Nothing adds to them for a distance."""
    slow, usual = [[0.05, 0.6, 0.6]] * 6, [[0.05, 0.06]] * 3

    assert follow([*slow, *usual], concurrency.LimitRule()) == [16, 8, 4, 2, 1, 1, 3, 7, 15]


@hypothesis.given(strategies.lists(strategies.lists(strategies.floats(0.0, 100.0), min_size=1), min_size=1))
def test_limit_stays_within_its_bounds_whatever_the_server_does(seconds: list[list[float]]) -> None:
    """And within the bound for the shortest latency of the last four seconds."""
    found = follow(seconds)

    assert all(4 <= limit <= 32 for limit in found)
    shortest = min(latency for latencies in seconds[-4:] for latency in latencies)
    assert found[-1] <= max(4.0, 4 * shortest / 0.01)
