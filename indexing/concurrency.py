"""Background tasks that restart after a failure, and one request shared by concurrent callers."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Hashable, Mapping
from typing import Any, Generic, TypeVar

from indexing import errors
from indexing.telemetry import logs

RESTART_DELAY = 1.0
"""Seconds between the failure of a background task and its restart."""
CANCEL_INTERVAL = 0.5
"""Seconds after which a task that has not ended is cancelled again."""


async def repeat_every(seconds: float, work: Callable[[], Awaitable[object]]) -> None:
    """Run *work* in a loop, with that pause between two runs. Never returns."""
    while True:
        await work()
        await asyncio.sleep(seconds)


@contextlib.asynccontextmanager
async def background_tasks(**functions: Callable[[], Awaitable[object]]) -> AsyncIterator[None]:
    """Run the named functions as tasks until the block ends. A function that fails is logged and called again."""
    tasks = [asyncio.create_task(_run_with_restarts(name, function), name=name) for name, function in functions.items()]
    try:
        yield
    finally:
        await _cancel_until_ended(set(tasks))


async def _cancel_until_ended(tasks: set[asyncio.Task[None]]) -> None:
    """Cancel repeatedly, because redis-py swallows a cancellation while it connects."""
    while tasks:
        for task in tasks:
            task.cancel()
        _, tasks = await asyncio.wait(tasks, timeout=CANCEL_INTERVAL)


async def _run_with_restarts(name: str, function: Callable[[], Awaitable[object]]) -> None:
    log = logs.get(__name__)
    while True:
        try:
            await function()
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
    Coalesces concurrent requests: everything requested while one fetch runs is served by the next fetch.

    A request waits for nothing when no fetch runs, and under load each fetch serves more requests.

    Args:
        fetch: Returns the answers for distinct items.
        linger: Seconds to wait for more items before each fetch, for requests that are not urgent.
    """

    def __init__(self, fetch: Callable[[list[Item]], Awaitable[Mapping[Item, Answer]]], *, linger: float = 0.0) -> None:
        self._fetch = fetch
        self._linger = linger
        self._next: tuple[dict[Item, None], asyncio.Task[Mapping[Item, Answer]]] | None = None
        self._fetching = asyncio.Lock()

    def request(self, item: Item) -> "asyncio.Task[Mapping[Item, Answer]]":
        """Add *item* to the next fetch and return its task, which callers shield before they await it."""
        if self._next is None:
            items: dict[Item, None] = {}
            self._next = items, spawn_shared(self._fetch_all(items))
        items, task = self._next
        items[item] = None
        return task

    async def _fetch_all(self, items: dict[Item, None]) -> Mapping[Item, Answer]:
        if self._linger:
            await asyncio.sleep(self._linger)
        async with self._fetching:
            self._next = None
            return await self._fetch(list(items))


def spawn_shared(work: Coroutine[Any, Any, Result]) -> "asyncio.Task[Result]":
    """Start *work* for several callers. It continues when a caller leaves, and fails silently when all have left."""
    task = asyncio.create_task(work)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task


class GroupCommit(Generic[Item]):
    """
    Writes what arrives together in one go: at once when nothing was written lately, else at a pace.

    One write is under way at a time, so that a slow server means larger writes, not more of them.

    Args:
        commit: Writes items, in the order in which they arrived; one that raises fails for all of them.
        interval: Least seconds between the beginnings of two writes.
    """

    def __init__(self, commit: Callable[[list[Item]], Awaitable[None]], *, interval: float) -> None:
        self._commit = commit
        self._interval = interval
        self._pending: list[tuple[Item, asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None
        self._began = float("-inf")

    async def submit(self, item: Item) -> None:
        """Return when *item* is written. A caller that leaves does not take the item back."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.append((item, done))
        if self._task is None:
            self._task = spawn_shared(self._run())
        await done

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._pending:
                pause = self._began + self._interval - loop.time()
                # Also without a pause: what is submitted in the same tick goes with the first.
                await asyncio.sleep(max(0.0, pause))
                self._began = loop.time()
                batch, self._pending = self._pending, []
                await self._write(batch)
        finally:
            self._task = None
            for _, done in self._pending:
                done.cancel()

    async def _write(self, batch: list[tuple[Item, asyncio.Future[None]]]) -> None:
        problem: BaseException | None = None
        try:
            await self._commit([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001 -- handed to all who wait
            problem = error
        for _, done in batch:
            if done.done():
                continue
            if problem is None:
                done.set_result(None)
            else:
                done.set_exception(problem)
