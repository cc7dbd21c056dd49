"""Holds and pauses: lost state, Discord's 429s, blocks by the edge, too many invalid answers."""

import asyncio

import pytest

from indexing import errors
from indexing.domain import model
from indexing.ratelimit import limiter, limits
from tests.contract.ratelimit import fleet

pytestmark = pytest.mark.clockwork
RETRY = {"retry-after": "3"}


def scope(name: str) -> dict[str, str]:
    """Return the headers of a 429 that pauses *name* for three seconds."""
    return RETRY | {"x-ratelimit-scope": name}


async def test_no_permit_is_granted_for_the_longest_window_and_call_when_the_state_is_new(shared: fleet.Fleet) -> None:
    """Budgets of unknown state may be used up: the default hold is the longest window plus the longest call."""
    process = shared.process(limiter_hold=None)

    refusal = await process.refused()

    assert (refusal.budget, refusal.why) == ("global", "hold")
    assert refusal.retry_after == pytest.approx(5.0 + fleet.MAX_IN_FLIGHT, abs=0.01)


async def test_the_hold_begins_at_boot_when_the_process_warms_up(shared: fleet.Fleet) -> None:
    """The hold runs while the rest of the process boots."""
    process = shared.process(limiter_hold=1.0)
    await process.limiter.warm_up()

    await asyncio.sleep(1.0)

    await process.take()


async def test_there_is_one_hold_for_all_users_when_it_is_over(shared: fleet.Fleet) -> None:
    """After the hold, a user without calls has a full budget."""
    process = shared.process(limiter_hold=1.0)
    await process.limiter.warm_up()
    await asyncio.sleep(1.0)
    await process.learn_routes()

    for user in range(5):
        await process.take(fleet.charge(user))


async def test_no_permit_is_granted_for_the_hold_when_the_store_lost_its_state(shared: fleet.Fleet) -> None:
    """A flushed store does not cause a burst."""
    process = shared.process(limiter_hold=4.0)
    await process.limiter.warm_up()
    await asyncio.sleep(4.0)
    await process.learn_routes()
    shared.lose()

    refusal = await process.refused()

    assert refusal.why == "hold"
    assert refusal.retry_after == pytest.approx(4.0, abs=0.1)


async def test_all_processes_stop_at_once_when_discord_names_the_global_scope(
    process: fleet.Process, shared: fleet.Fleet
) -> None:
    """A global 429 pauses the fleet, a little longer than Discord asks."""
    await process.learn_routes()
    other = shared.process()
    await fleet.settle_429(process, scope("global"))

    refusal = await other.refused(fleet.charge(2))

    assert (refusal.budget, refusal.why) == ("global", "pause")
    assert refusal.retry_after == pytest.approx(3.25, abs=0.01)


async def test_the_bodys_retry_after_is_used_when_the_header_differs(process: fleet.Process) -> None:
    """`retry_after` in the body is exact; the header is rounded up."""
    await process.learn_routes()
    await fleet.settle_429(process, scope("global"), retry_after=1.5)

    assert (await process.refused()).retry_after == pytest.approx(1.75, abs=0.01)


async def test_capacity_ramps_up_from_half_when_a_global_pause_is_over(process: fleet.Process) -> None:
    """After a pause capacity is half, and full five seconds later; both minus the permits left to foreign usage."""
    await process.learn_routes()
    await fleet.settle_429(process, scope("global"))
    await asyncio.sleep(3.26)

    first = await granted_at_once(process)
    await asyncio.sleep(60.0)
    later = await granted_at_once(process)

    assert first == 20
    assert later == 47


async def test_more_permits_are_left_to_foreign_usage_when_a_global_429_comes_at_the_end_of_the_pause(
    process: fleet.Process,
) -> None:
    """The pause is over at its last moment, and was not enough: five permits for the first 429, ten for the second."""
    await process.learn_routes()
    late = await process.take()
    await fleet.settle_429(process, scope("global") | {"retry-after": "1"})
    await asyncio.sleep(1.25)
    await process.limiter.settle(late, limiter.Answer(429, scope("global"), fleet.ROUND_TRIP, body_global=True))
    await asyncio.sleep(20.0)

    assert await granted_at_once(process) == 35


async def granted_at_once(process: fleet.Process) -> int:
    """Return how many interactive permits are free now, each for another user."""
    for count in range(100):
        try:
            await process.take(fleet.charge(1000 + count))
        except errors.RateLimited:
            return count
    raise AssertionError("the budget has no end")


async def test_only_the_user_is_paused_when_their_own_token_is_limited_globally(process: fleet.Process) -> None:
    """A global 429 of a user's token does not pause the bot's."""
    own = fleet.charge(1, route=fleet.GUILDS, identity="user:1", major=None)
    await process.learn_routes()
    await process.learn_routes(fleet.GUILDS, identity="user:9")
    await fleet.settle_429(process, scope("global"), of=own)

    assert (await process.refused(own)).budget == "user"
    await process.take(fleet.charge(2))


async def test_the_claimed_user_is_not_paused_when_an_unproven_token_is_limited_globally(
    process: fleet.Process,
) -> None:
    """A caller may store anybody's token under a user's id; only calls with that token wait."""
    await process.learn_routes()
    await process.learn_routes(fleet.GUILDS, identity="user:9")
    await process.learn_routes("GET /oauth2/@me", identity="proof:9")
    proof = fleet.charge(1, route="GET /oauth2/@me", identity="proof:1", major=None)
    await fleet.settle_429(process, scope("global"), of=proof)

    assert (await process.refused(proof)).budget == "route"
    await process.take(fleet.charge(1, route=fleet.GUILDS, identity="user:1", major=None))
    await process.take(fleet.charge(2, route="GET /oauth2/@me", identity="proof:2", major=None))


