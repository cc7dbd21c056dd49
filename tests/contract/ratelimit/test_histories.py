"""Histories drawn with a seed: the script and its model give equal answers, and hold equal budgets after each."""

import dataclasses
import itertools
import random
import time
from collections.abc import Callable

import pytest
import redis

from indexing import settings
from indexing.domain import model
from indexing.ratelimit import limits, protocol, redis_store, route_limits
from tests.contract.ratelimit import blocking, fleet
from tests.contract.ratelimit.test_interleavings import PARAMETERS, result_of
from tests.ratelimit_model import contents, store

WIDE = dataclasses.replace(
    PARAMETERS,
    global_budget=settings.Rate(capacity=20, window=1.0),
    user_budget=settings.Rate(capacity=3, window=5.0),
    stop_bulk=1000,
    stop_all=2000,
    stop_caller=3,
)


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """
    What a history is made of: its choices are drawn with equal chances.

    Attributes:
        exact: Chance that time passes to a moment at which something ends.
        losses: Chance that a step loses the state.
    """

    parameters: limits.LimiterParameters = PARAMETERS
    lanes: tuple[str, ...] = ("interactive", "background", "refresh")
    routes: tuple[str, ...] = (fleet.CHANNELS, fleet.GUILDS)
    identities: tuple[str, ...] = ("bot", "user:1")
    users: tuple[int | None, ...] = (None, 1, 2, 3)
    guilds: tuple[int | None, ...] = (None, 7, 8)
    waiters: tuple[str, ...] = ("", "", "job a", "job b")
    callers: tuple[tuple[str, ...], ...] = ((), (), ("a",), ("b",), ("a", "b"))
    scopes: tuple[protocol.Scope | None, ...] = (None,) * 12 + ("global", "route", "shared", "edge")
    buckets: tuple[str, ...] = ("", "b1", "b1", "b2")
    sizes: tuple[int, ...] = (3,)
    left: tuple[int, ...] = (0, 1, 2, 3)
    resets: tuple[float, ...] = (0.3, 1.0, 2.0)
    pauses: tuple[float, ...] = (0.0, 1.5, 1.5, 300.0)
    refused: tuple[bool, ...] = (False, False, False, True)
    passing: tuple[float, ...] = (0.001, 0.02, 0.1, 0.5, 1.0, 3.0)
    longer: tuple[float, ...] = (8.0, 30.0, 31.0, 70.0, 300.0, 600.0, 700.0)
    early: tuple[float, ...] = (protocol.EARLY_GRANT,) * 3 + (0.5, 2.0)
    exact: float = 0.4
    losses: float = 0.005


ONE_ROUTE = Kind(
    parameters=WIDE,
    routes=(fleet.CHANNELS,),
    identities=("bot",),
    callers=((),),
    guilds=(7, 7, 8),
    users=(None,),
    refused=(False,),
)
KINDS = {
    "mixed": Kind(),
    "queues": Kind(
        routes=(fleet.GUILDS,),
        users=(None, 1, 2, 3, 4, 5),
        guilds=(None,),
        buckets=("",),
        scopes=(None,),
        refused=(False,),
        passing=(0.001, 0.02, 0.05, 0.1, 0.2),
        longer=(1.0,),
    ),
    "callers": Kind(
        lanes=("background",),
        routes=(fleet.GUILDS,),
        identities=("bot",),
        users=(None,),
        guilds=(None,),
        waiters=("guild",),
        callers=(("a",), ("b",), ("a", "b")),
        buckets=("",),
        scopes=(None,),
        refused=(False,),
        passing=(0.02, 0.05, 0.1, 0.2),
        longer=(1.0,),
    ),
    "one route": dataclasses.replace(
        ONE_ROUTE,
        users=(None, None, 1),
        waiters=("",),
        buckets=("b1",) * 9 + ("b2",),
        sizes=(3, 3, 3, 4, 5),
        scopes=(None,) * 9 + ("route", "shared"),
        longer=(8.0, 31.0),
    ),
    "pauses": Kind(
        parameters=WIDE,
        buckets=("",),
        scopes=(None,) * 6 + ("global", "global", "edge"),
        pauses=(0.0, 1.5, 3.0, 20.0, 300.0),
        passing=(0.02, 0.1, 0.5, 1.0, 1.0, 3.0),
    ),
    "strict": dataclasses.replace(
        ONE_ROUTE,
        buckets=("b1", "b1", "b2"),
        sizes=(3, 3, 2),
        left=(0, 0, 2),
        scopes=(None, None, "route", "route", "shared"),
        pauses=(0.3, 0.5, 1.0, 1.5, 300.0),
        longer=(8.0, 400.0),
    ),
    "raised": dataclasses.replace(
        ONE_ROUTE,
        buckets=("b1",),
        sizes=(3, 5, 5, 5, 6),
        left=(1, 2, 3, 4, 5),
        resets=(0.3, 1.0, 2.0, 4.0),
        scopes=(None,),
        longer=(8.0, 31.0),
    ),
    "ends": dataclasses.replace(
        ONE_ROUTE,
        parameters=dataclasses.replace(WIDE, strict_memory=5.0),
        guilds=(7, 8),
        waiters=("",),
        buckets=("b1", "b1", "b2"),
        left=(0, 2, 2),
        scopes=(None,) * 4 + ("global", "route", "route"),
        pauses=(0.3, 1.5),
        passing=(0.02, 0.1),
        longer=(8.0,),
        exact=0.8,
    ),
    "losses": Kind(
        identities=("bot",),
        guilds=(7,),
        scopes=(None,),
        refused=(False,),
        sizes=(1, 2),
        resets=(3.0, 8.0, 20.0),
        losses=0.1,
    ),
}


