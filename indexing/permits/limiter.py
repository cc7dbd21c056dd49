"""
The policy: take a permit, wait for it or give up; settle it with the answer; learn from what Discord says.

Commands to Redis for one call: one to take, two when it had to wait; answers are settled together with the next take,
or together with each other a little later, so that settling costs less than one.
"""

import asyncio
import dataclasses
import itertools
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from indexing import errors, logs, metrics, settings
from indexing.permits import answers, budgets, redis_budgets, round_trips

FENCE = 2.0
"""Seconds after which a permit that was not used may not be used any more: its process was stopped."""
SETTLE_WITHIN = 0.05
"""Seconds that an answer may wait for company; how long it waited is told, so that no permit comes back later."""
MOST_PENDING = 1_000
"""Answers kept while Redis is away; the permits of those dropped are held for their full time."""
PROBE_MS = 100
"""Pause before asking again while the first call of a route is under way."""
GRACE_MS = 250
"""Time past its moment after which a waiter that did not come back loses its place."""
GLOBAL = budgets.SHARED_KEYS[-1]


@dataclasses.dataclass(frozen=True, slots=True)
class Permit:
    """The right to make one call; settle it, or give it back if nothing was sent."""

    permit_id: str
    charge: budgets.Charge
    bucket: str
    taken_at: float

    def expired(self, now: float) -> bool:
        """Return whether it is too late to send, *now* being monotonic seconds."""
        return now - self.taken_at > FENCE


Answer = answers.Answer
BudgetState = answers.BudgetState


