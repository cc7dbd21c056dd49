"""The promises of the ledgers: who gets a permit, who is sent away and with what, and when a permit is free again."""

import asyncio

import pytest

from indexing import errors
from indexing.domain import model
from tests.contract.ratelimit import fleet

pytestmark = pytest.mark.clockwork


async def test_five_are_granted_and_the_sixth_is_told_the_exact_wait_when_a_user_calls(process: fleet.Process) -> None:
    """A user's budget gives its capacity; then the refusal names it and when the first permit is free."""
    await process.learn()
    for _ in range(5):
        await process.call()

    refusal = await process.refused()

    # The first call was answered 0.4 s ago; no credit is learned yet; moments are rounded up by a millisecond or two.
    assert (refusal.budget, refusal.why) == ("user", "used up")
    assert refusal.retry_after == pytest.approx(5.0 - 0.4, abs=0.003)


async def test_the_permit_is_there_when_it_is_asked_for_at_the_named_moment(process: fleet.Process) -> None:
    """Who comes back after retry_after gets what it was promised."""
    await process.learn()
    for _ in range(5):
        await process.call()
    refusal = await process.refused()

    await asyncio.sleep(refusal.retry_after)

    await process.take()


async def test_nothing_is_taken_from_the_global_budget_when_the_user_budget_refuses(process: fleet.Process) -> None:
    """All budgets or none."""
    await process.learn()
    for _ in range(5):
        await process.take()

    for _ in range(3):
        await process.refused()

    assert (await process.limiter.snapshot())[0].free == 45


async def test_nothing_is_taken_from_the_user_budget_when_the_global_budget_refuses(process: fleet.Process) -> None:
    """All budgets or none, the other way round."""
    await process.learn()
    for number in range(50):
        await process.take(fleet.charge(100 + number))

    refusal = await process.refused(fleet.charge(1))

    assert refusal.budget == "global"
    assert (await process.limiter.snapshot([1]))[2].free == 5


async def test_other_users_are_served_when_one_is_blocked(process: fleet.Process) -> None:
    """A user's budget is his alone."""
    await process.learn()
    for _ in range(5):
        await process.take(fleet.charge(1))

    await process.take(fleet.charge(2))


async def test_the_user_is_charged_when_his_own_token_is_used(process: fleet.Process) -> None:
    """The budget of the user on whose behalf we call is charged whichever token the call carries."""
    own = fleet.charge(1, route=fleet.GUILDS, identity="user:1", major=None)
    await process.learn()
    await process.call(own)

    for _ in range(4):
        await process.take()

    assert (await process.refused()).budget == "user"


async def test_no_user_is_charged_when_the_call_is_for_nobody(process: fleet.Process) -> None:
    """Only the global budget limits what is done for nobody in particular."""
    await process.learn()

    for _ in range(50):
        await process.take(fleet.charge(None))

    assert (await process.refused(fleet.charge(None))).budget == "global"


async def test_a_permit_is_free_one_window_after_its_answer_when_it_is_settled(process: fleet.Process) -> None:
    """The window counts from when the answer was read, not from when the call was sent."""
    await process.learn()
    permits = [await process.take() for _ in range(5)]
    await asyncio.sleep(3.0)
    for permit in permits:
        await process.settle(permit)

    await asyncio.sleep(4.9)
    refusal = await process.refused()
    await asyncio.sleep(0.11)

    assert refusal.retry_after == pytest.approx(0.1, abs=0.003)
    await process.take()


@pytest.mark.parametrize("settled", [True, False], ids=["answer lost", "process gone"])
async def test_a_permit_is_held_for_its_longest_call_and_a_window_when_no_answer_comes(
    process: fleet.Process, *, settled: bool
) -> None:
    """The call may have reached Discord as late as its timeout allows, so until then and a window longer it counts."""
    await process.learn()
    permits = [await process.take() for _ in range(5)]
    if settled:
        for permit in permits:
            await process.settle(permit, status=None)

    await asyncio.sleep(fleet.LOST + 5.0 - 0.1)
    await process.refused()
    await asyncio.sleep(0.11)

    await process.take()


