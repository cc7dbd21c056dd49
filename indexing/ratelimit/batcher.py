"""
One command to the store carries all that this process has to say at that moment.

What is urgent goes at once and takes along what is not; what is not urgent (settlements, asks that surely must wait)
goes after `gather` seconds at the latest. One exchange at a time: what comes meanwhile goes with the next.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from indexing import errors
from indexing.ratelimit import protocol

MOST = 25
"""Items in one exchange: bounds the time for which Redis does nothing else, to a few milliseconds."""

Send = Callable[
    [Sequence[protocol.Settlement], Sequence[protocol.Ask]],
    Awaitable[tuple[list[protocol.Settled], list[protocol.Verdict]]],
]
Later = Callable[[float, Callable[[], None]], asyncio.TimerHandle]


class Desk:
    """
    Gathers and sends.

    Args:
        send: Makes one exchange; may raise errors.LimiterUnavailable.

        on_settled: Told of each settlement that was booked.

        give_back: Makes the settlement of a permit whose asker is gone.

        gather: Longest wait for company, in seconds; 0 sends everything at once.
    """

    def __init__(
        self,
        send: Send,
        on_settled: Callable[[protocol.Settlement, protocol.Settled], None],
        give_back: Callable[[protocol.Ask], protocol.Settlement],
        gather: float,
    ) -> None:
        self._send = send
        self._on_settled = on_settled
        self._give_back = give_back
        self._gather = gather
        self._settlements: list[protocol.Settlement] = []
        self._asks: list[tuple[protocol.Ask, asyncio.Future[protocol.Verdict]]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    async def ask(self, ask: protocol.Ask, *, urgent: bool) -> protocol.Verdict:
        """
        Return the store's verdict.

        Raises:
            errors.LimiterUnavailable: The store cannot be reached.
        """
        answer: asyncio.Future[protocol.Verdict] = asyncio.get_running_loop().create_future()
        self._asks.append((ask, answer))
        self._go(urgent=urgent)
        return await answer

    def post(self, settlement: protocol.Settlement, *, urgent: bool) -> None:
        """Hand in a settlement; when the store is away it is lost, and the permit is held for its full time."""
        self._settlements.append(settlement)
        self._go(urgent=urgent)

    async def empty(self) -> None:
        """Send what is there, and return when it is sent."""
        self._go(urgent=True)
        while self._task is not None:
            await asyncio.shield(self._task)

    def _go(self, *, urgent: bool) -> None:
        if self._task is not None:
            return
        if urgent or not self._gather:
            self._start()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._gather, self._start)

    def _start(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            while self._settlements or self._asks:
                settlements, self._settlements = self._settlements[:MOST], self._settlements[MOST:]
                asks, self._asks = self._asks[:MOST], self._asks[MOST:]
                await self._exchange(settlements, asks)
        finally:
            self._task = None

    async def _exchange(
        self,
        settlements: list[protocol.Settlement],
        asks: list[tuple[protocol.Ask, asyncio.Future[protocol.Verdict]]],
    ) -> None:
        # Who is gone needs no permit.
        asks = [(ask, answer) for ask, answer in asks if not answer.done()]
        try:
            settled, verdicts = await self._send(settlements, [ask for ask, _ in asks])
        except errors.LimiterUnavailable as problem:
            for _, answer in asks:
                if not answer.done():
                    answer.set_exception(errors.LimiterUnavailable(problem.retry_after))
            return
        except BaseException:
            for _, answer in asks:
                answer.cancel()
            raise
        for settlement, reply in zip(settlements, settled, strict=True):
            self._on_settled(settlement, reply)
        for (ask, answer), verdict in zip(asks, verdicts, strict=True):
            if not answer.done():
                answer.set_result(verdict)
            elif isinstance(verdict, protocol.Granted):
                self._settlements.append(self._give_back(ask))
