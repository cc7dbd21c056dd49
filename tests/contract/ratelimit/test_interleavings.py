"""Whatever is said to the budgets in whatever order: none gives more than it has, and both drivers say the same."""

import dataclasses
import functools
import itertools
from collections.abc import Coroutine
from typing import Any

import redis
from hypothesis import settings as hypothesis_settings
from hypothesis import stateful
from hypothesis import strategies as st

from indexing import settings
from indexing.ratelimit import (
    fleet_clock,
    limits,
    protocol,
    redis_store,
    route_limits,
)
from tests.contract.ratelimit import blocking, fleet
from tests.ratelimit_model import store

ROUTES = (fleet.CHANNELS, fleet.GUILDS)
HOLD = 3.0
RULES = dataclasses.replace(
    limits.Rules.of(
        settings.LimiterSettings.model_validate(
            {
                "global_budget": "6/1",
                "user_budget": "2/3",
                "limiter_hold": HOLD,
                "limiter_stop_bulk": 0.0004,
                "limiter_stop_all": 0.0008,
            }
        ),
        call_timeout=2.0,
    ),
    enough=3,
    agree=3,
)
CHARGES = st.builds(
    limits.Charge,
    st.sampled_from(limits.LANES),
    st.sampled_from(ROUTES),
    st.sampled_from(("bot", "user:1")),
    st.sampled_from((None, 1, 2, 3)),
    st.sampled_from((None, 7, 8)),
    st.sampled_from(("", "", "job a", "job b")),
)
SCOPES = st.sampled_from((None,) * 6 + ("global", "route", "shared", "edge"))
HEADERS = st.none() | st.builds(
    route_limits.Headers, st.sampled_from(("b1", "b2")), st.just(3), st.integers(0, 2), st.sampled_from((0.3, 1.0, 2.0))
)


