"""
What a process does all the time beside its calls; a duty that fails begins again.

One question for many who ask the same kind of thing at the same time.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Hashable, Mapping
from typing import Any, Generic, TypeVar

from indexing import errors
from indexing.telemetry import logs

RESTART_DELAY = 1.0
"""Seconds until a duty that failed begins again."""
CANCEL_INTERVAL = 0.5
"""Seconds until a duty that did not end is cancelled again."""


async def repeat_every(seconds: float, work: Callable[[], Awaitable[object]]) -> None:
    """Do *work* again and again, with that pause; never returns."""
    while True:
        await work()
        await asyncio.sleep(seconds)


@contextlib.asynccontextmanager
async def background_tasks(**duties: Callable[[], Awaitable[object]]) -> AsyncIterator[None]:
    """Run the named duties until the block ends; each is begun again when it fails, and its failure logged."""
    tasks = [asyncio.create_task(_keep_running(name, duty), name=name) for name, duty in duties.items()]
    try:
        yield
    finally:
        await _end(set(tasks))


async def _end(tasks: set[asyncio.Task[None]]) -> None:
    """Cancel until all have ended: redis-py swallows a cancellation that meets it while it connects."""
    while tasks:
        for task in tasks:
            task.cancel()
        _, tasks = await asyncio.wait(tasks, timeout=CANCEL_INTERVAL)


async def _keep_running(name: str, duty: Callable[[], Awaitable[object]]) -> None:
    log = logs.get(__name__)
    while True:
        try:
            await duty()
        except errors.IndexerError as problem:
            log.warning("background_task_failed", task=name, reason=problem.reason, error=str(problem))
        except Exception:
            log.exception("background_task_crashed", task=name)
        await asyncio.sleep(RESTART_DELAY)


Item = TypeVar("Item", bound=Hashable)
Answer = TypeVar("Answer")
Result = TypeVar("Result")


class Coalescer(Generic[Item, Answer]):
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

    def request(self, item: Item) -> "asyncio.Task[Mapping[Item, Answer]]":
        """Let the next question name *item*; returns the task that asks. Whoever awaits it shields it."""
        if self._next is None:
            items: dict[Item, None] = {}
            self._next = items, spawn_shared(self._one(items))
        items, task = self._next
        items[item] = None
        return task

    async def _one(self, items: dict[Item, None]) -> Mapping[Item, Answer]:
        if self._gather:
            await asyncio.sleep(self._gather)
        async with self._one_asks:
            self._next = None
            return await self._ask(list(items))


def spawn_shared(work: Coroutine[Any, Any, Result]) -> "asyncio.Task[Result]":
    """Run *work* for several callers: it goes on when one of them leaves, and fails silently when all have left."""
    task = asyncio.create_task(work)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task
