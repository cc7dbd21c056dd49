"""Operations under way at MongoDB: how many, in what order, and for how long they may wait."""

import asyncio
import contextlib

import pymongo
import pymongo.errors
import pytest

from indexing import precedence, settings
from indexing.store import operation_limit
from tests import clockwork

pytestmark = pytest.mark.clockwork
SETTINGS = settings.MongoSettings(connections=4, most_connections=32, timeout=10.0)


class Server:
    """
    Operations at a server that is so far away, and does so many at a time; each takes 1 ms.

    Attributes:
        most: The most operations that were under way at once.
    """

    def __init__(self, distance: float, width: int = 1_000, work: float = 0.001, idle: int = 1_000) -> None:
        self.limit = operation_limit.OperationLimit(SETTINGS, lambda: clockwork.running_clock().elapsed)
        self.most = 0
        self._distance = distance
        self._under_way, self._idle = 0, idle
        self._work = work
        self._busy = asyncio.Semaphore(width)

    def move(self, distance: float) -> None:
        """Be so far away from now on."""
        self._distance = distance

    async def hello(self) -> None:
        """Answer, waiting for no other operation."""
        await asyncio.sleep(self._distance)

    async def ask_on(self) -> None:
        """Make one operation after the other, whether they fail or not. Never returns."""
        while True:
            with contextlib.suppress(pymongo.errors.PyMongoError):
                await self.ask()

    async def ask(self) -> None:
        """Make an operation; one that waited for its turn has only the rest of the time."""
        asked = clockwork.running_clock().elapsed
        async with self.limit.operation():
            waited = clockwork.running_clock().elapsed - asked
            self._under_way += 1
            self.most = max(self.most, self._under_way)
            try:
                if waited:
                    await self._work_within(max(operation_limit.LEAST_TIME, SETTINGS.timeout - waited))
                else:
                    await self._use_connection()
            finally:
                self._under_way -= 1

    async def _work_within(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._use_connection()
        except TimeoutError:
            raise pymongo.errors.NetworkTimeout("the time is over") from None

    async def _use_connection(self) -> None:
        """Work over an idle connection, or over a new one, which takes a round trip; a failure closes it."""
        if self._idle:
            self._idle -= 1
        else:
            await asyncio.sleep(self._distance)
        await asyncio.sleep(self._distance)
        async with self._busy:
            await asyncio.sleep(self._work)
        self._idle += 1

    async def load(self, seconds: float, askers: int = 50) -> None:
        """Have so many ask without a pause, beside the probe."""
        tasks = [asyncio.create_task(self.ask_on()) for _ in range(askers)]
        tasks.append(asyncio.create_task(self.limit.probe(self.hello)))
        await asyncio.sleep(seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.limit.close()


@pytest.mark.parametrize(("distance", "most"), [(0.0, 4), (0.009, 4), (0.02, 8), (0.1, 32), (0.5, 32)])
async def test_operations_under_way_grow_with_the_distance_of_the_server(distance: float, most: int) -> None:
    """In proportion from 10 ms on, up to MONGODB_MOST_CONNECTIONS."""
    server = Server(distance)

    await server.load(10.0)

    assert server.most == most
    assert server.limit.server_is_far is (most > 4)


async def test_operations_under_way_grow_when_those_that_waited_long_are_cut_off() -> None:
    """One that waited nine seconds for its turn is not begun at a server two seconds away, and closes no connection."""
    server = Server(0.001, idle=4)
    asyncio.get_running_loop().call_later(5.0, server.move, 2.0)

    await server.load(65.0, askers=100)

    assert server.most == 32


async def test_operations_under_way_stay_few_when_every_statement_waits_inside_the_server() -> None:
    """One at a time, a second each: statements take four seconds, and the probe takes one millisecond."""
    server = Server(0.001, width=1, work=1.0)

    await server.load(60.0, askers=8)

    assert server.most == 4


async def test_operations_of_older_work_go_first_when_many_wait() -> None:
    """Also those that are asked for later, in a task of the work; what follows the work has its own age."""
    limit = operation_limit.OperationLimit(SETTINGS, lambda: clockwork.running_clock().elapsed)
    done: list[str] = []

    async def operate(name: str) -> None:
        async with limit.operation():
            done.append(name)
            await asyncio.sleep(1.0)

    async def work() -> None:
        with precedence.by_age():
            await asyncio.sleep(0.2)
            with precedence.by_age():
                await asyncio.create_task(operate("older"))
        await operate("after it")

    async with asyncio.TaskGroup() as group:
        group.create_task(work())
        for _ in range(SETTINGS.connections):
            group.create_task(operate("under way"))
        await asyncio.sleep(0.1)
        for _ in range(SETTINGS.connections):
            group.create_task(operate("younger"))

    younger = ["younger"] * SETTINGS.connections
    assert done == ["under way"] * SETTINGS.connections + ["older", *younger[1:], "younger", "after it"]


async def test_operation_fails_when_no_other_ends_within_the_timeout() -> None:
    """With the driver's error, which is translated like that of a missing connection."""
    server = Server(60.0)
    running = [asyncio.create_task(server.ask()) for _ in range(4)]
    await asyncio.sleep(0)
    began = clockwork.running_clock().elapsed

    with pytest.raises(pymongo.errors.WaitQueueTimeoutError):
        await server.ask()

    assert clockwork.running_clock().elapsed - began == pytest.approx(10.0)
    await asyncio.gather(*running)
    server.limit.close()


async def test_operation_that_waited_has_the_rest_of_the_timeout() -> None:
    """Both together take MONGODB_TIMEOUT, so that no caller waits twice as long."""
    server = Server(3.0)
    running = [asyncio.create_task(server.ask()) for _ in range(4)]
    await asyncio.sleep(0)

    async with server.limit.operation():
        left = pymongo._csot.get_timeout()

    assert left == pytest.approx(10.0 - 3.001)
    await asyncio.gather(*running)
    server.limit.close()


async def test_place_is_free_again_when_an_operation_fails_or_is_cancelled() -> None:
    """Else the process would stand still after some failures."""
    server = Server(0.001)
    for _ in range(8):
        with pytest.raises(pymongo.errors.AutoReconnect):
            async with server.limit.operation():
                raise pymongo.errors.AutoReconnect("lost")
        cancelled = asyncio.create_task(server.ask())
        await asyncio.sleep(0)
        cancelled.cancel()

    await asyncio.gather(*(server.ask() for _ in range(4)))

    assert server.most >= 4
    server.limit.close()
