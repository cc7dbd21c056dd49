"""The fair queue: positions, lanes and their shares, turns of users, and absent waiters."""

import asyncio
import collections
import dataclasses

import pytest
import redis

from indexing import errors, settings
from indexing.domain import model
from indexing.ratelimit import limits, redis_store
from tests import clockwork
from tests.contract.ratelimit import blocking, fleet

pytestmark = pytest.mark.clockwork
BACKGROUND, REFRESH, INTERACTIVE = model.Lane.BACKGROUND, model.Lane.REFRESH, model.Lane.INTERACTIVE


async def saturate(process: fleet.Process, seconds: float, *charges: limits.Charge) -> list[tuple[str, int, float]]:
    """Request a permit for every charge repeatedly; return lane, user and wait of each grant until the end in order."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    grants: list[tuple[str, int, float]] = []

    async def repeat(of: limits.Charge) -> None:
        while loop.time() < end:
            began = loop.time()
            try:
                permit = await process.limiter.take(of, max_wait=30.0)
            except errors.RateLimited as refusal:
                await asyncio.sleep(refusal.retry_after)
                continue
            if loop.time() < end:
                grants.append((of.lane.value, of.user_id or 0, loop.time() - began))
            await asyncio.sleep(fleet.ROUND_TRIP)
            await process.settle(permit)

    async with asyncio.TaskGroup() as group:
        for one in charges:
            group.create_task(repeat(one))
    return grants


def charges_of_users(lane: model.Lane, first: int, count: int) -> list[limits.Charge]:
    """Return charges of *count* users in one lane."""
    return [fleet.charge(user, lane=lane) for user in range(first, first + count)]


async def use_up_global_budget(process: fleet.Process) -> None:
    """Take the whole global budget, and settle its permits 10 ms apart."""
    permits = [await process.take(fleet.charge(user)) for user in range(100, 150)]
    for permit in permits:
        await asyncio.sleep(0.01)
        await process.settle(permit)


async def test_each_waiter_gets_its_own_release_moment_when_many_wait_for_one_user(process: fleet.Process) -> None:
    """The k-th waiter gets the k-th release moment, so that each release wakes one waiter."""
    await process.learn_routes()
    for _ in range(5):
        await process.call()
        await asyncio.sleep(0.4)
    first, second = (asyncio.create_task(process.take(max_wait=10.0)) for _ in range(2))
    await asyncio.sleep(0.01)

    third = await process.refused(max_wait=1.0)

    # The calls were answered 2.4, 1.9 and 1.4 s ago, so that the third permit is free in 3.6 s.
    assert third.retry_after == pytest.approx(5.0 - 1.4 - 0.01, abs=0.003)
    permits = [await first, await second]
    assert permits[1].taken_at - permits[0].taken_at == pytest.approx(0.5, abs=0.03)


async def test_waiters_do_not_poll_when_many_wait(shared: fleet.Fleet) -> None:
    """150 waiters for the global budget cost at most three exchanges each, however long they wait."""
    process = shared.process()
    await process.learn_routes()
    before = process.value("indexer_ratelimit_script_seconds_count")

    await asyncio.gather(*(process.limiter.take(of, max_wait=60.0) for of in charges_of_users(INTERACTIVE, 1, 150)))

    assert process.value("indexer_ratelimit_script_seconds_count") - before <= 3 * 150


async def test_a_user_whose_own_budget_is_used_up_takes_no_position_in_the_global_queue(process: fleet.Process) -> None:
    """Two heavy users with many queued calls do not make a light one wait."""
    await process.learn_routes()
    heavy = [fleet.charge(user, lane=BACKGROUND) for user in (1, 2) for _ in range(40)]
    tasks = [asyncio.create_task(process.limiter.take(of, max_wait=500.0)) for of in heavy]
    await asyncio.sleep(2.0)

    permit = await process.take(fleet.charge(3, lane=BACKGROUND))

    assert permit.charge.user_id == 3
    for task in tasks:
        task.cancel()


async def test_interactive_calls_hardly_wait_when_background_wants_everything(process: fleet.Process) -> None:
    """Background is paced, so a permit for an interactive call is free within milliseconds."""
    await process.learn_routes()
    background = asyncio.create_task(saturate(process, 25.0, *charges_of_users(BACKGROUND, 100, 80)))
    await asyncio.sleep(10.0)
    waits = []
    for number in range(40):
        began = asyncio.get_running_loop().time()
        await process.wait_and_call(fleet.charge(1 + number % 10))
        waits.append(asyncio.get_running_loop().time() - began - fleet.ROUND_TRIP)
        await asyncio.sleep(0.2)

    await background

    assert max(waits) <= 0.1


async def test_background_uses_everything_when_it_is_alone(process: fleet.Process) -> None:
    """Capacity that other lanes do not use goes to the background lane."""
    await process.learn_routes()

    grants = await saturate(process, 20.0, *charges_of_users(BACKGROUND, 100, 80))

    # Each permit is busy for a window and a round trip, less the credit: 50 / 1.02.
    assert len(grants) / 20 >= 46


async def test_every_lane_gets_its_share_when_all_want_everything(shared: fleet.Fleet) -> None:
    """Interactive goes first, but background keeps a fifth, and refresh does not starve."""
    process = shared.process(limiter_background_share=0.2, limiter_refresh_share=0.1)
    await process.learn_routes()

    grants = await saturate(
        process,
        30.0,
        *charges_of_users(INTERACTIVE, 100, 90),
        *charges_of_users(BACKGROUND, 300, 60),
        *charges_of_users(REFRESH, 500, 60),
    )

    lanes = collections.Counter(lane for lane, _, _ in grants)
    assert lanes["background"] / len(grants) == pytest.approx(0.2, abs=0.03)
    assert lanes["refresh"] / len(grants) == pytest.approx(0.1, abs=0.03)


async def test_refresh_gets_little_when_background_wants_everything(process: fleet.Process) -> None:
    """Refresh uses capacity that other lanes leave, and is not starved."""
    await process.learn_routes()

    grants = await saturate(process, 30.0, *charges_of_users(BACKGROUND, 300, 80), *charges_of_users(REFRESH, 500, 30))

    share = sum(lane == "refresh" for lane, _, _ in grants) / len(grants)
    assert 0.02 < share < 0.15


async def test_users_get_equal_shares_when_all_want_more_than_there_is(process: fleet.Process) -> None:
    """Inside a lane users take turns (Jain's index of their shares is at least 0.98)."""
    await process.learn_routes()

    grants = await saturate(process, 30.0, *charges_of_users(BACKGROUND, 100, 90))

    counts = list(collections.Counter(user for _, user, _ in grants).values())
    jain = sum(counts) ** 2 / (len(counts) * sum(count**2 for count in counts))
    assert len(counts) == 90
    assert jain >= 0.98


async def test_a_users_single_call_precedes_the_further_calls_of_another_user_when_both_wait(
    process: fleet.Process,
) -> None:
    """A user's second queued call stands behind the first call of a user who requests later."""
    await process.learn_routes()
    await use_up_global_budget(process)
    order: list[int] = []

    async def wait(user: int) -> None:
        await process.limiter.take(fleet.charge(user), max_wait=60.0)
        order.append(user)

    tasks = [asyncio.create_task(wait(user)) for user in (1, 1, 1)]
    await asyncio.sleep(0.01)
    tasks.append(asyncio.create_task(wait(2)))
    await asyncio.gather(*tasks)

    assert order == [1, 2, 1, 1]


async def test_the_position_is_kept_when_a_named_waiter_returns_in_time(process: fleet.Process) -> None:
    """A waiter that was refused and returns at the named moment precedes later requests."""
    await process.learn_routes()
    await use_up_global_budget(process)
    named = fleet.charge(1, waiter="job")
    refusal = await process.refused(named)
    later = asyncio.create_task(process.limiter.take(fleet.charge(2), max_wait=60.0))

    await asyncio.sleep(refusal.retry_after)
    permit = await process.limiter.take(named, max_wait=1.0)

    assert permit.charged_at_ms <= (await later).charged_at_ms


async def test_the_position_is_dropped_when_the_waiter_does_not_return(process: fleet.Process) -> None:
    """The position of an absent waiter is dropped half a second after its moment, and the next one gets the permit."""
    await process.learn_routes()
    permits = [await process.take(fleet.charge(user)) for user in range(100, 150)]
    absent = asyncio.create_task(process.limiter.take(fleet.charge(1), max_wait=60.0))
    await asyncio.sleep(0.01)
    absent.cancel()
    for permit in permits[:1]:
        await process.settle(permit)

    permit = await process.limiter.take(fleet.charge(2), max_wait=60.0)

    # The settled permit is free after 1.1 s, the next ones after 13 s.
    assert permit.taken_at - permits[-1].taken_at < 3.0


async def test_background_is_paced_when_it_begins(process: fleet.Process) -> None:
    """After a few at once, bulk calls go one window's share apart, so that permits are released evenly."""
    await process.learn_routes()
    began = asyncio.get_running_loop().time()

    permits = await asyncio.gather(
        *(process.limiter.take(of, max_wait=5.0) for of in charges_of_users(BACKGROUND, 1, 20))
    )

    last = max(permit.taken_at for permit in permits) - began
    assert last == pytest.approx((20 - 4) * 0.02, abs=0.03)


def charges_of_caller(caller: str, first: int, count: int, lane: model.Lane = BACKGROUND) -> list[limits.Charge]:
    """Return charges of *count* users of one caller."""
    return [fleet.charge(user, lane=lane, callers=(caller,)) for user in range(first, first + count)]


@pytest.mark.parametrize("lane", [INTERACTIVE, BACKGROUND])
@pytest.mark.parametrize("light", ["", "a", "z"])
async def test_callers_get_equal_shares_when_one_has_more_users(
    process: fleet.Process, lane: model.Lane, light: str
) -> None:
    """A caller with 120 users and one with 40 get half each, the unnamed one too, whatever their names."""
    await process.learn_routes()

    grants = await saturate(
        process, 20.0, *charges_of_caller("heavy", 100, 120, lane), *charges_of_caller(light, 300, 40, lane)
    )

    share = sum(user >= 300 for _, user, _ in grants) / len(grants)
    assert share == pytest.approx(0.5, abs=0.03)
    assert len(grants) / 20 >= 46


async def test_a_callers_first_calls_wait_briefly_when_another_has_many_waiters(process: fleet.Process) -> None:
    """A caller that queued nothing waits for a few permits, not for the 200 calls of another."""
    await process.learn_routes()
    heavy = asyncio.create_task(saturate(process, 10.0, *charges_of_caller("heavy", 100, 200)))
    await asyncio.sleep(5.0)
    loop = asyncio.get_running_loop()
    waits = []

    for _ in range(4):
        began = loop.time()
        await process.wait_and_call(fleet.charge(1, lane=BACKGROUND, callers=("light",)))
        waits.append(loop.time() - began - fleet.ROUND_TRIP)

    await heavy
    assert max(waits) < 0.25


async def test_a_caller_gets_no_more_than_its_share_when_it_returns_after_a_pause(process: fleet.Process) -> None:
    """The time without calls earns a caller a few calls, not all that it could have made."""
    await process.learn_routes()
    heavy = asyncio.create_task(saturate(process, 20.5, *charges_of_caller("heavy", 100, 120)))
    await asyncio.sleep(10.0)

    returned = await saturate(process, 10.0, *charges_of_caller("light", 300, 120))

    await heavy
    assert len(returned) / 10 == pytest.approx(24, abs=2.5)


async def test_a_call_for_two_callers_waits_for_the_one_that_is_due_first(process: fleet.Process) -> None:
    """Joining a job makes it no slower: its calls take the turn of the caller that used less."""
    await process.learn_routes()
    heavy = asyncio.create_task(saturate(process, 10.0, *charges_of_caller("heavy", 100, 200)))
    await asyncio.sleep(5.0)
    began = asyncio.get_running_loop().time()

    await process.wait_and_call(fleet.charge(1, lane=BACKGROUND, callers=("heavy", "light")))

    assert asyncio.get_running_loop().time() - began - fleet.ROUND_TRIP < 0.25
    await heavy


async def test_a_callers_position_is_dropped_when_its_waiter_does_not_return(process: fleet.Process) -> None:
    """An absent waiter of a named caller blocks nobody either."""
    await process.learn_routes()
    permits = [await process.take(fleet.charge(user)) for user in range(100, 150)]
    absent = asyncio.create_task(process.limiter.take(fleet.charge(1, callers=("a",)), max_wait=60.0))
    await asyncio.sleep(0.01)
    absent.cancel()
    await process.settle(permits[0])

    permit = await process.limiter.take(fleet.charge(2, callers=("b",)), max_wait=60.0)

    assert permit.taken_at - permits[-1].taken_at < 3.0


async def test_the_keys_of_the_previous_release_hold_no_named_callers_waiters(
    redis_settings: settings.RedisSettings,
) -> None:
    """A process of that release would drop their deadlines and strand their positions for ten minutes."""
    loop = asyncio.get_running_loop()
    with redis.Redis.from_url(redis_settings.url.get_secret_value(), decode_responses=True) as client:
        blocking_client = blocking.as_async(blocking.BlockingClient(client))
        store = redis_store.RedisBudgetStore(blocking_client, "old", clock=loop.time, now=clockwork.running_clock())
        process = fleet.Fleet(store, client.flushdb).process()
        await process.learn_routes()
        await use_up_global_budget(process)

        await process.refused(fleet.charge(1, waiter="job", callers=("a",)))
        await process.refused(fleet.charge(2, waiter="work", callers=()))

        assert client.zrange("{dl:old}:w:1", 0, -1) == ["work"]
        assert client.zrange("{dl:old}:w:deadlines", 0, -1) == ["1 work"]
        assert client.zrange("{dl:old}:w:1:a", 0, -1) == ["job"]


async def test_a_waiter_is_told_when_another_call_used_the_position_that_both_share(shared: fleet.Fleet) -> None:
    """One permit serves both; the other call neither takes one nor queues again."""
    first, second = shared.process(), shared.process()
    await first.learn_routes()
    await second.learn_routes()
    await use_up_global_budget(first)
    same = fleet.charge(1, lane=model.Lane.BACKGROUND, waiter="guild:7", shared=True)
    other = dataclasses.replace(same, user_id=2)

    results = await asyncio.gather(
        first.take(same, max_wait=5.0), second.take(other, max_wait=5.0), return_exceptions=True
    )

    assert {type(result) for result in results} == {limits.Permit, errors.PositionTaken}


async def test_calls_queue_again_when_they_share_no_position(shared: fleet.Fleet) -> None:
    """Each gets a permit, one after the other."""
    first, second = shared.process(), shared.process()
    await first.learn_routes()
    await second.learn_routes()
    await use_up_global_budget(first)
    mine = fleet.charge(1, lane=model.Lane.BACKGROUND, waiter="guild:7")

    permits = await asyncio.gather(first.take(mine, max_wait=5.0), second.take(mine, max_wait=5.0))

    assert len({permit.id for permit in permits}) == 2


async def test_a_call_for_two_callers_leaves_the_positions_of_both(process: fleet.Process) -> None:
    """Calls for one of them each queued under its name before: neither position delays another caller's call."""
    await process.learn_routes()
    await use_up_global_budget(process)
    same = fleet.charge(1, waiter="guild:7", shared=True)
    for caller in ("a", "b"):
        await process.refused(dataclasses.replace(same, callers=(caller,)))
    await process.limiter.take(dataclasses.replace(same, callers=("a", "b")), max_wait=5.0)

    await process.take(fleet.charge(2, callers=("c",)))
