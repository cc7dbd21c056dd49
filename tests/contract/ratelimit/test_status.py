"""Snapshots of the budgets, and erasure of a user."""

import pytest

from tests.contract.ratelimit import fleet

pytestmark = pytest.mark.clockwork


async def test_snapshot_lists_global_budget_invalid_requests_users_and_routes_in_this_order(
    process: fleet.Process,
) -> None:
    """Callers rely on the order of the first two entries."""
    await process.call(fleet.charge(5), fleet.headers(9, 10, 10.0))

    listed = await process.limiter.snapshot([5, 6])

    assert [state.kind for state in listed] == ["global", "invalid_requests", "user", "user", "route"]
    assert [state.key for state in listed[2:4]] == ["5", "6"]
    assert [(state.capacity, state.window, state.free) for state in listed[:4]] == [
        (50, 1.0, 49),
        (10_000, 600.0, 10_000),
        (5, 5.0, 4),
        (5, 5.0, 5),
    ]


async def test_a_route_shows_its_learned_size_when_it_is_in_use(process: fleet.Process) -> None:
    """A route budget's key has its route, token and guild."""
    await process.call(fleet.charge(5), fleet.headers(9, 10, 10.0))

    route = (await process.limiter.snapshot())[2]

    assert route.key == f"{fleet.CHANNELS}|bot|7"
    assert (route.capacity, route.window, route.free) == (10, 10.0, 9)


async def test_the_next_free_permit_is_named_when_none_is_free(process: fleet.Process) -> None:
    """The state shows how long a call would wait."""
    await process.learn_routes()
    for _ in range(5):
        await process.call()

    user = (await process.limiter.snapshot([1]))[2]

    assert user.free == 0
    assert user.next_free_in == pytest.approx(4.6, abs=0.01)


async def test_the_pause_and_its_reason_are_shown_when_discord_rate_limits_the_token(process: fleet.Process) -> None:
    """A pause shows with its remaining time."""
    await process.learn_routes()
    await fleet.settle_429(process, {"x-ratelimit-scope": "global", "retry-after": "3"})

    state = (await process.limiter.snapshot())[0]

    assert (state.free, state.reason) == (0, "pause")
    assert state.paused_for == pytest.approx(3.25, abs=0.01)


async def test_a_snapshot_changes_nothing(process: fleet.Process, shared: fleet.Fleet) -> None:
    """A snapshot of an empty store does not begin a hold."""
    fresh = shared.process(limiter_hold=5.0)
    await fresh.limiter.snapshot([1, 2, 3])

    refusal = await fresh.refused()

    assert refusal.retry_after == pytest.approx(5.0, abs=0.01)


async def test_a_users_budget_stays_used_when_they_are_forgotten_within_the_window(process: fleet.Process) -> None:
    """Erasure does not grant a second budget: the ledger stays until its last permit is free."""
    await process.learn_routes()
    for _ in range(5):
        await process.call()

    await process.limiter.forget_user(1)

    assert (await process.refused()).budget == "user"


async def test_a_users_routes_are_not_listed_when_they_are_forgotten(process: fleet.Process) -> None:
    """Entries that carry the user's id are removed."""
    own = fleet.charge(1, route=fleet.GUILDS, identity="user:1", major=None)
    await process.call(own, fleet.headers(9, 10, 10.0))

    await process.limiter.forget_user(1)

    assert all("user:1" not in state.key for state in await process.limiter.snapshot())
