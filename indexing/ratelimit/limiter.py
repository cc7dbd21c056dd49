"""
The policy: take a permit or wait or give up; settle; learn.

One call to Discord needs a permit of each of its budgets, all at once or none. The permits are free again one window
after the answer was read, less what surely passed on the way (docs/decisions/0005-permit-ledger.md says why no other
rule is safe). Who must wait longer than his patience is told when asking again makes sense; who waits sleeps for as
long as the store says, and is then first in line. Without the store there are no permits.

Commands to Redis for one call: one to take, two when it had to wait. Settlements travel with the next take of this
process, so that settling costs less than one.
"""

import asyncio
import dataclasses
import itertools
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence

from indexing import errors, settings
from indexing.domain import model
from indexing.ratelimit import anchor, batcher, limits, protocol, responses, route_limits
from indexing.ratelimit.limits import Answer as Answer
from indexing.ratelimit.limits import BudgetState as BudgetState
from indexing.ratelimit.limits import Permit as Permit
from indexing.telemetry import logs, metrics

ANSWER_WITHIN = 0.25
"""Seconds after which the store counts as away, and no call is made."""
GATHER = 0.15
"""Longest time, in seconds, that what is not urgent waits for company: no permit is due again so soon. At 0.1 a fleet
with few calls, or with many refreshes, spends more than two commands on a call (`make bench-limiter`)."""
EARLY = 0.008
"""Seconds by which a waiter asks before its moment, so that timers and Redis cannot make it late."""
SOONER = 0.5
"""Seconds by which a caller sent away is told to come before its moment in the global line, to be there when it
comes: coming late would lose the place. Never more than half of what it is ready to wait."""
SCOPES = {"global": "global", "route": "user", "shared": "shared", "edge": "egress"}
"""Discord's words for what a 429 stops, and ours for the edge in front of it."""
USER_WAIT = 1.0
"""Longest wait, in seconds, for a user's own budget: whoever waits longer for that alone comes back later."""
REMEMBERED = 10_000
"""Routes and users remembered here at most; beyond that all are forgotten and asked for again."""


