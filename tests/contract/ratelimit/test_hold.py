"""The hold after lost state: it lasts once, however many processes return during it, and no step of a clock ends it."""

import asyncio
import dataclasses
import itertools

import pytest
import redis
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from indexing import settings
from indexing.ratelimit import limits, protocol, redis_store, route_limits
from tests.contract.ratelimit import blocking, fleet

HOLD = 7.0
PARAMETERS = limits.LimiterParameters.from_settings(settings.LimiterSettings(limiter_hold=HOLD), fleet.CALL_TIMEOUT)
WALL = 1_700_000_000.0
NUMBERS = itertools.count()
JUMP = 0.1
"""Seconds by which Redis' clock may be wrong and is trusted (state.lua)."""


@dataclasses.dataclass
class World:
    """
    Processes whose monotonic clocks differ, and a Redis whose clock may be set.

    Attributes:
        time: Seconds that have passed.
        step: Seconds by which Redis' clock was set.
    """

    client: redis.Redis
    time: float = 1000.0
    step: float = 0.0

    def __post_init__(self) -> None:
        self.client.flushdb()

    def process(self, number: int) -> redis_store.RedisBudgetStore:
        """Return the store of a process that has just started."""
        return redis_store.RedisBudgetStore(
            blocking.as_async(blocking.BlockingClient(self.client)),
            "test",
            clock=lambda: self.time + 500.0 * number,
            now=lambda: self.time + WALL + self.step,
        )

    def lose(self, how: str) -> float:
        """Lose the state, or fail over to a replica that has it; returns the time."""
        if how == "flush":
            self.client.flushdb()
        else:
            self.client.hset(f"{limits.Keys('test').tag}m", "run", "another")
        return self.time


def ask(store: redis_store.RedisBudgetStore) -> protocol.Decision:
    """Ask for a permit that only a hold can refuse."""
    charge = fleet.charge(None, route=f"GET /{next(NUMBERS)}")
    request = protocol.PermitRequest("1", charge, 0.0, route_limits.UNKNOWN, 0.0)
    _, (decision,) = asyncio.run(store.exchange(PARAMETERS, [], [request]))
    return decision


def is_held(store: redis_store.RedisBudgetStore) -> bool:
    """Ask, and return whether the hold refuses."""
    decision = ask(store)
    return isinstance(decision, protocol.Wait) and decision.reason == "hold"


def run_fleet(client: redis.Redis, number: int) -> tuple[World, list[redis_store.RedisBudgetStore]]:
    """Start processes; they run until the first hold is over."""
    world = World(client)
    stores = [world.process(one) for one in range(number)]
    for _ in range(2):
        for store in stores:
            ask(store)
        world.time += 60.0
    for store in stores:
        ask(store)
    return world, stores


@pytest.mark.parametrize("how", ["flush", "failover"])
@pytest.mark.parametrize("gap", [0.5, 1.5, 3.0, 6.5])
def test_the_hold_lasts_once_when_processes_return_one_after_another(
    blocking_redis: redis.Redis, how: str, gap: float
) -> None:
    """Each returns with an estimate of the clock of before the loss, and none with one of the new state."""
    world, stores = run_fleet(blocking_redis, 6)
    lost_at = world.lose(how)

    found = []
    for store in stores:
        found.append((world.time - lost_at, is_held(store)))
        world.time += gap
    world.time = max(world.time, lost_at + HOLD + 0.01)

    assert [held for _, held in found] == [passed < HOLD for passed, _ in found]
    assert not any(is_held(store) for store in stores)


@pytest.mark.parametrize("how", ["flush", "failover"])
def test_the_hold_is_longer_by_the_first_pause_alone_when_a_new_process_notices_the_loss(
    blocking_redis: redis.Redis, how: str
) -> None:
    """It knows nothing of before; the first that returns ties the two clocks together."""
    world, stores = run_fleet(blocking_redis, 4)
    lost_at = world.lose(how)

    assert is_held(world.process(9))
    for store in stores:
        world.time += 2.0
        assert is_held(store)
    world.time = lost_at + HOLD + 2.0 + 0.2

    assert not is_held(stores[0])


def test_the_hold_is_hardly_longer_when_the_new_process_probes(blocking_redis: redis.Redis) -> None:
    """As every process does once a second."""
    world, stores = run_fleet(blocking_redis, 6)
    lost_at = world.lose("failover")
    new = world.process(9)

    for second in range(6):
        assert is_held(new)
        assert is_held(stores[second])
        world.time += 1.0
    world.time = lost_at + HOLD + 1.2

    assert not is_held(new)


@pytest.mark.parametrize("how", ["flush", "failover"])
@pytest.mark.parametrize("step", [-3600.0, -5.0, 0.5, 5.0, 3600.0])
@pytest.mark.parametrize("known", [True, False], ids=["first-knows-before", "first-is-new"])
def test_no_permit_is_granted_during_the_hold_when_a_clock_is_set(
    blocking_redis: redis.Redis,
    how: str,
    step: float,
    known: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """Whichever process makes the first exchange after the step, with an estimate from before the loss."""
    world, stores = run_fleet(blocking_redis, 8)
    lost_at = world.lose(how)
    assert is_held(stores[0] if known else world.process(9))
    world.time += 0.5
    world.step += step

    for store in stores[1:]:
        assert is_held(store), world.time - lost_at
        world.time += (HOLD - 0.6) / 7


def test_the_hold_is_not_shorter_when_the_estimates_are_old(blocking_redis: redis.Redis) -> None:
    """After 2,000 seconds without an exchange an estimate may be wrong by two; Redis' clock is set during the hold."""
    world, stores = run_fleet(blocking_redis, 3)
    world.time += 2000.0
    lost_at = world.lose("flush")
    assert is_held(stores[0])
    world.time += 1.0
    world.step += 5.0
    assert is_held(stores[1])

    world.time = lost_at + HOLD - 0.1

    assert is_held(stores[1])
    assert is_held(stores[2])


EVENTS = st.lists(
    st.tuples(
        st.integers(0, 3), st.sampled_from((0.05, 0.5, 1.0, 3.0)), st.sampled_from((0.0,) * 6 + (-5.0, 0.5, 5.0))
    ),
    max_size=12,
)


@given(how=st.sampled_from(("flush", "failover")), events=EVENTS)
@hypothesis_settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_the_hold_neither_ends_early_nor_lasts_for_ever_whatever_happens_during_it(
    blocking_redis: redis.Redis, how: str, events: list[tuple[int, float, float]]
) -> None:
    """Processes come in any order, and Redis' clock is set in between."""
    world, stores = run_fleet(blocking_redis, 4)
    lost_at = world.lose(how)
    first = True

    for number, pause, step in events:
        held = is_held(stores[number])
        if first:
            assert held
            first, lost_at = False, world.time
        assert held or world.time - lost_at > HOLD - JUMP * len(events)
        world.time += pause
        world.step += step
    for _ in range(4):
        # A step that is not noticed yet costs one more hold.
        world.time += 2 * HOLD
        for store in stores:
            ask(store)
    world.time += 2 * HOLD

    assert not any(is_held(store) for store in stores)