async def test_only_the_route_of_the_guild_is_paused_when_the_scope_is_user(process: fleet.Process) -> None:
    """A 429 of scope user pauses the bucket, not the token."""
    seen = fleet.headers(999)
    await process.call(fleet.charge(None, major=1), seen)
    await process.call(fleet.charge(None, major=2), seen)
    await process.call(fleet.charge(None, major=3, route=fleet.GUILDS))
    await fleet.settle_429(process, scope("user") | seen, of=fleet.charge(None, major=1))

    refusal = await process.refused(fleet.charge(None, major=1))

    assert (refusal.budget, refusal.why) == ("route", "pause")
    assert refusal.retry_after == pytest.approx(3.0, abs=0.01)
    await process.take(fleet.charge(None, route=fleet.GUILDS))


async def test_the_route_is_paused_and_nothing_is_counted_when_the_scope_is_shared(process: fleet.Process) -> None:
    """A shared 429 pauses the route and does not count towards the invalid-request limit."""
    await process.learn_routes()
    await fleet.settle_429(process, scope("shared"))

    refusal = await process.refused(fleet.charge(2))

    assert (refusal.budget, refusal.why) == ("route", "shared")
    assert (await process.limiter.snapshot())[1].free == limits.INVALID_REQUEST_LIMIT.capacity


async def test_all_calls_of_the_address_stop_when_the_edge_blocks(process: fleet.Process) -> None:
    """A 403 that is not Discord's JSON stops all calls for at least a minute."""
    await process.learn_routes()
    permit = await process.take()
    await process.limiter.settle(permit, limiter.Answer(403, {}, fleet.ROUND_TRIP, is_discord=False))

    refusal = await process.refused(fleet.charge(2))

    assert (refusal.budget, refusal.why) == ("egress", "pause")
    assert refusal.retry_after == pytest.approx(60.0, abs=0.01)
    assert process.value("indexer_discord_rate_limited_total", scope="egress") == 1


async def test_the_pause_doubles_when_a_429_names_no_wait(process: fleet.Process) -> None:
    """Without a wait in the answers, the pause is one second, then two."""
    await process.learn_routes()
    await fleet.settle_429(process, {"x-ratelimit-scope": "user"})
    first = await process.refused()
    await asyncio.sleep(1.01)
    await fleet.settle_429(process, {"x-ratelimit-scope": "user"})

    assert first.retry_after == pytest.approx(1.0, abs=0.01)
    assert (await process.refused()).retry_after == pytest.approx(2.0, abs=0.01)


async def settle_403s(process: fleet.Process, count: int) -> None:
    """Settle *count* permits with a 403 of Discord itself."""
    for _ in range(count):
        permit = await process.take(fleet.charge(None))
        await process.limiter.settle(permit, limiter.Answer(403, {}, 0.01))
        await asyncio.sleep(0.05)


async def test_background_and_refresh_stop_at_their_share_of_the_invalid_request_limit(shared: fleet.Fleet) -> None:
    """From LIMITER_STOP_BULK on, only interactive calls are made."""
    process = shared.process(limiter_stop_bulk=0.003, limiter_stop_all=0.006)
    await process.learn_routes()

    await settle_403s(process, 30)

    for lane in (model.Lane.BACKGROUND, model.Lane.REFRESH):
        refusal = await process.refused(fleet.charge(2, lane=lane))
        assert (refusal.budget, refusal.why) == ("egress", "breaker")
    await process.take(fleet.charge(2))


async def test_all_lanes_stop_with_a_reason_at_their_share_of_the_invalid_request_limit(shared: fleet.Fleet) -> None:
    """From LIMITER_STOP_ALL on, no call is made until enough of the answers are ten minutes old."""
    process = shared.process(limiter_stop_bulk=0.003, limiter_stop_all=0.006)
    await process.learn_routes()

    await settle_403s(process, 60)

    refusal = await process.refused(fleet.charge(2))
    state = (await process.limiter.snapshot())[0]
    assert (refusal.budget, refusal.why) == ("egress", "breaker")
    assert 500 < refusal.retry_after <= 600
    assert (state.free, state.reason) == (0, "breaker")
    await asyncio.sleep(refusal.retry_after)
    await process.take(fleet.charge(2))


async def test_only_401_403_and_429_count_towards_the_invalid_request_limit(process: fleet.Process) -> None:
    """A 404 does not count."""
    await process.learn_routes()
    for status, left in ((404, 10_000), (401, 9_999), (403, 9_998)):
        await process.settle(await process.take(), status=status)

        assert (await process.limiter.snapshot())[1].free == left


async def test_the_length_of_a_pause_is_observed_when_discord_requests_one(process: fleet.Process) -> None:
    """Operators see the lengths of pauses, by scope."""
    await process.learn_routes()

    await fleet.settle_429(process, scope("shared"))

    assert process.value("indexer_ratelimit_pause_seconds_sum", scope="shared") == 3.0


@pytest.mark.parametrize("paused_by", ["user", "shared"])
async def test_a_used_budget_stays_used_when_another_is_paused(process: fleet.Process, paused_by: str) -> None:
    """A pause is noted beside the permits of its own budget, and frees none of another."""
    await process.learn_routes(fleet.CHANNELS, fleet.GUILDS)
    await fleet.settle_429(process, scope(paused_by), of=fleet.charge(None, route=fleet.GUILDS))

    for _ in range(5):
        await process.take(fleet.charge(1))

    assert (await process.refused(fleet.charge(1))).budget == "user"
