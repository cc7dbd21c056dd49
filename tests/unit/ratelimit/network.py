"""
A fleet, a network and a server on a clock that jumps from event to event.

Each way between a process and the server takes a random time. Answers overtake each other and get lost, and processes
crash between taking a permit and settling it.
"""

import asyncio
import dataclasses
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol, TypeVar

from indexing import errors
from indexing.domain import model
from indexing.ratelimit import limits
from tests import clockwork
from tests.unit.ratelimit.server import Server

T = TypeVar("T")
ROUTE = "GET /guilds/{guild.id}/channels"
TIMEOUT = 2.0
"""Timeout of a call, in seconds."""


@dataclasses.dataclass(frozen=True, slots=True)
class Conditions:
    """
    How the network and the processes behave; times in seconds.

    Attributes:
        least: Shortest time of one way.
        jitter: Mean of the exponential time added to each way, as a share of the shortest.
        stalls: Share of ways that take up to a second longer.
        lost: Share of calls, and of answers, that are lost.
        crashes: Share of callers that crash between taking and settling.
        speedup: In the second half of the run, the shortest way is this share of what it was.
        late: Longest time between a permit and its call.
    """

    seed: int
    least: float = 0.04
    jitter: float = 0.5
    stalls: float = 0.0
    lost: float = 0.0
    crashes: float = 0.0
    speedup: float = 1.0
    late: float = 0.0
    users: int = 3
    guilds: int = 3
    callers: int = 6
    seconds: float = 20.0
    lanes: bool = True


class Client(Protocol):
    """The limiter, or a rule that stands for it."""

    async def take(self, charge: limits.Charge, *, max_wait: float) -> limits.Permit:
        """Return a permit, or raise RateLimited or LimiterUnavailable."""

    async def settle(self, permit: limits.Permit, answer: limits.Answer) -> None:
        """Settle the permit."""

    async def give_back(self, permit: limits.Permit) -> None:
        """Return an unused permit."""


class Fleet:
    """Callers in several processes that always want more permits."""

    def __init__(self, conditions: Conditions, server: Server, clients: list[Client]) -> None:
        self._conditions = conditions
        self._server = server
        self._clients = clients
        self._dice = random.Random(conditions.seed)
        self._loop = asyncio.get_running_loop()
        self._end = self._loop.time() + conditions.seconds

    async def run(self, *events: Callable[[], Awaitable[object]]) -> None:
        """Make calls until the time is over; the events happen at random moments."""
        async with asyncio.TaskGroup() as group:
            for event in events:
                group.create_task(self._at_random(event))
            for number in range(self._conditions.callers):
                group.create_task(self._work(self._clients[number % len(self._clients)]))

    async def _at_random(self, event: Callable[[], Awaitable[object]]) -> None:
        await asyncio.sleep(self._dice.random() * self._conditions.seconds)
        await event()

    async def _work(self, client: Client) -> None:
        while self._loop.time() < self._end:
            try:
                permit = await client.take(self._charge(), max_wait=self._dice.choice((0.0, 1.0, 5.0)))
            except (errors.RateLimited, errors.LimiterUnavailable) as refusal:
                await asyncio.sleep(refusal.retry_after)
                continue
            await self._call(client, permit)

    def _charge(self) -> limits.Charge:
        lane = self._dice.choice(limits.LANES) if self._conditions.lanes else model.Lane.INTERACTIVE
        user, guild = self._dice.randrange(self._conditions.users), self._dice.randrange(self._conditions.guilds)
        return limits.Charge(lane, ROUTE, "bot", user, guild)

    async def _call(self, client: Client, permit: limits.Permit) -> None:
        granted = self._loop.time()
        await asyncio.sleep(self._dice.random() * self._conditions.late)
        if self._loop.time() - granted > permit.send_deadline:
            await client.give_back(permit)
            return
        begun = self._loop.time()
        answer: asyncio.Future[limits.Answer] = self._loop.create_future()
        if not self._happens(self._conditions.lost):
            self._loop.call_later(self._way(), self._arrive, permit, begun, answer)
        if self._happens(self._conditions.crashes):
            return
        try:
            async with asyncio.timeout(TIMEOUT):
                result = await answer
        except TimeoutError:
            result = limits.Answer(None, {}, TIMEOUT)
        await client.settle(permit, result)

    def _arrive(self, permit: limits.Permit, begun: float, answer: asyncio.Future[limits.Answer]) -> None:
        charge = permit.charge
        headers = self._server.arrive(self._loop.time(), charge.user_id or 0, charge.major or 0)

        def read() -> None:
            if not answer.done():
                answer.set_result(limits.Answer(200, headers, self._loop.time() - begun))

        if not self._happens(self._conditions.lost):
            self._loop.call_later(self._way(), read)

    def _way(self) -> float:
        half = self._end - self._conditions.seconds / 2
        least = self._conditions.least * (self._conditions.speedup if self._loop.time() > half else 1.0)
        stall = self._dice.random() if self._happens(self._conditions.stalls) else 0.0
        # Nothing arrives after the timeout: the connection is closed by then.
        return min(
            least + self._dice.expovariate(1 / (self._conditions.jitter * self._conditions.least)) + stall,
            TIMEOUT * 0.99,
        )

    def _happens(self, share: float) -> bool:
        return self._dice.random() < share


def on_jumping_clock(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run *work* on a loop whose clock jumps to the next timer."""
    with asyncio.Runner(loop_factory=clockwork.Loop) as runner:
        return runner.run(work())
