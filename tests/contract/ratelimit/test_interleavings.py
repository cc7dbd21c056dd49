"""Random interleavings of exchanges: no budget is exceeded, and the script and its model give equal answers."""

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
    limits,
    protocol,
    redis_store,
    route_limits,
)
from tests.contract.ratelimit import blocking, fleet
from tests.ratelimit_model import store

ROUTES = (fleet.CHANNELS, fleet.GUILDS)
HOLD = 3.0
PARAMETERS = dataclasses.replace(
    limits.LimiterParameters.from_settings(
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
    round_trip_samples=3,
    raise_after=3,
)
APART = dataclasses.replace(PARAMETERS, user_tokens_global=False)
"""Of processes whose calls with a user's own token take no permit of the global budget."""
CHARGES = st.builds(
    limits.Charge,
    st.sampled_from(limits.LANES),
    st.sampled_from(ROUTES),
    st.sampled_from(("bot", "user:1")),
    st.sampled_from((None, 1, 2, 3)),
    st.sampled_from((None, 7, 8)),
    st.sampled_from(("", "", "job a", "job b")),
    st.booleans(),
    st.sampled_from(((), (), ("a",), ("b",), ("a", "b"))),
    st.booleans(),
    st.sampled_from(("", "a", "b")),
)
SCOPES = st.sampled_from((None,) * 6 + ("global", "route", "shared", "edge"))
HEADERS = st.none() | st.builds(
    route_limits.BucketHeaders,
    st.sampled_from(("b1", "b2")),
    st.just(3),
    st.integers(0, 2),
    st.sampled_from((0.3, 1.0, 2.0)),
)


def result_of(work: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401 -- any result
    """Return the result of a coroutine that never suspends."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it suspended")


@dataclasses.dataclass(slots=True)
class Held:
    """A permit, and by budget the time in seconds before which it must not be free."""

    permit: limits.Permit
    until: dict[str, float]


class Interleavings(stateful.RuleBasedStateMachine):
    """Sends equal exchanges to both stores, compares the answers, and keeps its own ledgers."""

    def __init__(self, client: redis.Redis) -> None:
        super().__init__()
        client.flushdb()
        self.client = client
        self.now = 3_500_000_000.0
        self.memory = store.MemoryBudgetStore(lambda: self.now)
        self.ids = itertools.count()
        self.waited: set[str] = set()
        self.limits: dict[str, route_limits.RouteLimit] = {}
        self.in_flight: list[limits.Permit] = []
        self.held: list[Held] = []
        self.closed_until = self.now + HOLD
        self.exchange([], [])

    def redis(self) -> redis_store.RedisBudgetStore:
        """Return a new process's store, which has no estimate of the fleet's clock: the model has none either."""
        client = blocking.as_async(blocking.BlockingClient(self.client))
        return redis_store.RedisBudgetStore(client, "test", clock=lambda: self.now, now=lambda: self.now)

    def exchange(
        self,
        settlements: list[protocol.Settlement],
        requests: list[protocol.PermitRequest],
        parameters: limits.LimiterParameters = PARAMETERS,
    ) -> list[protocol.Decision]:
        """Make an exchange with both stores; return the decisions, which must be equal."""
        results: list[protocol.SettlementResult]
        decisions: list[protocol.Decision]
        results, decisions = result_of(self.redis().exchange(parameters, settlements, requests))
        assert (results, decisions) == result_of(self.memory.exchange(parameters, settlements, requests))
        for settlement, result in zip(settlements, results, strict=True):
            self.limits[settlement.permit.charge.route_key] = result.limit
        return decisions

    def free(self) -> list[tuple[str, str, int]]:
        """Return the free permits of each budget."""
        states = result_of(self.redis().snapshot(PARAMETERS, [1, 2, 3]))
        fleet = [state for state in states if state.kind in {"global", "invalid_requests"}]
        assert fleet == result_of(self.memory.snapshot(PARAMETERS, []))[: len(fleet)]
        return [(state.kind, state.key, state.free) for state in states]

    @stateful.rule(seconds=st.sampled_from((0.001, 0.02, 0.1, 0.5, 1.0, 3.0, 8.0, 300.0)))
    def time_passes(self, seconds: float) -> None:
        """Advance the clock."""
        self.now += seconds
        self.expire_queues_of_callers()

    def expire_queues_of_callers(self) -> None:
        """Delete what Redis, whose own clock has not moved, lets expire when nobody was queued for ten minutes."""
        keys = limits.Keys("test").common("")
        if self.now * 1000 >= float(self.client.hget(keys[0], "named") or 0):
            queues = [key for queue in keys[2:5] for key in self.client.scan_iter(f"{queue}:*")]
            self.client.delete(keys[12], *queues)

    @stateful.rule(
        charges=st.lists(CHARGES, min_size=1, max_size=6),
        max_wait=st.sampled_from((0.0, 1.0, 10.0)),
        parameters=st.sampled_from((PARAMETERS, PARAMETERS, APART)),
    )
    def permits_are_requested(
        self, charges: list[limits.Charge], max_wait: float, parameters: limits.LimiterParameters
    ) -> None:
        """Request one after the other, from a process with any setting; a refusal takes nothing."""
        for charge in charges:
            limit = self.limits.get(charge.route_key, route_limits.UNKNOWN)
            returns = charge.shared and charge.waiter in self.waited
            request = protocol.PermitRequest(str(next(self.ids)), charge, max_wait, limit, self.now, returns)
            before = self.free()
            (decision,) = self.exchange([], [request], parameters)
            if isinstance(decision, limits.Permit):
                self.note_permit(decision, parameters)
                continue
            assert self.free() == before, "a refusal takes nothing"
            if isinstance(decision, protocol.LimitChanged):
                self.limits[charge.route_key] = decision.limit
            elif returns and decision.budget == protocol.TAKEN:
                self.waited.discard(charge.waiter)
            else:
                assert decision.seconds > 0
                self.waited.add(charge.waiter)

    def note_permit(self, permit: limits.Permit, parameters: limits.LimiterParameters) -> None:
        """Note a permit, and check that its budgets had room."""
        starts, user_id = permit.taken_at, permit.charge.user_id if permit.charge.charges_user else None
        assert starts >= self.closed_until, "no permit is granted while everything is paused"
        self.in_flight.append(permit)
        lost = starts + PARAMETERS.max_in_flight
        until = {}
        if parameters.user_tokens_global or permit.charge.identity == "bot":
            until["global"] = lost + PARAMETERS.global_budget.window
        if user_id is not None:
            until[f"user {user_id}"] = lost + PARAMETERS.user_budget.window
        self.held.append(Held(permit, until))
        for name, capacity in (("global", 6), (f"user {user_id}", 2)):
            live = sum(one.until.get(name, 0.0) > starts + 0.001 for one in self.held)
            assert live <= capacity, name

    @stateful.precondition(lambda self: self.in_flight)
    @stateful.rule(data=st.data(), headers=HEADERS, scope=SCOPES, refused=st.sampled_from((False, False, True)))
    def a_permit_is_settled(
        self,
        data: st.DataObject,
        headers: route_limits.BucketHeaders | None,
        scope: protocol.Scope | None,
        *,
        refused: bool,
    ) -> None:
        """Settle any permit in flight with an answer."""
        permit = self.in_flight.pop(data.draw(st.integers(0, len(self.in_flight) - 1)))
        trip = data.draw(st.sampled_from((0.05, 0.1, 0.4)))
        age = data.draw(st.sampled_from((0.0, 0.02)))
        pause = data.draw(st.sampled_from((0.0, 1.5, 1.5, 300.0))) if scope else 0.0
        if self.now - age > permit.taken_at + PARAMETERS.max_in_flight:
            return  # The call timed out before; it is not settled.
        outcome = protocol.Outcome(
            round_trip=trip,
            headers=headers,
            headers_expected=scope is None,
            scope=scope,
            pause=pause,
            clipped=pause == 300.0,
            invalid=scope not in {None, "shared"} or (refused and scope is None),
            refused=refused and scope is None,
        )
        self.exchange([protocol.Settlement(permit, outcome, self.now - age)], [])
        for one in self.held:
            if one.permit is permit:
                # A credit is never more than the round trip of the call itself.
                one.until = {name: self.now - age - trip + (1.0 if name == "global" else 3.0) for name in one.until}
        bot = permit.charge.identity == "bot"
        if (scope == "global" and bot) or scope == "edge":
            self.closed_until = max(self.closed_until, self.now + pause)

    @stateful.precondition(lambda self: self.in_flight)
    @stateful.rule(data=st.data())
    def a_permit_is_given_back(self, data: st.DataObject) -> None:
        """Give back an unused permit."""
        permit = self.in_flight.pop(data.draw(st.integers(0, len(self.in_flight) - 1)))
        self.exchange([protocol.Settlement(permit, None, self.now)], [])
        self.held = [one for one in self.held if one.permit is not permit]

    @stateful.precondition(lambda self: len(self.held) > 8)
    @stateful.rule()
    def state_is_lost(self) -> None:
        """Lose both states, as a restart without a disk does."""
        self.client.flushdb()
        self.memory.lose()
        self.in_flight.clear()
        self.held.clear()
        self.limits.clear()
        self.closed_until = self.now + HOLD  # Pauses are lost as well.
        self.exchange([], [])


def test_budgets_hold_and_the_model_equals_the_script_in_any_interleaving(blocking_redis: redis.Redis) -> None:
    """No budget is exceeded, no permit is granted during a pause, and a refusal takes nothing."""
    machine: Any = functools.partial(Interleavings, blocking_redis)
    stateful.run_state_machine_as_test(machine, settings=hypothesis_settings(max_examples=60, stateful_step_count=50))
