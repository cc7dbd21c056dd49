"""What the store reads from Redis beside the script, and what erasure removes; entries are written by hand."""

import asyncio
from typing import Any

import pytest
import redis

from indexing import settings
from indexing.domain import model
from indexing.ratelimit import limits, protocol, redis_store, route_limits
from tests.contract.ratelimit import blocking, fleet

PARAMETERS = limits.LimiterParameters.from_settings(settings.LimiterSettings(limiter_hold=0.0), fleet.CALL_TIMEOUT)
TAG = "{dl:test}:"
NOW = 3_500_000_000
"""Seconds that Redis' clock shows."""


class Clock:
    """The process's monotonic clock."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        """Return seconds."""
        return self.time


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


@pytest.fixture
def store(blocking_redis: redis.Redis, clock: Clock) -> redis_store.RedisBudgetStore:
    """A store on empty keys."""
    client = blocking.as_async(blocking.BlockingClient(blocking_redis))
    return redis_store.RedisBudgetStore(client, "test", clock=clock, now=lambda: NOW + 0.5)


def snapshot(store: redis_store.RedisBudgetStore, *users: int) -> list[limits.BudgetState]:
    """Return the budgets' states."""
    return asyncio.run(store.snapshot(PARAMETERS, users))


def test_the_time_of_redis_goes_on_between_exchanges(store: redis_store.RedisBudgetStore, clock: Clock) -> None:
    """Nothing is known before the first; then in seconds, with those that have passed."""
    before = store.redis_time()
    asyncio.run(store.exchange(PARAMETERS, [], []))
    clock.time += 3.0

    assert (before, store.redis_time()) == (None, NOW + 3.5)


@pytest.mark.parametrize("key", ["active", "repeats"])
def test_a_hundred_routes_are_listed_at_most(
    store: redis_store.RedisBudgetStore, blocking_redis: redis.Redis, key: str
) -> None:
    """Those that are used, or wait, longest."""
    labels = [f"GET /{number}|bot|" for number in range(101)]
    blocking_redis.zadd(TAG + key, {label: (NOW + 10 + at) * 1000 for at, label in enumerate(labels)})
    blocking_redis.hset(TAG + "learned", mapping={f"bot GET /{number}": "b 5 1000 0" for number in range(101)})

    assert {state.key for state in snapshot(store) if state.kind == "route"} == set(labels[1:])


def test_the_identifies_that_are_left_today_are_listed(
    store: redis_store.RedisBudgetStore, blocking_redis: redis.Redis
) -> None:
    """Of ten, three are counted still, and one of yesterday is not."""
    blocking_redis.set(TAG + "identify:day:most", 10)
    moments = {"a": NOW + 0.499, "b": NOW + 0.502, "c": NOW + 5, "d": NOW + 9}
    blocking_redis.zadd(TAG + "identify:day", {name: round(moment * 1000) for name, moment in moments.items()})

    (found,) = [state for state in snapshot(store) if state.kind == "identifies"]

    assert (found.capacity, found.free) == (10, 7)


def test_a_permit_is_listed_until_its_millisecond(
    store: redis_store.RedisBudgetStore, blocking_redis: redis.Redis
) -> None:
    """As the script counts it: one of now is free."""
    moments = {"a": NOW * 1000 + 500, "b": NOW * 1000 + 501, "c": NOW * 1000 + 502}
    blocking_redis.zadd(TAG + "p:u:7", moments)

    (found,) = [state for state in snapshot(store, 7) if state.kind == "user"]

    assert found.free == found.capacity - 2


def test_nothing_carries_a_users_id_after_erasure(
    store: redis_store.RedisBudgetStore, blocking_redis: redis.Redis
) -> None:
    """Turns, queues and waits of the user are gone; those of others stay."""
    own, other = f"{fleet.GUILDS}|user:1|", f"{fleet.GUILDS}|user:12|"
    for key in ("active", "repeats"):
        blocking_redis.zadd(TAG + key, {own: NOW * 2000, other: NOW * 2000})
    blocking_redis.zadd(TAG + "repeats", {"user 1": NOW * 2000, "user 12": NOW * 2000})
    blocking_redis.zadd(TAG + "tags", {"1": NOW * 2000, "12": NOW * 2000})
    blocking_redis.zadd(TAG + "l:u:1", {"waiter": NOW * 2000})

    asyncio.run(store.forget_user(1))

    found: dict[str, Any] = {key: blocking_redis.zrange(TAG + key, 0, -1) for key in ("active", "repeats", "tags")}
    assert found == {"active": [other.encode()], "repeats": [other.encode(), b"user 12"], "tags": [b"12"]}
    assert not blocking_redis.exists(TAG + "l:u:1")


def test_a_ledger_of_an_erased_user_lives_until_its_last_permit_is_free(
    store: redis_store.RedisBudgetStore, blocking_redis: redis.Redis
) -> None:
    """The user's budget, and that of a route that their token is used for."""
    label = f"{fleet.GUILDS}|user:1|"
    blocking_redis.zadd(TAG + "active", {label: NOW * 2000})
    blocking_redis.hset(TAG + "learned", f"user {fleet.GUILDS}", "b1 5 1000 0")
    for key in ("p:u:1", "p:r:user:1:b1:*"):
        blocking_redis.zadd(TAG + key, {"early": NOW * 1000, "late": NOW * 1000 + 7000})

    asyncio.run(store.forget_user(1))

    assert [blocking_redis.pexpiretime(TAG + key) for key in ("p:u:1", "p:r:user:1:b1:*")] == [NOW * 1000 + 7000] * 2


def test_the_script_reads_the_clock_of_redis(blocking_redis: redis.Redis) -> None:
    """In milliseconds: its seconds and microseconds together."""
    client = blocking.as_async(blocking.BlockingClient(blocking_redis))
    store = redis_store.RedisBudgetStore(client, "test")
    request = protocol.PermitRequest("1", fleet.charge(None), 0.0, route_limits.UNKNOWN, 0.0)

    (seconds, micro), (_, (permit,)), (later, more) = (
        blocking_redis.time(),
        asyncio.run(store.exchange(PARAMETERS, [], [request])),
        blocking_redis.time(),
    )

    assert isinstance(permit, limits.Permit)
    assert seconds * 1000 + micro // 1000 <= permit.charged_at_ms <= later * 1000 + more // 1000
    assert permit.charge.lane is model.Lane.INTERACTIVE
