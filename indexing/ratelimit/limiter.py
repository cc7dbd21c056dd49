"""
The limiter: takes permits for calls to Discord, waits for them, settles them, and learns limits from answers.

A call needs one permit of each of its budgets; the store grants all of them or none. A permit is free again one window
after its answer was read, minus a credit (limits.py; docs/decisions/0005-permit-ledger.md gives the reasons). A caller
whose wait exceeds its `max_wait` gets errors.RateLimited with the time to retry; any other sleeps until the moment that
the store names and then holds the first queue position. Without the store no permit is granted.

A call costs one command to Redis, two if it waits. Settlements travel with the process's next request, so a settlement
costs less than one command.
"""

import asyncio
import dataclasses
import itertools
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence

from indexing import errors, settings
from indexing.domain import model
from indexing.ratelimit import batcher, limits, protocol, responses, route_limits
from indexing.ratelimit.limits import Answer as Answer
from indexing.ratelimit.limits import BudgetState as BudgetState
from indexing.ratelimit.limits import Permit as Permit
from indexing.telemetry import logs, metrics

STORE_TIMEOUT = 1.0
"""Seconds after which the store counts as unavailable, and no call is made. Within `limits.SEND_DEADLINE` a permit that
took so long can still be used."""
SMOOTHING = 0.2
"""Weight of the newest exchange in the usual time of one."""
BATCH_DELAY = 0.15
"""Longest delay, in seconds, of items that are not urgent: no permit is due again so soon. At 0.1 a fleet with few
calls, or with many refreshes, spends more than two commands on a call (`make bench-limiter`)."""
WAKE_EARLY = 0.008
"""Seconds by which a waiter requests before its moment, so that timers and Redis do not make it late."""
RETRY_EARLY = 0.5
"""Seconds by which a refused caller is asked to return before its moment in the global queue: a late one would lose its
position. Never more than half of its `max_wait`."""
SCOPE_LABELS = {"global": "global", "route": "user", "shared": "shared", "edge": "egress"}
"""Metric label of each scope: Discord's words for what a 429 stops, and egress for the edge in front of Discord."""
PROBE = "probe"
"""Reason of a wait for the answer to a route's first call, which goes alone."""
MOST_WOKEN = 8
"""Waiters up to which that answer ends their waits. More would use up the global budget before the first call of the
route that they need next, and then wait for its answer with permits unused."""
STOPPED_CALLER = "caller"
"""Reason of a wait because tokens of the caller were refused."""
MAX_REMEMBERED = 10_000
"""Routes, and waits, that one process remembers; beyond that it drops all and asks the store again."""


