"""
Combines the settlements and permit requests of one process into few exchanges with the store.

Urgent items start an exchange at once and take the others along; the others (settlements, requests that must surely
wait) wait at most `batch_delay`. Only one exchange runs at a time: items that arrive meanwhile go with the next one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from indexing import errors
from indexing.ratelimit import limits, protocol

MAX_ITEMS = 25
"""Settlements, and requests, in one exchange: the script then blocks Redis for a few milliseconds at most."""

Exchange = Callable[
    [Sequence[protocol.Settlement], Sequence[protocol.PermitRequest]],
    Awaitable[tuple[list[protocol.SettlementResult], list[protocol.Decision]]],
]
Pending = tuple[protocol.PermitRequest, asyncio.Future[protocol.Decision]]


class Batcher:
    """
    Queues items and sends them in batches.

    Args:
        exchange: Makes one exchange; may raise errors.LimiterUnavailable.

        on_settled: Called for each settlement that was booked.

        unused: Makes the settlement of a permit whose requester was cancelled.

        batch_delay: Longest wait of items that are not urgent, in seconds; 0 sends everything at once.
    """

    def __init__(
        self,
        exchange: Exchange,
        on_settled: Callable[[protocol.Settlement, protocol.SettlementResult], None],
        unused: Callable[[limits.Permit], protocol.Settlement],
        batch_delay: float,
    ) -> None:
        self._exchange = exchange
        self._on_settled = on_settled
        self._unused = unused
        self._batch_delay = batch_delay
        self._settlements: list[protocol.Settlement] = []
        self._requests: list[Pending] = []
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    async def request_permit(self, request: protocol.PermitRequest, *, urgent: bool) -> protocol.Decision:
        """
        Return the store's decision.

        Raises:
            errors.LimiterUnavailable: The store cannot be reached.
        """
        decision: asyncio.Future[protocol.Decision] = asyncio.get_running_loop().create_future()
        self._requests.append((request, decision))
        self._schedule(urgent=urgent)
        return await decision

    def add_settlement(self, settlement: protocol.Settlement, *, urgent: bool) -> None:
        """Queue a settlement; if the store is unavailable it is lost, and the permit stays held for its full time."""
        self._settlements.append(settlement)
        self._schedule(urgent=urgent)

    async def flush(self) -> None:
        """Send everything that is queued, and return when it is sent."""
        self._schedule(urgent=True)
        while self._task is not None:
            await asyncio.shield(self._task)

    def _schedule(self, *, urgent: bool) -> None:
        if self._task is not None:
            return
        if urgent or not self._batch_delay:
            self._start_sending()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._batch_delay, self._start_sending)

    def _start_sending(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._send_all())

    async def _send_all(self) -> None:
        try:
            while self._settlements or self._requests:
                settlements, self._settlements = self._settlements[:MAX_ITEMS], self._settlements[MAX_ITEMS:]
                requests, self._requests = self._requests[:MAX_ITEMS], self._requests[MAX_ITEMS:]
                await self._send_batch(settlements, requests)
        finally:
            self._task = None

    async def _send_batch(self, settlements: list[protocol.Settlement], requests: list[Pending]) -> None:
        # A cancelled requester needs no permit.
        requests = [(request, decision) for request, decision in requests if not decision.done()]
        try:
            results, decisions = await self._exchange(settlements, [request for request, _ in requests])
        except errors.LimiterUnavailable as problem:
            for _, decision in requests:
                if not decision.done():
                    decision.set_exception(errors.LimiterUnavailable(problem.retry_after))
            return
        except BaseException:
            for _, decision in requests:
                decision.cancel()
            raise
        for settlement, result in zip(settlements, results, strict=True):
            self._on_settled(settlement, result)
        for (_, future), decided in zip(requests, decisions, strict=True):
            if not future.done():
                future.set_result(decided)
            elif isinstance(decided, limits.Permit):
                self._settlements.append(self._unused(decided))