def reply_of(work: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401 -- whatever it returns
    """Return what a coroutine that never waits returns."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waited")


@dataclasses.dataclass(slots=True)
class Held:
    """A permit as this test knows it: surely not free before `until`, in seconds."""

    permit: limits.Permit
    until: dict[str, float]


class Interleavings(stateful.RuleBasedStateMachine):
    """Tells two stores the same, compares what they say, and keeps its own books."""

    def __init__(self, client: redis.Redis) -> None:
        super().__init__()
        client.flushdb()
        self.client = client
        self.now = 3_500_000_000.0
        dressed = blocking.dressed(blocking.BlockingClient(client))
        self.memory = store.MemoryBudgets(lambda: self.now)
        self.redis = redis_store.RedisBudgets(dressed, "test", clock=lambda: self.now, now=lambda: self.now)
        self.ids = itertools.count()
        self.limits: dict[str, route_limits.RouteLimit] = {}
        self.flying: list[limits.Permit] = []
        self.held: list[Held] = []
        self.closed_until = self.now + HOLD
        self.exchange([], [])

    def exchange(self, settlements: list[protocol.Settlement], asks: list[protocol.Ask]) -> list[protocol.Verdict]:
        """Tell both the same; return what both say."""
        settled: list[protocol.Settled]
        verdicts: list[protocol.Verdict]
        # The twin has no second clock to check its own with.
        self.redis._stopwatch = fleet_clock.Stopwatch()
        settled, verdicts = reply_of(self.redis.exchange(RULES, settlements, asks))
        twin = reply_of(self.memory.exchange(RULES, settlements, asks))
        assert (settled, verdicts) == twin
        for one, reply in zip(settlements, settled, strict=True):
            self.limits[one.permit.charge.field] = reply.limit
        return verdicts

    def free(self) -> list[tuple[str, str, int]]:
        """Return what is free in each budget."""
        states = reply_of(self.redis.snapshot(RULES, [1, 2, 3]))
        assert states[:2] == reply_of(self.memory.snapshot(RULES, []))[:2]
        return [(state.kind, state.key, state.free) for state in states]

    @stateful.rule(seconds=st.sampled_from((0.001, 0.02, 0.1, 0.5, 1.0, 3.0, 8.0)))
    def time_passes(self, seconds: float) -> None:
        """Turn the clock."""
        self.now += seconds

    @stateful.rule(charges=st.lists(CHARGES, min_size=1, max_size=6), patience=st.sampled_from((0.0, 1.0, 10.0)))
    def permits_are_asked_for(self, charges: list[limits.Charge], patience: float) -> None:
        """Ask one after the other; a refusal takes nothing."""
        for charge in charges:
            ask = protocol.Ask(
                str(next(self.ids)), charge, patience, self.limits.get(charge.field, route_limits.UNKNOWN)
            )
            before = self.free()
            (verdict,) = self.exchange([], [ask])
            if isinstance(verdict, protocol.Granted):
                self.book(ask, verdict)
                continue
            assert self.free() == before, "a refusal takes nothing"
            if isinstance(verdict, protocol.Relearn):
                self.limits[charge.field] = verdict.limit
            else:
                assert verdict.seconds > 0

    def book(self, ask: protocol.Ask, verdict: protocol.Granted) -> None:
        """Note a permit, and that its budgets had room."""
        starts = self.now + verdict.delay
        assert starts >= self.closed_until, "nothing goes while everything is paused"
        permit = limits.Permit(ask.id, ask.charge, starts, 2.0, verdict.moment, ask.limit, verdict.held)
        self.flying.append(permit)
        lost = starts + RULES.inflight
        until = {"global": lost + RULES.global_budget.window}
        if ask.charge.user is not None:
            until[f"user {ask.charge.user}"] = lost + RULES.user_budget.window
        self.held.append(Held(permit, until))
        for name, capacity in (("global", 6), (f"user {ask.charge.user}", 2)):
            live = sum(one.until.get(name, 0.0) > starts + 0.001 for one in self.held)
            assert live <= capacity, name

    @stateful.precondition(lambda self: self.flying)
    @stateful.rule(data=st.data(), headers=HEADERS, scope=SCOPES)
    def an_answer_is_booked(
        self, data: st.DataObject, headers: route_limits.Headers | None, scope: protocol.Scope | None
    ) -> None:
        """Bring some answer back."""
        permit = self.flying.pop(data.draw(st.integers(0, len(self.flying) - 1)))
        trip = data.draw(st.sampled_from((0.05, 0.1, 0.4)))
        age = data.draw(st.sampled_from((0.0, 0.02)))
        if self.now - age > permit.taken_at + RULES.inflight:
            return  # Its call was given up before; nobody settles it.
        outcome = protocol.Outcome(
            trip, None, headers, scope is None, scope, 1.5 if scope else 0.0, scope not in {None, "shared"}
        )
        self.exchange([protocol.Settlement(permit, outcome, self.now - age)], [])
        for one in self.held:
            if one.permit is permit:
                # A credit is never more than the call itself took.
                one.until = {name: self.now - age - trip + (1.0 if name == "global" else 3.0) for name in one.until}
        bot = permit.charge.identity == "bot"
        if (scope == "global" and bot) or scope == "edge":
            self.closed_until = max(self.closed_until, self.now + 1.5)

    @stateful.precondition(lambda self: self.flying)
    @stateful.rule(data=st.data())
    def a_permit_is_handed_back(self, data: st.DataObject) -> None:
        """Hand back what was not used."""
        permit = self.flying.pop(data.draw(st.integers(0, len(self.flying) - 1)))
        self.exchange([protocol.Settlement(permit, None, self.now)], [])
        self.held = [one for one in self.held if one.permit is not permit]

    @stateful.precondition(lambda self: len(self.held) > 8)
    @stateful.rule()
    def everything_is_lost(self) -> None:
        """Empty both, as a restart without a disk does."""
        self.client.flushdb()
        self.memory.lose()
        self.flying.clear()
        self.held.clear()
        self.limits.clear()
        self.closed_until = max(self.closed_until, self.now + HOLD)
        self.exchange([], [])


def test_budgets_hold_and_drivers_agree_in_any_interleaving(blocking_redis: redis.Redis) -> None:
    """No more permits than a budget has, none while all is paused, all budgets or none; the twin equals the script."""
    machine: Any = functools.partial(Interleavings, blocking_redis)
    stateful.run_state_machine_as_test(machine, settings=hypothesis_settings(max_examples=60, stateful_step_count=50))
