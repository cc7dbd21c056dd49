"""A fleet on a clock that jumps: real use cases and the real limiter over budgets and stores in memory."""

import asyncio
import collections
import dataclasses
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager

from prometheus_client import registry

from indexing import errors, settings
from indexing.domain import model, ports, turns
from indexing.ratelimit import limiter, limits
from indexing.telemetry import metrics
from indexing.usecases import guild_lists, run_turn, start_job, turn_capacity
from tests import fake_backend
from tests.ratelimit_model import store

USER_BUDGET = settings.Rate(capacity=5, window=5.0)
MOST_READY = 8
"""Turns that precede those in line: what two processes hold beside the turns that they run, and what is ready."""
ROUTES = {
    "list": "GET /users/@me/guilds",
    "installs": "GET /users/@me/guilds",
    "roles": "GET /users/@me/guilds/{guild.id}/member",
    "channels": "GET /guilds/{guild.id}/channels",
}


class LimitedDiscord(fake_backend.FakeDiscord):
    """
    A Discord that takes a permit for each call, as the real client does.

    Attributes:
        limits: The limiter.
        answered: When each request was answered, in order.
        free: Requests that need no permit.
    """

    def __init__(self, clock: ports.Clock, limits: limiter.Limiter) -> None:
        super().__init__(clock)
        self.limits = limits
        self.answered: list[tuple[Hashable, float]] = []
        self.free: set[Hashable] = set()

    async def _answer(
        self, what: Hashable, purpose: ports.Purpose, precondition: ports.Precondition | None = None
    ) -> bool:
        if what in self.free:
            return await super()._answer(what, purpose, precondition)
        try:
            permit = await self.limits.take(_charge(what, purpose), max_wait=purpose.max_wait)
        except errors.PositionTaken:
            return False
        if precondition is not None and not await precondition():
            await self.limits.give_back(permit)
            return False
        begun = asyncio.get_running_loop().time()
        await super()._answer(what, purpose)
        took = asyncio.get_running_loop().time() - begun
        await self.limits.settle(permit, limiter.Answer(status=200, headers={}, round_trip=took))
        self.answered.append((what, self._clock()))
        return True


def _charge(what: Hashable, purpose: ports.Purpose) -> limits.Charge:
    kind = what if isinstance(what, str) else "roles" if isinstance(what, tuple) else "channels"
    identity = f"user:{purpose.user_id}" if kind in {"list", "roles"} else "bot"
    guild = what if isinstance(what, int) else None
    return limits.Charge(
        purpose.lane,
        ROUTES[kind],
        identity,
        purpose.user_id,
        guild,
        purpose.waiter,
        shared=purpose.shared,
        callers=purpose.callers,
    )


class TimedQueue:
    """
    Port `ports.TurnQueue`: a scheduled turn is in its caller's line when it is due, in the order of the real queue.

    Attributes:
        waits: Seconds for which each turn that was taken had been due, by caller.
    """

    def __init__(self, clock: ports.Clock) -> None:
        self.waits: dict[str, list[float]] = collections.defaultdict(list)
        self._ready: asyncio.Queue[tuple[turns.Turn, str, float]] = asyncio.Queue()
        self._lines: dict[str, list[tuple[turns.Turn, float]]] = collections.defaultdict(list)
        self._tags: dict[str, int] = {}
        self._clock = clock
        self._timers: dict[str, asyncio.TimerHandle] = {}

    async def enqueue(self, turn: turns.Turn) -> None:
        """Put a turn into line now."""
        self._drop(turn)
        self._stand(turn)

    async def take(self) -> turns.Turn:
        """Return the next turn, as soon as there is one."""
        turn, caller, due = await self._ready.get()
        self.waits[caller].append(self._clock() - due)
        self._release()
        return turn

    def _stand(self, turn: turns.Turn) -> None:
        least = min((self._tags[name] for name, line in self._lines.items() if line), default=0)
        known = {name: max(least, self._tags.get(name, least)) for name in turn.callers or ("",)}
        caller = min(known, key=lambda name: (known[name], len(self._lines[name])))
        self._tags[caller] = known[caller]
        self._lines[caller].append((turn, self._clock()))
        self._release()

    def _release(self) -> None:
        while self._ready.qsize() < MOST_READY and (standing := [name for name, line in self._lines.items() if line]):
            caller = min(standing, key=lambda name: self._tags[name])
            self._tags[caller] += 1
            turn, due = self._lines[caller].pop(0)
            self._ready.put_nowait((turn, caller, due))

    async def schedule(self, turn: turns.Turn, due: float) -> None:
        """Make a turn runnable at *due*."""
        self._drop(turn)
        loop = asyncio.get_running_loop()
        self._timers[turn.job_id] = loop.call_later(max(0.0, due - self._clock()), self._make_runnable, turn)

    def _drop(self, turn: turns.Turn) -> None:
        timer = self._timers.pop(turn.job_id, None)
        if timer is not None:
            timer.cancel()

    def _make_runnable(self, turn: turns.Turn) -> None:
        self._timers.pop(turn.job_id, None)
        self._stand(turn)