async def test_a_permit_is_free_at_once_when_it_is_given_back(process: fleet.Process) -> None:
    """What was definitely never sent costs nothing."""
    await process.learn()
    permits = [await process.take() for _ in range(5)]

    await process.limiter.give_back(permits[0])

    await process.take()
    await process.refused()


async def test_processes_share_the_budgets_when_they_share_the_store(
    process: fleet.Process, shared: fleet.Fleet
) -> None:
    """What one takes, another cannot."""
    await process.learn()
    other = shared.process()
    for _ in range(3):
        await process.take()
    for _ in range(2):
        await other.take()

    assert (await process.refused()).budget == "user"
    assert (await other.refused()).budget == "user"


async def test_the_coroutine_waits_when_its_patience_allows(process: fleet.Process) -> None:
    """A wait within the patience is slept through, and ends when the permit is free."""
    await process.learn()
    for _ in range(5):
        await process.call()
    began = asyncio.get_running_loop().time()

    await process.take(patience=10.0)

    assert asyncio.get_running_loop().time() - began == pytest.approx(4.6, abs=0.01)


async def test_no_permit_is_wasted_when_the_waiting_coroutine_is_cancelled(process: fleet.Process) -> None:
    """Who was cancelled while it waited takes nothing, and the next one finds its permit."""
    await process.learn()
    for _ in range(5):
        await process.call()
    waiter = asyncio.create_task(process.take(patience=10.0))
    await asyncio.sleep(1.0)

    waiter.cancel()
    await asyncio.sleep(5.0)

    assert waiter.cancelled()
    assert (await process.limiter.snapshot([1]))[2].free == 5


async def test_the_permit_comes_back_earlier_when_round_trips_are_known(process: fleet.Process) -> None:
    """What surely passes on the way is credited: half the shortest round trip for a user's budget."""
    for _ in range(200):
        await process.call(fleet.charge(None))
        await asyncio.sleep(2.0)
    for _ in range(5):
        await process.call()

    refusal = await process.refused()

    assert refusal.retry_after == pytest.approx(5.0 - 0.4 - 0.5 * fleet.TRIP, abs=0.003)


async def test_nothing_is_credited_when_few_answers_came(process: fleet.Process) -> None:
    """A shortest round trip of a few answers is a guess, and not used."""
    await process.learn()
    await process.call()

    await asyncio.sleep(4.95)

    assert (await process.limiter.snapshot([1]))[2].free == 4


async def test_the_fence_is_passed_when_the_process_was_stopped(process: fleet.Process) -> None:
    """A permit that was not used for two seconds is too old to send with."""
    permit = await process.take()
    now = asyncio.get_running_loop().time()

    assert not permit.expired(now + 1.9)
    assert permit.expired(now + 2.1)


async def test_waits_refusals_and_permits_are_counted_when_they_happen(process: fleet.Process) -> None:
    """Each decision shows in the process's metrics."""
    await process.learn()
    for _ in range(5):
        await process.call(fleet.charge(lane=model.Lane.BACKGROUND))

    await process.refused()

    assert process.value("indexer_ratelimit_permits_taken_total", lane="background") == 5
    assert process.value("indexer_ratelimit_refusals_total", budget="user", reason="used up") == 1
    assert process.value("indexer_ratelimit_share_left_ratio_count", budget="user") == 5


async def test_the_error_carries_data_when_a_permit_is_refused(process: fleet.Process) -> None:
    """A refusal is errors.RateLimited with budget, wait and cause, which callers pass on."""
    await process.learn()
    for _ in range(5):
        await process.take()

    with pytest.raises(errors.RateLimited) as refusal:
        await process.limiter.take(fleet.charge(), patience=0.0)

    assert refusal.value.budget == "user"
    assert refusal.value.retry_after > 0


async def test_the_time_spent_waiting_is_counted_by_the_budget_that_asked_for_it(process: fleet.Process) -> None:
    """Operators see which budget makes whom wait."""
    await process.learn()
    for _ in range(5):
        await process.call()

    await process.take(patience=10.0)

    waited = process.value("indexer_ratelimit_waited_seconds_total", lane="interactive", budget="user")
    assert waited == pytest.approx(4.6, abs=0.1)
