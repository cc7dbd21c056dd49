"""One question for many who ask the same kind of thing at the same time."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Mapping
from typing import Any, Generic, TypeVar

Item = TypeVar("Item", bound=Hashable)
Answer = TypeVar("Answer")
Result = TypeVar("Result")


class Batch(Generic[Item, Answer]):
    """
    Asks for all who have come since the question before was asked; only one question is under way at a time.

    So nobody waits when nobody else asks, and the more ask, the more each question serves.

    Args:
        ask: Returns the answers for some different items.
        gather: Seconds to wait for more items before each question; for who is in no hurry.
    """

    def __init__(self, ask: Callable[[list[Item]], Awaitable[Mapping[Item, Answer]]], *, gather: float = 0.0) -> None:
        self._ask = ask
        self._gather = gather
        self._next: tuple[dict[Item, None], asyncio.Task[Mapping[Item, Answer]]] | None = None
        self._one_asks = asyncio.Lock()

    def get(self, item: Item) -> "asyncio.Task[Mapping[Item, Answer]]":
        """Let the next question name *item*; returns the task that asks. Whoever awaits it shields it."""
        if self._next is None:
            items: dict[Item, None] = {}
            self._next = items, shared(self._one(items))
        items, task = self._next
        items[item] = None
        return task

    async def _one(self, items: dict[Item, None]) -> Mapping[Item, Answer]:
        if self._gather:
            await asyncio.sleep(self._gather)
        async with self._one_asks:
            self._next = None
            return await self._ask(list(items))


def shared(work: Coroutine[Any, Any, Result]) -> "asyncio.Task[Result]":
    """Run *work* for several callers: it goes on when one of them leaves, and fails silently when all have left."""
    task = asyncio.create_task(work)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task