@dataclasses.dataclass(frozen=True)
class Fleet:
    """One service and some workers over the same fakes."""

    backend: fake_backend.FakeBackend
    discord: LimitedDiscord
    queue: TimedQueue
    deps: ports.Dependencies
    starts: start_job.StartJob

    async def work(self, turner: run_turn.TurnRunner) -> None:
        """Run turns as one worker thread does; never returns."""
        while True:
            await turner.run_background_turn(await self.queue.take())

    async def start(
        self, user_id: int, *, wait: float = 2.0, immediate: int = 5, caller: str = ""
    ) -> start_job.StartResult:
        """Start a user's job as StartIndexing does."""
        return await self.starts.start(user_id, wait=wait, immediate=immediate, force=False, caller=caller)


@asynccontextmanager
async def running(
    *,
    threads: int = 64,
    latency: float = 0.1,
    user_budget: settings.Rate = USER_BUDGET,
    wrap: Callable[[ports.Dependencies], ports.Dependencies] = lambda deps: deps,
    **changes: float,
) -> AsyncIterator[Fleet]:
    """
    Run a fleet with *threads* turns at once; every response of Discord takes *latency* seconds.

    *wrap* puts something between the use cases and the fakes.
    """
    backend = fake_backend.make(None, **changes)
    loop = asyncio.get_running_loop()
    limits = limiter.Limiter(
        store.MemoryBudgetStore(loop.time),
        settings.LimiterSettings(limiter_hold=0.0, user_budget=user_budget),
        metrics.LimiterMetrics(registry.CollectorRegistry()),
        clock=limiter.Clock(now=loop.time),
    )
    discord, queue = LimitedDiscord(backend.clock, limits), TimedQueue(backend.clock)
    discord.latency = latency
    deps = wrap(dataclasses.replace(backend.deps, discord=discord, queue=queue))
    lists = guild_lists.GuildLists(deps, backend.config)
    capacity = turn_capacity.Capacity(user_budget.capacity, threads)
    turner = run_turn.TurnRunner(deps, backend.config, backend.metrics, lists, capacity=capacity)
    fleet = Fleet(
        dataclasses.replace(backend, discord=discord),
        discord,
        queue,
        deps,
        start_job.StartJob(deps, backend.config, turner),
    )
    workers = [asyncio.create_task(fleet.work(turner)) for _ in range(threads)]
    try:
        yield fleet
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        await fleet.starts.drain(5.0)
        await limits.close()


async def ended(fleet: Fleet, job_id: str) -> model.Job:
    """Wait for a job's end as a watcher does."""
    subscription = await fleet.deps.events.subscribe(job_id, "0-0")
    try:
        while True:
            job = await fleet.deps.jobs.get(job_id)
            assert job is not None
            if job.state.terminal:
                return job
            await subscription.next(60.0)
    finally:
        await subscription.close()
