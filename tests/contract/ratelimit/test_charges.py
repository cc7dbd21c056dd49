"""Which budgets a call takes a permit of: calls with a user's own token, and reads that charge no user."""

import asyncio
import dataclasses

import pytest

from indexing.domain import model
from indexing.ratelimit import limiter
from tests.contract.ratelimit import fleet

pytestmark = pytest.mark.clockwork
OWN = fleet.charge(1, route=fleet.GUILDS, identity="user:1", major=None)
BACKGROUND = fleet.charge(1, route=fleet.GUILDS, identity="user:1", major=None, lane=model.Lane.BACKGROUND)


@pytest.fixture
async def apart(shared: fleet.Fleet) -> fleet.Process:
    """A process whose calls with a user's own token take no permit of the global budget."""
    return shared.process(global_budget_user_tokens=False)


async def use_up_the_global_budget(process: fleet.Process) -> None:
    """Take all fifty permits with the bot's token, 20 ms apart."""
    for _ in range(50):
        await process.take(fleet.charge(None))
        await asyncio.sleep(0.02)


async def free(process: fleet.Process) -> int:
    """Return the free permits of the global budget."""
    return (await process.limiter.snapshot())[0].free


async def test_a_users_own_token_takes_a_permit_of_the_global_budget_by_default(process: fleet.Process) -> None:
    """The safe reading of Discord's documents is the default."""
    await process.learn_routes()
    await process.learn_routes(fleet.GUILDS, identity="user:1")

    await process.take(OWN)

    assert await free(process) == 49


async def test_a_users_own_token_is_granted_when_the_global_budget_is_used_up_and_does_not_cover_it(
    apart: fleet.Process,
) -> None:
    """Fifty calls of the bot leave all of the user's own permits."""
    await apart.learn_routes()
    await apart.learn_routes(fleet.GUILDS, identity="user:1")
    await use_up_the_global_budget(apart)

    for _ in range(5):
        await apart.take(OWN)

    assert ((await apart.refused(OWN)).budget, await free(apart)) == ("user", 0)
    assert apart.value("indexer_ratelimit_share_left_ratio_count", budget="global") == 51  # one to learn the route


async def test_the_bot_keeps_all_of_its_budget_when_users_tokens_are_not_covered(apart: fleet.Process) -> None:
    """Calls of sixty users leave the bot's fifty permits, also once they are settled."""
    await apart.learn_routes()
    await apart.learn_routes(fleet.GUILDS, identity="user:1")
    for user_id in range(1, 61):
        await apart.call(fleet.charge(user_id, route=fleet.GUILDS, identity=f"user:{user_id}", major=None))

    assert await free(apart) == 50


async def test_bulk_calls_with_a_users_token_are_not_paced_when_the_global_budget_does_not_cover_them(
    apart: fleet.Process,
) -> None:
    """Five background calls go at once, and leave the pace of the bot's background calls as it was."""
    await apart.learn_routes()
    await apart.learn_routes(fleet.GUILDS, identity="user:1")
    for _ in range(5):
        await apart.take(BACKGROUND)

    for _ in range(4):
        await apart.take(fleet.charge(None, lane=model.Lane.BACKGROUND))

    # Three at once and then one each 1/50 s.
    refusal = await apart.refused(fleet.charge(None, lane=model.Lane.BACKGROUND))
    assert refusal.retry_after == pytest.approx(0.02, abs=0.006)


async def test_the_pace_stays_when_an_uncovered_permit_is_given_back(apart: fleet.Process) -> None:
    """Giving back what took nothing gives nothing."""
    await apart.learn_routes()
    await apart.learn_routes(fleet.GUILDS, identity="user:1")
    permits = [await apart.take(BACKGROUND) for _ in range(5)]
    for _ in range(4):
        await apart.take(fleet.charge(None, lane=model.Lane.BACKGROUND))

    for permit in permits:
        await apart.limiter.give_back(permit)

    refusal = await apart.refused(fleet.charge(None, lane=model.Lane.BACKGROUND))
    assert refusal.retry_after == pytest.approx(0.02, abs=0.006)
    await apart.take(BACKGROUND)


async def test_the_hold_stops_an_uncovered_call_when_state_was_lost(shared: fleet.Fleet) -> None:
    """The user's budget was lost as well."""
    apart = shared.process(global_budget_user_tokens=False, limiter_hold=7.0)
    await apart.limiter.warm_up()

    refusal = await apart.refused(OWN)

    assert (refusal.budget, refusal.why) == ("global", "hold")
    await asyncio.sleep(7.0)
    await apart.take(OWN)


