"""What can be seen of the budgets, and what is erased with a user."""

import pytest

from tests.contract.ratelimit import fleet

pytestmark = pytest.mark.clockwork


async def test_global_budget_ban_line_and_users_are_listed_in_this_order_when_asked(process: fleet.Process) -> None:
    """The list begins with the global budget and the ban line, then come the users asked for, then routes in use."""
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
    """Route budgets are named by route, token and guild."""
    await process.call(fleet.charge(5), fleet.headers(9, 10, 10.0))

    route = (await process.limiter.snapshot())[2]

    assert route.key == f"{fleet.CHANNELS}|bot|7"
    assert (route.capacity, route.window, route.free) == (10, 10.0, 9)


async def test_the_next_free_permit_is_named_when_none_is_free(process: fleet.Process) -> None:
    """Who looks sees how long a call would wait."""
    await process.learn()
    for _ in range(5):
        await process.call()

    user = (await process.limiter.snapshot([1]))[2]

    assert user.free == 0
    assert user.next_free_in == pytest.approx(4.6, abs=0.01)


async def test_the_pause_and_its_cause_are_shown_when_discord_said_stop(process: fleet.Process) -> None:
    """A pause shows with its remaining time."""
    await process.learn()
    await fleet.rejected(process, {"x-ratelimit-scope": "global", "retry-after": "3"})

    state = (await process.limiter.snapshot())[0]

    assert (state.free, state.why) == (0, "pause")
    assert state.paused_for == pytest.approx(3.25, abs=0.01)


async def test_nothing_changes_when_budgets_are_looked_at(process: fleet.Process, shared: fleet.Fleet) -> None:
    """Looking creates nothing, not even the beginning of a hold."""
    fresh = shared.process(limiter_hold=5.0)
    await fresh.limiter.snapshot([1, 2, 3])

    refusal = await fresh.refused()

    assert refusal.retry_after == pytest.approx(5.0, abs=0.01)


async def test_a_users_budget_still_counts_when_he_is_forgotten_within_the_window(process: fleet.Process) -> None:
    """Erasure does not hand out a second budget: the ledger stays until its last permit is free."""
    await process.learn()
    for _ in range(5):
        await process.call()

    await process.limiter.forget_user(1)

    assert (await process.refused()).budget == "user"


async def test_a_users_routes_are_not_listed_when_he_is_forgotten(process: fleet.Process) -> None:
    """What carries the user's id disappears."""
    own = fleet.charge(1, route=fleet.GUILDS, identity="user:1", major=None)
    await process.call(own, fleet.headers(9, 10, 10.0))

    await process.limiter.forget_user(1)

    assert all("user:1" not in state.key for state in await process.limiter.snapshot())