@dataclasses.dataclass(frozen=True, slots=True)
class Clock:
    """Monotonic seconds, and how to let them pass."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


CLOCK = Clock()


class Limiter:
    """The budgets as one process uses them. Make one for each process."""

    def __init__(
        self,
        store: redis_budgets.Store,
        config: settings.LimiterSettings,
        seen: metrics.LimiterMetrics,
        *,
        call_timeout: float = 10.0,
        clock: Clock = CLOCK,
    ) -> None:
        """*call_timeout* is the longest time of one call, in seconds; a permit that is never settled is held for it."""
        self._store = store
        self._config = config
        self._seen = seen
        self._clock = clock.now
        self._sleep = clock.sleep
        self._keep = call_timeout + FENCE
        self._trips = round_trips.RoundTrips(config.limiter_server_time)
        self._buckets: dict[str, str] = {}
        self._pending: list[tuple[float, answers.Settlement]] = []
        self._flush: asyncio.Task[None] | None = None
        self._prefix = os.urandom(5).hex()
        self._ids = itertools.count()
        self._log = logs.get(__name__)

    async def warm(self) -> None:
        """Touch the budgets, so that a hold after lost state begins now and not with the first call."""
        try:
            await self._ask(None, [])
        except errors.LimiterUnavailable as problem:
            self._log.warning("limiter_unavailable", error=str(problem))

    async def take(self, charge: budgets.Charge, *, patience: float) -> Permit:
        """
        Take one permit from all of the charge's budgets, waiting up to *patience* seconds.

        Raises:
            errors.RateLimited: It would take longer; nothing is held. Coming back at the named moment with the same
                waiter keeps the place in the line.
            errors.LimiterUnavailable: Redis is away or slow; nothing may be sent.
        """
        began = self._clock()
        permit_id = f"{self._prefix}{next(self._ids):x}"
        while True:
            bucket = self._buckets.get(charge.learned_as, budgets.UNKNOWN)
            reply = await self._take_once(charge, bucket, permit_id)
            if "route" in reply:
                self._buckets[charge.learned_as] = reply["route"]
            elif "go" in reply:
                return self._granted(charge, bucket, permit_id, reply["go"], began)
            else:
                await self._wait(reply, began + patience)

    async def settle(self, permit: Permit, answer: Answer) -> None:
        """Say what came of the call; never raises. Without it the permit is held for its full time."""
        now = self._clock()
        stamp = answers.server_time(answer)
        excess = self._trips.add(now, answer.round_trip, stamp) if answer.status is not None else None
        credit = {
            "global": self._trips.credit(self._config.limiter_global_credit, excess),
            "user": self._trips.credit(self._config.limiter_user_credit, excess),
            "route": 0.0,
        }
        charged = budgets.of_charge(permit.charge, permit.bucket, self._config)
        settled = answers.settlement(permit.permit_id, permit.charge, charged, answer, credit)
        scope = answers.scope_of(answer)
        if scope:
            self._seen.rate_limited.labels(scope).inc()
            self._log.warning("rate_limited", scope=scope, route=permit.charge.route, status=answer.status)
        if settled.bucket:
            self._buckets[permit.charge.learned_as] = settled.bucket
        self._put(now, settled)

    async def give_back(self, permit: Permit) -> None:
        """Return a permit that was certainly not used; never raises."""
        charged = budgets.of_charge(permit.charge, permit.bucket, self._config)
        settled = answers.returned(permit.permit_id, charged)
        self._put(self._clock(), settled)

    async def snapshot(self, users: Sequence[int] = ()) -> list[BudgetState]:
        """Return how the budgets stand: the global one, the ban line, *users*, learned routes. Changes nothing."""
        state = await self._store.look([budgets.user_key(user) for user in users])
        return answers.states(state, list(users), self._config)

    async def forget_user(self, user: int) -> None:
        """Delete a user's budget. Raises errors.LimiterUnavailable."""
        await self._store.forget([budgets.user_key(user)])

    async def close(self) -> None:
        """Settle what is pending."""
        if self._flush is not None:
            self._flush.cancel()
        await self._settle_pending()

    async def _take_once(self, charge: budgets.Charge, bucket: str, permit_id: str) -> dict[str, Any]:
        charged = budgets.of_charge(charge, bucket, self._config)
        lane = budgets.LANES[charge.lane]
        take = {
            "id": permit_id,
            "waiter": charge.waiter or permit_id,
            "lane": lane,
            "user": str(charge.user or "-"),
            "budgets": [_sized(budget, charge, bucket) for budget in charged],
            "keep": int(self._keep * 1000),
            "grace": GRACE_MS,
            "probe": PROBE_MS,
            "burst": 2,
            "reserve": self._config.limiter_reserve,
            "guarantee": self._guarantees(),
            "stop_bulk": int(budgets.INVALID_LINE * self._config.limiter_stop_bulk),
            "stop_all": int(budgets.INVALID_LINE * self._config.limiter_stop_all),
        }
        return await self._ask(take, [budget.key for budget in charged])

    def _guarantees(self) -> list[int]:
        """Longest time in ms between two grants of a lane that waits, by lane; 0 for the first, which goes first."""
        spacing = self._config.global_budget.window * 1000 / self._config.global_budget.capacity
        return [
            0,
            int(spacing / self._config.limiter_background_share),
            int(spacing / self._config.limiter_refresh_share),
        ]

    def _granted(self, charge: budgets.Charge, bucket: str, permit_id: str, left: list[float], began: float) -> Permit:
        now = self._clock()
        self._seen.permits.labels(charge.lane.value).inc()
        self._seen.wait.labels(charge.lane.value).observe(now - began)
        for budget, share in zip(budgets.of_charge(charge, bucket, self._config), left, strict=True):
            self._seen.share_left.labels(budget.kind).observe(share)
        return Permit(permit_id, charge, bucket, now)

    async def _wait(self, reply: Mapping[str, Any], deadline: float) -> None:
        seconds = reply["wait"] / 1000
        if self._clock() + seconds > deadline:
            self._seen.refusals.labels(reply["kind"], reply["why"]).inc()
            raise errors.RateLimited(reply["kind"], retry_after=seconds, why=reply["why"])
        await self._sleep(seconds)

    async def _ask(self, take: dict[str, Any] | None, keys: list[str]) -> dict[str, Any]:
        """Send what is pending, and a take if there is one; what could not be sent is kept for later."""
        pending, self._pending = self._pending, []
        all_keys, places = _merge(keys, pending)
        now = self._clock()
        question: dict[str, Any] = {
            "hold": int(self._hold() * 1000),
            "settles": [_placed(settled, places, now - at) for at, settled in pending],
        }
        if take is not None:
            for budget in take["budgets"]:
                budget["k"] = places[budget.pop("key")]
            question["take"] = take
        began = time.perf_counter()
        try:
            reply = await self._store.ask(all_keys, question)
        except BaseException:
            self._pending = (pending + self._pending)[-MOST_PENDING:]
            raise
        self._seen.script_seconds.observe(time.perf_counter() - began)
        if reply.get("foreign"):
            self._seen.foreign.inc(reply["foreign"])
        return reply

    def _hold(self) -> float:
        windows = max(self._config.global_budget.window, self._config.user_budget.window)
        return windows + FENCE if self._config.limiter_hold is None else self._config.limiter_hold

    def _put(self, at: float, settled: answers.Settlement) -> None:
        self._pending.append((at, settled))
        if self._flush is None or self._flush.done():
            self._flush = asyncio.get_running_loop().create_task(self._soon())

    async def _soon(self) -> None:
        while self._pending:
            await asyncio.sleep(SETTLE_WITHIN)
            await self._settle_pending()

    async def _settle_pending(self) -> None:
        if self._pending:
            try:
                await self._ask(None, [])
            except errors.LimiterUnavailable as problem:
                self._log.warning("limiter_unavailable", error=str(problem), pending=len(self._pending))
                await asyncio.sleep(problem.retry_after)


def _sized(budget: budgets.Budget, charge: budgets.Charge, bucket: str) -> dict[str, Any]:
    if budget.rate is None:
        return {"key": budget.key, "kind": budget.kind, "route": charge.learned_as, "bucket": bucket}
    return {"key": budget.key, "kind": budget.kind, "l": budget.rate.capacity, "w": int(budget.rate.window * 1000)}


def _merge(keys: list[str], pending: list[tuple[float, answers.Settlement]]) -> tuple[list[str], dict[str, int]]:
    """Return the keys of all budgets, each once, and the place of each among the script's KEYS, from 1."""
    settled = (key for _, one in pending for key in (*one.keys, *one.others))
    names = list(dict.fromkeys([GLOBAL, *keys, *settled]))
    return names[1:], {key: len(budgets.SHARED_KEYS) + place for place, key in enumerate(names)}


def _placed(settled: answers.Settlement, places: dict[str, int], age: float) -> dict[str, Any]:
    """Return a settlement with its keys as places, and its age in ms."""
    placed = {**settled.message, "age": int(age * 1000)}
    charged = zip(settled.message["budgets"], settled.keys, strict=True)
    placed["budgets"] = [{**budget, "k": places[key]} for budget, key in charged]
    for part in ("pause", "others", "carry"):
        if part in placed:
            placed[part] = {**placed[part], "place": places[placed[part]["key"]]}
    return placed