class History:
    """Sends equal exchanges to both stores, and compares the answers and what they hold."""

    def __init__(self, client: redis.Redis, kind: Kind, seed: int) -> None:
        client.flushdb()
        self.client, self.kind, self.draw = client, kind, random.Random(seed)
        self.moment = 3_500_000_000_000
        self.kept_at = time.monotonic()
        self.memory = store.MemoryBudgetStore(lambda: self.now)
        self.names = itertools.count()
        self.waited: set[str] = set()
        self.limits: dict[str, route_limits.RouteLimit] = {}
        self.in_flight: list[limits.Permit] = []
        self.repeated: list[limits.Charge] = []
        self.exchange([], [])
        # Positions of the same moment are told apart by a number that soon begins again.
        self.client.hset(limits.Keys("test").common("")[0], "tie", 1020)
        self.memory.numbers["tie"] = 1020

    @property
    def now(self) -> float:
        """Seconds, in the middle of the millisecond."""
        return (self.moment + 0.5) / 1000

    def keep_keys(self) -> None:
        """Give keys the seconds back that a slow machine has taken: Redis' own clock drops them."""
        passed = time.monotonic() - self.kept_at
        if passed > 1:
            for key in self.client.scan_iter():
                if (left := self.client.pttl(key)) > 0:
                    self.client.pexpire(key, left + int(passed * 1000))
            self.kept_at += passed

    def exchange(
        self, settlements: list[protocol.Settlement], requests: list[protocol.PermitRequest]
    ) -> list[protocol.Decision]:
        """Make an exchange with both stores; the process of Redis' has no estimate of the fleet's clock."""
        self.keep_keys()
        client = blocking.as_async(blocking.BlockingClient(self.client))
        script = redis_store.RedisBudgetStore(client, "test", clock=lambda: self.now, now=lambda: self.now)
        parameters = dataclasses.replace(self.kind.parameters, user_tokens_global=self.draw.random() < 0.8)
        found = result_of(script.exchange(parameters, settlements, requests))
        assert found == result_of(self.memory.exchange(parameters, settlements, requests))
        held = contents.of_redis(self.client, self.moment, int(parameters.repeat_memory * 1000))
        assert contents.differences(held, self.memory.contents) == []
        results, decisions = found
        for settlement, result in zip(settlements, results, strict=True):
            self.limits[settlement.permit.charge.route_key] = result.limit
        return list(decisions)

    def step(self) -> None:
        """Do one thing."""
        if self.draw.random() < self.kind.losses:
            return self.lose()
        actions: list[Callable[[], None]] = [self.pass_time, self.request, self.request, self.settle, self.settle]
        return self.draw.choice(actions)()

    def pass_time(self) -> None:
        """Advance the clock, often to a moment at which something ends; Redis' own clock has not moved."""
        by = self.draw.choice(self.kind.longer if self.draw.random() < 0.05 else self.kind.passing)
        ends = [end for end in contents.moments(self.memory.contents) if self.moment < end < self.moment + 60_000]
        exact = ends and self.draw.random() < self.kind.exact
        self.moment = self.draw.choice(ends) if exact else self.moment + int(by * 1000)
        keys = limits.Keys("test").common("")
        if self.moment >= float(self.client.hget(keys[0], "named") or 0):
            queues = [key for queue in keys[2:5] for key in self.client.scan_iter(f"{queue}:*")]
            self.client.delete(keys[11], keys[12], *queues)

    def request(self) -> None:
        """Request some permits in one exchange, often for the same charge."""
        kind, choice = self.kind, self.draw.choice
        requests = []
        for _ in range(choice((1, 1, 2, 4))):
            charge = limits.Charge(
                lane=model.Lane(choice(kind.lanes)),
                route=choice(kind.routes),
                identity=choice(kind.identities),
                user_id=choice(kind.users),
                major=choice(kind.guilds),
                waiter=choice(kind.waiters),
                charges_user=choice((True, False)),
                callers=choice(kind.callers),
                shared=choice((True, False)),
                brought_by=choice(("", "a", "b")),
            )
            if self.repeated and self.draw.random() < 0.6:
                charge = choice(self.repeated)
            limit = self.limits.get(charge.route_key, route_limits.UNKNOWN)
            returns = charge.shared and charge.waiter in self.waited
            name, longest = str(next(self.names)), choice((0.0, 1.0, 10.0))
            early = choice(kind.early)
            requests.append(protocol.PermitRequest(name, charge, longest, limit, self.now, returns, early))
        for request, decision in zip(requests, self.exchange([], requests), strict=True):
            self.note(request, decision)

    def note(self, request: protocol.PermitRequest, decision: protocol.Decision) -> None:
        """Note what the process knows after a decision; a refused call with a name comes back."""
        charge = request.charge
        if charge in self.repeated:
            self.repeated.remove(charge)
        if isinstance(decision, limits.Permit):
            self.in_flight.append(decision)
        elif isinstance(decision, protocol.LimitChanged):
            self.limits[charge.route_key] = decision.limit
            self.repeated.append(charge)
        elif decision.budget == protocol.TAKEN:
            self.waited.discard(charge.waiter)
        else:
            self.waited.add(charge.waiter)
            self.repeated.append(dataclasses.replace(charge, waiter=request.waiter))

    def settle(self) -> None:
        """Settle some of the permits in flight, whose calls have begun."""
        settlements = []
        begun = [permit for permit in self.in_flight if permit.taken_at <= self.now]
        for permit in self.draw.sample(begun, min(self.draw.choice((1, 1, 3)), len(begun))):
            self.in_flight.remove(permit)
            age = self.draw.choice((0.0, 0.02))
            if self.now - age <= permit.taken_at + self.kind.parameters.max_in_flight:
                settlements.append(protocol.Settlement(permit, self.outcome(), self.now - age))
        self.exchange(settlements, [])

    def outcome(self) -> protocol.Outcome | None:
        """Draw an answer, or that the call was never sent."""
        kind, choice = self.kind, self.draw.choice
        if self.draw.random() < 0.1:
            return None
        scope, bucket, size = choice(kind.scopes), choice(kind.buckets), choice(kind.sizes)
        pause = choice(kind.pauses) if scope else 0.0
        remaining = min(choice(kind.left), size)
        refused = scope is None and choice(kind.refused)
        return protocol.Outcome(
            round_trip=choice((0.05, 0.1, 0.4)),
            headers=route_limits.BucketHeaders(bucket, size, remaining, choice(kind.resets)) if bucket else None,
            headers_expected=scope is None and self.draw.random() < 0.9,
            scope=scope,
            pause=pause,
            clipped=pause == 300.0,
            invalid=scope not in {None, "shared"} or refused,
            refused=refused,
        )

    def lose(self) -> None:
        """Lose both states, as a restart without a disk does; processes remember the limits."""
        self.client.flushdb()
        self.memory.lose()
        self.in_flight.clear()
        self.exchange([], [])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", KINDS)
def test_the_script_and_its_model_hold_equal_budgets(blocking_redis: redis.Redis, kind: str, seed: int) -> None:
    """After every exchange of a history: permits, waits, queues, limits and pauses."""
    history = History(blocking_redis, KINDS[kind], seed)
    for _ in range(150):
        history.step()
    assert contents.end_early(blocking_redis, history.moment) == []
