"""The budgets' promises: when a permit is granted, what a refusal contains, and when a permit is free again."""

import asyncio

import pytest

from indexing import errors
from indexing.domain import model
from tests.contract.ratelimit import fleet

pytestmark = pytest.mark.clockwork


async def test_five_permits_are_granted_and_the_sixth_is_refused_with_the_exact_wait_when_one_user_calls(
    process: fleet.Process,
) -> None:
    """A user's budget gives its capacity; then the refusal names it and when the first permit is free."""
    await process.learn_routes()
    for _ in range(5):
        await process.call()

    refusal = await process.refused()

    # The first call was answered 0.4 s ago; no credit is learned yet; moments are rounded up by a millisecond or two.
    assert (refusal.budget, refusal.why) == ("user", "used up")
    assert refusal.retry_after == pytest.approx(5.0 - 0.4, abs=0.003)


async def test_a_permit_is_granted_when_requested_at_the_refusals_retry_time(process: fleet.Process) -> None:
    """A caller that returns after retry_after gets the promised permit."""
    await process.learn_routes()
    for _ in range(5):
        await process.call()
    refusal = await process.refused()

    await asyncio.sleep(refusal.retry_after)

    await process.take()


async def test_nothing_is_taken_from_the_global_budget_when_the_user_budget_refuses(process: fleet.Process) -> None:
    """All budgets or none."""
    await process.learn_routes()
    for _ in range(5):
        await process.take()

    for _ in range(3):
        await process.refused()

    assert (await process.limiter.snapshot())[0].free == 45


async def test_nothing_is_taken_from_the_user_budget_when_the_global_budget_refuses(process: fleet.Process) -> None:
    """All budgets or none, in the other direction."""
    await process.learn_routes()
    for number in range(50):
        await process.take(fleet.charge(100 + number))

    refusal = await process.refused(fleet.charge(1))

    assert refusal.budget == "global"
    assert (await process.limiter.snapshot([1]))[2].free == 5


async def test_other_users_are_served_when_one_is_blocked(process: fleet.Process) -> None:
    """Each user has a budget of their own."""
    await process.learn_routes()
    for _ in range(5):
        await process.take(fleet.charge(1))

    await process.take(fleet.charge(2))


async def test_the_user_is_charged_when_their_own_token_is_used(process: fleet.Process) -> None:
    """A call made on behalf of a user is charged to that user's budget, whichever token it carries."""
    own = fleet.charge(1, route=fleet.GUILDS, identity="user:1", major=None)
    await process.learn_routes()
    await process.call(own)

    for _ in range(4):
        await process.take()

    assert (await process.refused()).budget == "user"


async def test_no_user_is_charged_when_the_call_has_no_user(process: fleet.Process) -> None:
    """Only the global budget limits calls without a user."""
    await process.learn_routes()

    for _ in range(50):
        await process.take(fleet.charge(None))

    assert (await process.refused(fleet.charge(None))).budget == "global"


async def test_a_permit_is_free_one_window_after_its_answer_when_it_is_settled(process: fleet.Process) -> None:
    """The window counts from when the answer was read, not from when the call was sent."""
    await process.learn_routes()
    permits = [await process.take() for _ in range(5)]
    await asyncio.sleep(3.0)
    for permit in permits:
        await process.settle(permit)

    await asyncio.sleep(4.9)
    refusal = await process.refused()
    await asyncio.sleep(0.11)

    assert refusal.retry_after == pytest.approx(0.1, abs=0.003)
    await process.take()


@pytest.mark.parametrize("settled", [True, False], ids=["answer lost", "process ended"])
async def test_a_permit_is_held_for_the_longest_call_and_a_window_when_no_answer_arrives(
    process: fleet.Process, *, settled: bool
) -> None:
    """The call may have reached Discord as late as its timeout allows; it counts for a window from then."""
    await process.learn_routes()
    permits = [await process.take() for _ in range(5)]
    if settled:
        for permit in permits:
            await process.settle(permit, status=None)

    await asyncio.sleep(fleet.MAX_IN_FLIGHT + 5.0 - 0.1)
    await process.refused()
    await asyncio.sleep(0.11)

    await process.take()