async def test_nobody_waits_behind_an_uncovered_call_when_a_stop_ends(shared: fleet.Fleet) -> None:
    """Waiters of the global budget return one by one; an uncovered call is not among them."""
    apart = shared.process(global_budget_user_tokens=False, limiter_hold=7.0)
    await apart.limiter.warm_up()
    await apart.refused(dataclasses.replace(OWN, waiter="job a"))

    assert (await apart.refused(fleet.charge(2))).retry_after == pytest.approx(7.0, abs=0.003)


@pytest.mark.parametrize(
    ("seen", "body_global", "is_discord", "why"),
    [
        ({"x-ratelimit-scope": "global", "retry-after": "70"}, True, True, ("global", "pause")),
        ({"retry-after": "70"}, False, False, ("egress", "pause")),
    ],
    ids=["the bot's global 429", "the edge"],
)
async def test_pauses_stop_an_uncovered_call(
    apart: fleet.Process, seen: dict[str, str], *, body_global: bool, is_discord: bool, why: tuple[str, str]
) -> None:
    """A global 429 of the bot and a block of the address stop everything."""
    await apart.learn_routes()
    await apart.learn_routes(fleet.GUILDS, identity="user:1")
    permit = await apart.take(fleet.charge(None))
    answer = limiter.Answer(429, seen, fleet.ROUND_TRIP, body_global=body_global, is_discord=is_discord)
    await apart.limiter.settle(permit, answer)

    refusal = await apart.refused(OWN)

    assert (refusal.budget, refusal.why) == why
    await asyncio.sleep(70.3)
    await apart.take(OWN)


async def test_the_breaker_stops_an_uncovered_bulk_call(shared: fleet.Fleet) -> None:
    """Invalid answers count by address, whichever token they are for."""
    apart = shared.process(global_budget_user_tokens=False, limiter_stop_bulk=0.0001)
    await apart.learn_routes(fleet.GUILDS, identity="user:1")
    await apart.settle(await apart.take(OWN), status=401)

    refusal = await apart.refused(BACKGROUND)

    assert (refusal.budget, refusal.why) == ("egress", "breaker")
    await apart.take(OWN)


async def test_processes_with_both_settings_share_a_fleet(process: fleet.Process, apart: fleet.Process) -> None:
    """Each process charges by its own setting, the other settles and grants as before."""
    await process.learn_routes()
    await process.learn_routes(fleet.GUILDS, identity="user:1")
    mine, theirs = await process.take(OWN), await apart.take(OWN)
    assert await free(apart) == 49

    await process.settle(theirs)
    await apart.settle(mine)
    await asyncio.sleep(1.1)

    assert await free(process) == 50
    # Both count for the user, for five seconds.
    assert (await apart.limiter.snapshot([1]))[2].free == 3


async def test_a_position_in_the_global_queue_is_left_when_its_waiter_gets_an_uncovered_permit(
    process: fleet.Process, apart: fleet.Process
) -> None:
    """Nobody waits behind a caller that was served elsewhere."""
    await process.learn_routes()
    await process.learn_routes(fleet.GUILDS, identity="user:1")
    for _ in range(50):
        permit = await process.take(fleet.charge(None))
        await asyncio.sleep(0.01)
        await process.settle(permit)
    named = dataclasses.replace(OWN, waiter="job a")
    assert (await process.refused(named)).budget == "global"
    behind = await process.refused(fleet.charge(2))

    await apart.take(named)

    # Permits are free 10 ms apart.
    first = await process.refused(fleet.charge(2))
    assert behind.retry_after - first.retry_after == pytest.approx(0.01, abs=0.003)


async def test_a_read_takes_nothing_of_the_users_budget_when_it_does_not_charge_it(process: fleet.Process) -> None:
    """A user whose permits are all taken still gets the bot's reads, as many as the global budget has."""
    await process.learn_routes()
    for _ in range(5):
        await process.take()
    await process.refused()

    for _ in range(45):
        await process.take(fleet.charge(charges_user=False))

    assert (await process.refused(fleet.charge(charges_user=False))).budget == "global"
    assert (await process.limiter.snapshot([1]))[2].free == 0
    assert process.value("indexer_ratelimit_share_left_ratio_count", budget="user") == 5


async def test_users_take_turns_when_their_reads_do_not_charge_their_budgets(process: fleet.Process) -> None:
    """A user with one read is not behind all reads of a user with many."""
    await process.learn_routes()
    await use_up_the_global_budget(process)
    order: list[int] = []

    async def read(user_id: int, number: int) -> None:
        await process.take(fleet.charge(user_id, charges_user=False, waiter=f"{user_id}:{number}"), max_wait=60.0)
        order.append(user_id)

    async with asyncio.TaskGroup() as group:
        for number in range(60):
            group.create_task(read(1, number))
        await asyncio.sleep(0.5)
        group.create_task(read(2, 0))

    assert len(order) == 61
    assert order.index(2) <= 2
