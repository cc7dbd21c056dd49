"""Background tasks that restart after a failure, and one request shared by concurrent callers."""

import asyncio
import collections
import contextlib
import dataclasses
import heapq
import itertools
import math
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Hashable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from indexing import errors
from indexing.telemetry import logs

RESTART_DELAY = 1.0
"""Seconds between the failure of a background task and its restart."""
LONGEST_WAIT = 30.0
"""Longest wait of a background task for a permit, in seconds."""
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
        pause = RESTART_DELAY
        try:
            await function()
        except errors.RateLimited as wait:
            # No failure: after a start, nobody has permits until the limiter knows that no earlier call counts.
            log.info("background_task_waits", task=name, error=str(wait))
            pause = min(max(wait.retry_after, RESTART_DELAY), LONGEST_WAIT)
        except errors.IndexerError as problem:
            log.warning("background_task_failed", task=name, reason=problem.reason, error=str(problem))
        except Exception:
            log.exception("background_task_crashed", task=name)
        await asyncio.sleep(pause)


@contextlib.contextmanager
def first_error_alone() -> Iterator[None]:
    """
    Raise the first error of a task group in place of the group, if all of them are errors.IndexerError.

    A `raise` inside `except*` would do the same only since Python 3.11.4: before, what it raises is put into a group
    (CPython gh-103590).
    """
    try:
        yield
    except BaseExceptionGroup as group:
        first: BaseException = group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        if group.split(errors.IndexerError)[1] is not None:
            raise
        raise first from group


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
        gather: The same, but only after a fetch that served several calls, because more of them follow then. A caller
            alone waits for nothing.
    """

    def __init__(
        self,
        fetch: Callable[[list[Item]], Awaitable[Mapping[Item, Answer]]],
        *,
        linger: float = 0.0,
        gather: float = 0.0,
    ) -> None:
        self._fetch = fetch
        self._linger = linger
        self._gather = gather
        self._calls = 0
        self._crowded = False
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

    def start(self, items: Collection[Item]) -> "asyncio.Task[Mapping[Item, Answer]]":
        """Add items, at least one, to the next fetch and return its task, which callers shield before they await it."""
        self._calls += 1
        (task,) = {self.request(item) for item in items}
        return task

    async def fetch(self, items: Collection[Item]) -> Mapping[Item, Answer]:
        """Return the answers of one fetch that begins after the call, for at least these items; none for none."""
        return await asyncio.shield(self.start(items)) if items else {}

    async def _fetch_all(self, items: dict[Item, None]) -> Mapping[Item, Answer]:
        if self._linger:
            await asyncio.sleep(self._linger)
        async with self._fetching:
            if self._gather and self._crowded:
                await asyncio.sleep(self._gather)
            self._next = None
            self._crowded, self._calls = self._calls > 1, 0
            return await self._fetch(list(items))


def spawn_shared(work: Coroutine[Any, Any, Result]) -> "asyncio.Task[Result]":
    """Start *work* for several callers. It continues when a caller leaves, and fails silently when all have left."""
    task = asyncio.create_task(work)
    task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return task


class GroupCommit(Generic[Item]):
    """
    Writes concurrently submitted items in one batch: at once when nothing was written recently, else at an interval.

    One write runs at a time, so a slow server leads to larger writes, not to more of them.

    Args:
        commit: Writes items in the order of their submission; an error fails all of them.
        interval: Least seconds between the end of a write and the beginning of the next.
    """

    def __init__(self, commit: Callable[[list[Item]], Awaitable[None]], *, interval: float) -> None:
        self._commit = commit
        self._interval = interval
        self._pending: list[tuple[Item, asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None
        self._ended = float("-inf")
        self._hurry = asyncio.Event()

    async def submit(self, item: Item, *, urgent: bool = False) -> None:
        """
        Return when *item* is written, an urgent one and those before it without a pause.

        Cancelling the caller does not withdraw the item.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.append((item, done))
        if urgent:
            self._hurry.set()
        if self._task is None:
            self._task = spawn_shared(self._run())
        await done

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._pending:
                # Sleep even without a pause: items submitted in the same tick join the batch.
                await asyncio.sleep(0)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(self._ended + self._interval):
                        await self._hurry.wait()
                self._hurry.clear()
                batch, self._pending = self._pending, []
                await self._write(batch)
                self._ended = loop.time()
        finally:
            self._task = None
            for _, done in self._pending:
                done.cancel()

    async def _write(self, batch: list[tuple[Item, asyncio.Future[None]]]) -> None:
        problem: BaseException | None = None
        try:
            await self._commit([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001 -- passed to all waiters
            problem = error
        for _, done in batch:
            if done.done():
                continue
            if problem is None:
                done.set_result(None)
            else:
                done.set_exception(problem)


@dataclasses.dataclass(frozen=True, slots=True)
class LimitRule:
    """
    How a limit adapts.

    Attributes:
        initial: The limit at first.
        base: Its upper bound while the server is near.
        most: Its upper bound however far the server is.
        least: Its lower bound.
        near: Seconds of the shortest latency up to which a server is near.
        healthy: Seconds of usual latency that never lower the limit.
    """

    initial: int = 32
    base: int = 64
    most: int = 64
    least: int = 1
    near: float = 0.1
    healthy: float = 0.15

    def ceiling(self, shortest: float) -> float:
        """Return the upper bound for a shortest latency."""
        return min(self.most, self.base * max(1.0, shortest / self.near))


class AdaptiveLimit:
    """
    A limit of concurrent work that adapts to the latency of the server.

    The shortest latency of the last seconds tells how far away the server is, the usual one how busy. A far server
    needs more work under way for the same throughput (Little's law), so its distance raises the upper bound. A busy one
    does not: work that waits inside it only makes it slower. So once a second the limit shrinks by the ratio of
    `TOLERANCE` times the shortest latency to the usual one, and doubles when there is none to shrink by (after
    TCP Vegas, and Gradient2 of Netflix' concurrency-limits).

    Those that wait take turns by caller: a free slot goes to the caller that has the fewest, and among equals to the
    one that waits longest.
    """

    PERIOD = 1.0
    WINDOW = 4
    """Periods for which a shortest latency counts."""
    TOLERANCE = 2.0
    SHARPEST = 0.5
    """Least ratio by which a period shrinks the limit."""
    GROWTH = 2.0

    def __init__(self, monotonic: Callable[[], float], rule: LimitRule = LimitRule()) -> None:
        """*monotonic* returns monotonic seconds."""
        self._monotonic = monotonic
        self._rule = rule
        self._limit = float(rule.initial)
        self._samples: list[float] = []
        self._shortest = math.inf
        self._before: collections.deque[float] = collections.deque(maxlen=self.WINDOW - 1)
        self._since = monotonic()
        self._running: collections.Counter[str] = collections.Counter()
        self._waiting: dict[str, list[tuple[float, int, asyncio.Future[None]]]] = {}
        """For each caller a heap of those that wait."""
        self._count = itertools.count()

    @property
    def limit(self) -> int:
        """The current limit."""
        return int(self._limit)

    @property
    def running(self) -> int:
        """Number of slots that are taken."""
        return self._running.total()

    def waiting(self, caller: str = "") -> int:
        """Return how many acquirers of *caller* wait."""
        return len(self._waiting.get(caller, ()))

    def waiting_callers(self, caller: str = "") -> int:
        """Return how many callers have acquirers that wait, *caller* included."""
        return len({*self._waiting, caller})

    def observe(self, seconds: float, *, answered: bool = True) -> None:
        """Record the latency of one operation, in seconds; without an answer it does not tell how far the server is."""
        self._samples.append(seconds)
        self.observe_least(seconds if answered else math.inf)

    @property
    def shortest(self) -> float:
        """The shortest latency of the last seconds; infinite when there was none."""
        return min([self._shortest, *self._before])

    def observe_least(self, seconds: float) -> None:
        """Record the latency of an operation that does no work, which tells only how far away the server is."""
        self._shortest = min(self._shortest, seconds)
        now = self._monotonic()
        if now - self._since < self.PERIOD:
            return
        shortest = self.shortest
        self._before.append(self._shortest)
        usual = statistics.median(self._samples) if self._samples else 0.0
        self._samples, self._shortest, self._since = [], math.inf, now
        self._adapt(shortest, usual)

    def _adapt(self, shortest: float, usual: float) -> None:
        tolerated = max(self._rule.healthy, self.TOLERANCE * shortest)
        if usual > tolerated:
            self._limit *= max(self.SHARPEST, tolerated / usual)
        else:
            self._limit = self._limit * self.GROWTH + 1.0
        self._limit = max(self._rule.least, min(self._limit, self._rule.ceiling(shortest)))
        self._admit()

    def try_acquire(self, caller: str = "") -> bool:
        """Take a slot if one is free; returns whether one was."""
        if self.running >= self.limit or self._waiting:
            return False
        self._running[caller] += 1
        return True

    async def acquire(self, max_wait: float, caller: str = "", *, rank: float = 0.0) -> bool:
        """
        Take a slot, waiting in the caller's queue; returns False after *max_wait* seconds without one.

        The queue is in the order of *rank*, and of the calls where it is equal.
        """
        if self.try_acquire(caller):
            return True
        slot: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = rank, next(self._count), slot
        heapq.heappush(self._waiting.setdefault(caller, []), entry)
        try:
            async with asyncio.timeout(max_wait):
                await slot
        except TimeoutError:
            return self._give_up(entry, caller)
        except asyncio.CancelledError:
            if self._give_up(entry, caller):
                self.release(caller)
            raise
        return True

    def _give_up(self, entry: tuple[float, int, "asyncio.Future[None]"], caller: str) -> bool:
        """Leave the queue; returns whether the slot was assigned just before."""
        slot = entry[2]
        if slot.done() and not slot.cancelled():
            return True
        queue = self._waiting.get(caller, [])
        if entry in queue:
            queue.remove(entry)
            heapq.heapify(queue)
            self._forget_if_idle(caller)
        return False

    def release(self, caller: str = "") -> None:
        """Release a slot of *caller*."""
        self._running[caller] -= 1
        self._admit(released_by=caller)
        self._forget_if_idle(caller)

    def _admit(self, released_by: str | None = None) -> None:
        while self._waiting and self.running < self.limit:
            # The dict has the callers in the order in which they began to wait, or were last served. A slot that was
            # just released still counts, or with a single slot the caller that had it would be as good as the others.
            caller = min(self._waiting, key=lambda name: self._running[name] + (name == released_by))
            queue = self._waiting.pop(caller)
            slot = heapq.heappop(queue)[2]
            if queue:
                self._waiting[caller] = queue
            if not slot.done():
                self._running[caller] += 1
                slot.set_result(None)

    def _forget_if_idle(self, caller: str) -> None:
        if not self._waiting.get(caller, True):
            del self._waiting[caller]
        if not self._running[caller]:
            del self._running[caller]