@dataclasses.dataclass(frozen=True, slots=True)
class Clock:
    """Monotonic seconds, how to sleep, and the longest delay of items that are not urgent."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    batch_delay: float = BATCH_DELAY


CLOCK = Clock()


class Limiter:
    """Grants permits to the coroutines of one event loop."""

    def __init__(
        self,
        store: protocol.BudgetStore,
        config: settings.LimiterSettings,
        limiter_metrics: metrics.LimiterMetrics,
        *,
        call_timeout: float = 10.0,
        clock: Clock = CLOCK,
    ) -> None:
        """*call_timeout* is the longest time of one call, in seconds; a permit that is never settled is held for it."""
        self._store = store
        self._parameters = limits.LimiterParameters.from_settings(config, call_timeout)
        self._metrics = limiter_metrics
        self._clock = clock.now
        self._sleep = clock.sleep
        self._batch_delay = clock.batch_delay
        self._batcher = batcher.Batcher(self._exchange, self._on_settled, self._unused, clock.batch_delay)
        self._log = logs.get(__name__)
        self._prefix = uuid.uuid4().hex[:8]
        self._ids = itertools.count()
        self._limits: dict[str, route_limits.RouteLimit] = {}
        self._probe_waiters: dict[str, set[asyncio.Future[None]]] = {}
        self._blocked_until: dict[str, float] = {}
        self._stopped_until: dict[str, float] = {}
        self._exchange_time = 0.0

    async def warm_up(self) -> None:
        """Begin the hold that lost state requires; does nothing while the store is unavailable."""
        try:
            await self._exchange([], [])
        except errors.LimiterUnavailable as problem:
            self._log.warning("limiter_unavailable", error=str(problem))

    async def close(self) -> None:
        """Send the settlements that are still queued."""
        await self._batcher.flush()

    async def take(self, charge: limits.Charge, *, max_wait: float) -> Permit:
        """
        Take one permit of each budget of *charge*.

        Args:
            charge: The budgets that the call is charged to.

            max_wait: Longest time to sleep for the permit, in seconds; 0 means do not wait.

        Raises:
            errors.RateLimited: No permit within *max_wait*; nothing is held. It names the budget and the wait.
            errors.PositionTaken: Another call used the position that *charge* shares; its result may be there.
            errors.LimiterUnavailable: The budgets cannot be reached; nothing may be sent.
        """
        started = self._clock()
        woken = returns = False
        request_id = f"{self._prefix}{next(self._ids):x}"
        while True:
            asked_at = self._clock()
            left = max(0.0, started + max_wait - asked_at)
            limit = self._limits.get(charge.route_key, route_limits.UNKNOWN)
            early = max(protocol.EARLY_GRANT, self._exchange_time)
            request = protocol.PermitRequest(request_id, charge, left, limit, asked_at, returns, early)
            # No caller waits for a refresh: it can join the next exchange, or make one a little later.
            urgent = charge.lane is not model.Lane.REFRESH if woken else not self._is_blocked(charge, asked_at)
            decision = await self._batcher.request_permit(request, urgent=urgent)
            if isinstance(decision, Permit):
                await self._sleep_until_free(decision)
                self._record_permit(decision, self._clock() - started)
                return decision
            if isinstance(decision, protocol.LimitChanged):
                self._remember_limit(charge, decision.limit)
                continue
            if decision.budget == protocol.TAKEN:
                raise errors.PositionTaken
            self._remember_wait(charge, decision)
            returns = charge.shared and decision.budget == "global"
            if decision.seconds > left:
                raise self._refusal(charge, decision, max_wait)
            await self._sleep_before_retry(charge, decision)
            self._metrics.waited.labels(charge.lane.value, decision.budget).inc(decision.seconds)
            woken = True

    async def settle(self, permit: Permit, answer: Answer) -> None:
        """
        Book the answer to the call that *permit* was used for; never raises.

        The settlement is sent with later items, unless other processes need it at once. If it cannot be sent, the
        permit stays held for its full time.
        """
        if answer.status is None:
            return
        outcome = responses.interpret_answer(answer, permit.charge)
        if outcome.scope is not None:
            label = SCOPE_LABELS[outcome.scope]
            self._metrics.rate_limited.labels(label).inc()
            self._metrics.pause.labels(label).observe(outcome.pause)
            self._log.warning(
                "discord_rate_limited", scope=outcome.scope, pause=outcome.pause, route=permit.charge.route
            )
        self._batcher.add_settlement(
            protocol.Settlement(permit, outcome, self._clock()),
            urgent=outcome.scope is not None or not permit.limit.known,
        )
        if outcome.scope is not None:
            await self._batcher.flush()

    async def give_back(self, permit: Permit) -> None:
        """Return a permit whose call was definitely never sent; never raises."""
        self._blocked_until.clear()
        self._batcher.add_settlement(self._unused(permit), urgent=True)
        await self._batcher.flush()

    def check_caller(self, caller: str) -> None:
        """
        Refuse work for a caller that is stopped, as far as this process has learned from its own calls.

        Raises:
            errors.CallerStopped: Too many tokens that the caller brought were refused.
        """
        seconds = self._stopped_until.get(caller, 0.0) - self._clock()
        if seconds > 0:
            raise errors.CallerStopped(caller, seconds)
        self._stopped_until.pop(caller, None)

    async def snapshot(self, user_ids: Sequence[int] = ()) -> list[limits.BudgetState]:
        """
        Return the budgets as they are now; creates and changes nothing.

        Raises:
            errors.LimiterUnavailable: The budgets cannot be reached.
        """
        return await self._store.snapshot(self._parameters, user_ids)

    async def forget_user(self, user_id: int) -> None:
        """
        Remove what carries the user's id; the ledgers of their budgets expire with their last permit.

        Raises:
            errors.LimiterUnavailable: The budgets cannot be reached.
        """
        self._blocked_until.clear()
        await self._store.forget_user(user_id)

    async def _exchange(
        self, settlements: Sequence[protocol.Settlement], requests: Sequence[protocol.PermitRequest]
    ) -> tuple[list[protocol.SettlementResult], list[protocol.Decision]]:
        try:
            async with asyncio.timeout(STORE_TIMEOUT):
                with self._metrics.script_seconds.time():
                    began = self._clock()
                    replies = await self._store.exchange(self._parameters, settlements, requests)
                    self._exchange_time += SMOOTHING * (self._clock() - began - self._exchange_time)
                    return replies
        except (errors.LimiterUnavailable, TimeoutError) as error:
            self._metrics.unavailable.inc()
            if isinstance(error, errors.LimiterUnavailable):
                raise
            raise errors.LimiterUnavailable(1.0) from error

    async def _sleep_until_free(self, permit: Permit) -> None:
        if permit.delay <= 0:
            return
        try:
            await self._sleep(permit.delay)
        except asyncio.CancelledError:
            self._batcher.add_settlement(self._unused(permit), urgent=True)
            raise

    async def _sleep_before_retry(self, charge: limits.Charge, wait: protocol.Wait) -> None:
        """Sleep until shortly before the wait is over; few that wait for a route's first answer wake with it."""
        pause = self._sleep(max(wait.seconds - max(WAKE_EARLY, self._exchange_time), 0.001))
        if wait.reason != PROBE:
            await pause
            return
        sleeping = asyncio.ensure_future(pause)
        waiters = self._probe_waiters.setdefault(charge.route_key, set())
        waiters.add(sleeping)
        try:
            await asyncio.wait({sleeping})
        finally:
            sleeping.cancel()
            waiters.discard(sleeping)
            if not waiters and self._probe_waiters.get(charge.route_key) is waiters:
                del self._probe_waiters[charge.route_key]

    def _unused(self, permit: Permit) -> protocol.Settlement:
        return protocol.Settlement(permit, None, self._clock())

    def _on_settled(self, settlement: protocol.Settlement, result: protocol.SettlementResult) -> None:
        self._remember_limit(settlement.permit.charge, result.limit)
        if result.stops_caller_for:
            name, seconds = settlement.permit.charge.brought_by, result.stops_caller_for
            self._stopped_until[name] = self._clock() + seconds
            self._log.warning(
                "caller_stopped", caller=name, refused_tokens=self._parameters.stop_caller, seconds=round(seconds)
            )
        if result.foreign_calls:
            self._metrics.foreign.inc(result.foreign_calls)
            self._log.warning("token_used_elsewhere", route=settlement.permit.charge.route, calls=result.foreign_calls)

    def _remember_limit(self, charge: limits.Charge, limit: route_limits.RouteLimit) -> None:
        if len(self._limits) > MAX_REMEMBERED:
            self._limits.clear()
        self._limits[charge.route_key] = limit
        if limit.known and len(waiters := self._probe_waiters.pop(charge.route_key, set())) <= MOST_WOKEN:
            for sleeping in waiters:
                sleeping.cancel()

    def _remember_wait(self, charge: limits.Charge, wait: protocol.Wait) -> None:
        """Remember until when such requests must wait: until then they are not urgent."""
        if len(self._blocked_until) > MAX_REMEMBERED:
            self._blocked_until.clear()
        if wait.budget == "user":
            self._blocked_until[f"user {charge.user_id}"] = self._clock() + wait.seconds
        elif (
            wait.budget == "global"
            and self._parameters.charges_global(charge)
            and charge.lane is not model.Lane.INTERACTIVE
        ):
            self._blocked_until[_line_of(charge)] = self._clock() + wait.seconds

    def _is_blocked(self, charge: limits.Charge, now: float) -> bool:
        names = [f"user {charge.charged_user}"]
        if self._parameters.charges_global(charge):
            names.append(_line_of(charge))
        until = max(self._blocked_until.get(name, 0.0) for name in names)
        return until - now > 2 * self._batch_delay

    def _refusal(self, charge: limits.Charge, wait: protocol.Wait, max_wait: float) -> errors.RateLimited:
        self._metrics.refusals.labels(wait.budget, wait.reason).inc()
        if wait.reason == STOPPED_CALLER:
            self._stopped_until[charge.brought_by] = self._clock() + wait.seconds
            return errors.CallerStopped(charge.brought_by, wait.seconds)
        seconds = wait.seconds
        if wait.budget == "global":
            seconds -= min(RETRY_EARLY, max_wait / 2)
        return errors.RateLimited(wait.budget, retry_after=max(seconds, 0.001), why=wait.reason)

    def _record_permit(self, permit: Permit, waited: float) -> None:
        lane = permit.charge.lane.value
        self._metrics.permits.labels(lane).inc()
        self._metrics.wait.labels(lane).observe(waited)
        for kind, share in permit.shares_left.items():
            self._metrics.share_left.labels(kind).observe(share)


def _line_of(charge: limits.Charge) -> str:
    """Name the queue that a call stands in: others' waits say nothing about it."""
    return " ".join([charge.lane.value, *charge.callers])