@dataclasses.dataclass(frozen=True, slots=True)
class Clock:
    """Monotonic seconds, how to let them pass, and how long what is not urgent may wait for company."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    gather: float = GATHER


CLOCK = Clock()


class Limiter:
    """Gives permits to the coroutines of one process, whose event loop it is made for."""

    def __init__(
        self,
        store: protocol.BudgetStore,
        config: settings.LimiterSettings,
        seen: metrics.LimiterMetrics,
        *,
        call_timeout: float = 10.0,
        clock: Clock = CLOCK,
    ) -> None:
        """*call_timeout* is the longest time of one call, in seconds; a permit that is never settled is held for it."""
        self._store = store
        self._config = config
        self._rules = limits.Rules.of(config, call_timeout)
        self._seen = seen
        self._clock = clock.now
        self._sleep = clock.sleep
        self._gather = clock.gather
        self._desk = batcher.Desk(self._send, self._on_settled, self._unsent, clock.gather)
        self._log = logs.get(__name__)
        self._prefix = uuid.uuid4().hex[:8]
        self._ids = itertools.count()
        self._limits: dict[str, route_limits.RouteLimit] = {}
        self._blocked: dict[str, float] = {}
        self._anchors = anchor.Anchor()
        self._unnamed = 0

    async def warm(self) -> None:
        """Touch the budgets, so that a hold after lost state begins now; does nothing while the store is away."""
        try:
            await self._send([], [])
        except errors.LimiterUnavailable as problem:
            self._log.warning("limiter_unavailable", error=str(problem))

    async def close(self) -> None:
        """Send the settlements that still wait for company."""
        await self._desk.empty()

    async def take(self, charge: limits.Charge, *, patience: float) -> Permit:
        """
        Take one permit of each budget of *charge*.

        Args:
            charge: What the call costs, and who pays.

            patience: Longest wait here, in seconds; 0 means do not wait.

        Raises:
            errors.RateLimited: No permit within *patience*; nothing is held. It names the budget and the wait.
            errors.LimiterUnavailable: The budgets cannot be reached; nothing may be sent.
        """
        started = self._clock()
        woken = False
        ask_id = f"{self._prefix}{next(self._ids):x}"
        while True:
            asked = self._clock()
            left = max(0.0, started + patience - asked)
            ask = protocol.Ask(ask_id, charge, left, self._limits.get(charge.field, route_limits.UNKNOWN))
            # Nobody waits for a refresh: at its moment it takes the next exchange, or makes one a little later.
            urgent = charge.lane is not model.Lane.REFRESH if woken else not self._hopeless(charge, asked)
            verdict = await self._desk.ask(ask, urgent=urgent)
            if isinstance(verdict, protocol.Granted):
                permit = Permit(
                    ask_id, charge, asked + verdict.delay, limits.FENCE, verdict.moment, ask.limit, verdict.held
                )
                await self._until_free(permit, verdict.delay)
                self._count(permit, verdict, self._clock() - started)
                return permit
            if isinstance(verdict, protocol.Relearn):
                self._learn(charge, verdict.limit)
                continue
            self._remember(charge, verdict)
            if verdict.seconds > (min(left, USER_WAIT) if verdict.budget == "user" else left):
                raise self._refusal(verdict, patience)
            await self._sleep(max(verdict.seconds - EARLY, 0.001))
            self._seen.waited.labels(charge.lane.value, verdict.budget).inc(verdict.seconds)
            woken = True

    async def settle(self, permit: Permit, answer: Answer) -> None:
        """
        Book what came back for *permit*; never raises.

        It is sent a little later together with others, unless other processes must know at once. When it cannot be
        sent the permit stays held for its full time.
        """
        if answer.status is None:
            return
        now = self._clock()
        excess = None
        seen = route_limits.Headers.read(answer.headers)
        if self._config.limiter_server_time and seen is not None and seen.stamp is not None:
            excess = self._anchors.excess(now, seen.stamp)
        outcome = responses.outcome_of(answer, excess=excess, in_a_row=self._unnamed)
        self._unnamed = self._unnamed + 1 if responses.names_no_wait(answer) else 0
        if outcome.scope is not None:
            self._seen.rate_limited.labels(SCOPES[outcome.scope]).inc()
            self._seen.pause.labels(SCOPES[outcome.scope]).observe(outcome.pause)
            self._log.warning(
                "discord_rate_limited", scope=outcome.scope, pause=outcome.pause, route=permit.charge.route
            )
        self._desk.post(
            protocol.Settlement(permit, outcome, now), urgent=outcome.scope is not None or not permit.limit.known
        )
        if outcome.scope is not None:
            await self._desk.empty()

    async def give_back(self, permit: Permit) -> None:
        """Hand back a permit whose call was definitely never sent; never raises."""
        self._blocked.clear()
        self._desk.post(protocol.Settlement(permit, None, self._clock()), urgent=True)
        await self._desk.empty()

    async def snapshot(self, users: Sequence[int] = ()) -> list[limits.BudgetState]:
        """
        Return the budgets as they are now; creates and changes nothing.

        Raises:
            errors.LimiterUnavailable: The budgets cannot be reached.
        """
        return await self._store.snapshot(self._rules, users)

    async def forget_user(self, user: int) -> None:
        """
        Remove what carries the user's id; the ledgers of his budgets end with their last permit.

        Raises:
            errors.LimiterUnavailable: The budgets cannot be reached.
        """
        self._blocked.clear()
        await self._store.forget_user(user)

    async def _send(
        self, settlements: Sequence[protocol.Settlement], asks: Sequence[protocol.Ask]
    ) -> tuple[list[protocol.Settled], list[protocol.Verdict]]:
        try:
            async with asyncio.timeout(ANSWER_WITHIN):
                with self._seen.script_seconds.time():
                    return await self._store.exchange(self._rules, settlements, asks)
        except (errors.LimiterUnavailable, TimeoutError) as error:
            self._seen.unavailable.inc()
            if isinstance(error, errors.LimiterUnavailable):
                raise
            raise errors.LimiterUnavailable(1.0) from error

    async def _until_free(self, permit: Permit, delay: float) -> None:
        if delay <= 0:
            return
        try:
            await self._sleep(delay)
        except asyncio.CancelledError:
            self._desk.post(protocol.Settlement(permit, None, self._clock()), urgent=True)
            raise

    def _unsent(self, ask: protocol.Ask) -> protocol.Settlement:
        now = self._clock()
        return protocol.Settlement(Permit(ask.id, ask.charge, now, limit=ask.limit), None, now)

    def _on_settled(self, settlement: protocol.Settlement, reply: protocol.Settled) -> None:
        self._learn(settlement.permit.charge, reply.limit)
        if reply.strangers:
            self._seen.foreign.inc(reply.strangers)
            self._log.warning("token_used_elsewhere", route=settlement.permit.charge.route, calls=reply.strangers)

    def _learn(self, charge: limits.Charge, limit: route_limits.RouteLimit) -> None:
        if len(self._limits) > REMEMBERED:
            self._limits.clear()
        self._limits[charge.field] = limit

    def _remember(self, charge: limits.Charge, verdict: protocol.Wait) -> None:
        """Note until when such calls surely wait, so that their asks need not hurry."""
        if len(self._blocked) > REMEMBERED:
            self._blocked.clear()
        if verdict.budget == "user":
            self._blocked[f"user {charge.user}"] = self._clock() + verdict.seconds
        elif verdict.budget == "global" and charge.lane is not model.Lane.INTERACTIVE:
            self._blocked[charge.lane.value] = self._clock() + verdict.seconds

    def _hopeless(self, charge: limits.Charge, now: float) -> bool:
        until = max(self._blocked.get(f"user {charge.user}", 0.0), self._blocked.get(charge.lane.value, 0.0))
        return until - now > 2 * self._gather

    def _refusal(self, verdict: protocol.Wait, patience: float) -> errors.RateLimited:
        self._seen.refusals.labels(verdict.budget, verdict.why).inc()
        wait = verdict.seconds
        if verdict.budget == "global":
            wait -= min(SOONER, patience / 2)
        return errors.RateLimited(verdict.budget, retry_after=max(wait, 0.001), why=verdict.why)

    def _count(self, permit: Permit, verdict: protocol.Granted, waited: float) -> None:
        lane = permit.charge.lane.value
        self._seen.permits.labels(lane).inc()
        self._seen.wait.labels(lane).observe(waited)
        for kind, left in verdict.left.items():
            self._seen.share_left.labels(kind).observe(left)