async def test_a_permit_is_free_at_once_when_it_is_given_back(process: fleet.Process) -> None:
    """A call that was definitely never sent costs nothing."""
    await process.learn_routes()
    permits = [await process.take() for _ in range(5)]

    await process.limiter.give_back(permits[0])

    await process.take()
    await process.refused()


async def test_processes_share_the_budgets_when_they_share_the_store(
    process: fleet.Process, shared: fleet.Fleet
) -> None:
    """A permit that one process takes is not free for another."""
    await process.learn_routes()
    other = shared.process()
    for _ in range(3):
        await process.take()
    for _ in range(2):
        await other.take()

    assert (await process.refused()).budget == "user"
    assert (await other.refused()).budget == "user"


async def test_take_sleeps_until_the_permit_is_free_when_max_wait_allows(process: fleet.Process) -> None:
    """A wait within max_wait ends when the permit is free."""
    await process.learn_routes()
    for _ in range(5):
        await process.call()
    began = asyncio.get_running_loop().time()

    await process.take(max_wait=10.0)

    assert asyncio.get_running_loop().time() - began == pytest.approx(4.6, abs=0.01)


async def test_no_permit_is_wasted_when_the_waiting_coroutine_is_cancelled(process: fleet.Process) -> None:
    """A caller that is cancelled while it waits takes nothing."""
    await process.learn_routes()
    for _ in range(5):
        await process.call()
    waiter = asyncio.create_task(process.take(max_wait=10.0))
    await asyncio.sleep(1.0)

    waiter.cancel()
    await asyncio.sleep(5.0)

    assert waiter.cancelled()
    assert (await process.limiter.snapshot([1]))[2].free == 5


async def test_a_permit_is_free_earlier_when_the_shortest_round_trip_is_known(process: fleet.Process) -> None:
    """The credit of a user's budget is half the shortest round trip."""
    for _ in range(200):
        await process.call(fleet.charge(None))
        await asyncio.sleep(2.0)
    for _ in range(5):
        await process.call()

    refusal = await process.refused()

    assert refusal.retry_after == pytest.approx(5.0 - 0.4 - 0.5 * fleet.ROUND_TRIP, abs=0.003)


async def test_there_is_no_credit_when_few_answers_were_read(process: fleet.Process) -> None:
    """The shortest round trip of a few answers proves nothing."""
    await process.learn_routes()
    await process.call()

    await asyncio.sleep(4.95)

    assert (await process.limiter.snapshot([1]))[2].free == 4


async def test_a_permit_expires_when_it_is_not_used_within_the_send_deadline(process: fleet.Process) -> None:
    """A permit may be used for two seconds."""
    permit = await process.take()
    now = asyncio.get_running_loop().time()

    assert not permit.expired(now + 1.9)
    assert permit.expired(now + 2.1)


async def test_waits_refusals_and_permits_are_counted_when_they_happen(process: fleet.Process) -> None:
    """Each decision shows in the process's metrics."""
    await process.learn_routes()
    for _ in range(5):
        await process.call(fleet.charge(lane=model.Lane.BACKGROUND))

    await process.refused()

    assert process.value("indexer_ratelimit_permits_taken_total", lane="background") == 5
    assert process.value("indexer_ratelimit_refusals_total", budget="user", reason="used up") == 1
    assert process.value("indexer_ratelimit_share_left_ratio_count", budget="user") == 5


async def test_the_error_carries_data_when_a_permit_is_refused(process: fleet.Process) -> None:
    """A refusal is errors.RateLimited with budget, wait and reason, which callers pass on."""
    await process.learn_routes()
    for _ in range(5):
        await process.take()

    with pytest.raises(errors.RateLimited) as refusal:
        await process.limiter.take(fleet.charge(), max_wait=0.0)

    assert refusal.value.budget == "user"
    assert refusal.value.retry_after > 0


async def test_the_time_spent_waiting_is_counted_by_the_budget_that_was_used_up(process: fleet.Process) -> None:
    """Operators see which budget makes which lane wait."""
    await process.learn_routes()
    for _ in range(5):
        await process.call()

    await process.take(max_wait=10.0)

    waited = process.value("indexer_ratelimit_waited_seconds_total", lane="interactive", budget="user")
    assert waited == pytest.approx(4.6, abs=0.1)
