"""What makes everybody, or somebody, stop: lost state, Discord's 429s, the edge, too many invalid answers."""

import asyncio

import pytest

from indexing import errors
from indexing.domain import model
from indexing.ratelimit import limiter, limits
from tests.contract.ratelimit import fleet

pytestmark = pytest.mark.clockwork
RETRY = {"retry-after": "3"}


def scope(name: str) -> dict[str, str]:
    """Return the headers of a 429 that stops *name* for three seconds."""
    return RETRY | {"x-ratelimit-scope": name}


async def test_nothing_goes_for_the_longest_window_and_call_when_the_state_is_new(shared: fleet.Fleet) -> None:
    """What is not known may be used up: by default the first permit waits for the longest window and call."""
    process = shared.process(limiter_hold=None)

    refusal = await process.refused()

    assert (refusal.budget, refusal.why) == ("global", "hold")
    assert refusal.retry_after == pytest.approx(5.0 + fleet.LOST, abs=0.01)


async def test_the_hold_begins_at_boot_when_the_process_warms_up(shared: fleet.Fleet) -> None:
    """While the rest of the process boots, the hold already runs."""
    process = shared.process(limiter_hold=1.0)
    await process.limiter.warm()

    await asyncio.sleep(1.0)

    await process.take()


async def test_there_is_one_hold_when_many_users_come_after_it(shared: fleet.Fleet) -> None:
    """The hold is the identity's, not each key's: a user who was never seen has a full budget."""
    process = shared.process(limiter_hold=1.0)
    await process.limiter.warm()
    await asyncio.sleep(1.0)
    await process.learn()

    for user in range(5):
        await process.take(fleet.charge(user))


async def test_nothing_goes_for_the_hold_when_the_store_forgot_everything(shared: fleet.Fleet) -> None:
    """A flushed store does not cause a burst."""
    process = shared.process(limiter_hold=4.0)
    await process.limiter.warm()
    await asyncio.sleep(4.0)
    await process.learn()
    shared.lose()

    refusal = await process.refused()

    assert refusal.why == "hold"
    assert refusal.retry_after == pytest.approx(4.0, abs=0.1)


async def test_all_processes_stop_at_once_when_discord_names_the_global_scope(
    process: fleet.Process, shared: fleet.Fleet
) -> None:
    """A global 429 for one is a pause for all, a little longer than asked."""
    await process.learn()
    other = shared.process()
    await fleet.rejected(process, scope("global"))

    refusal = await other.refused(fleet.charge(2))

    assert (refusal.budget, refusal.why) == ("global", "pause")
    assert refusal.retry_after == pytest.approx(3.25, abs=0.01)


async def test_the_body_decides_when_it_and_the_header_differ(process: fleet.Process) -> None:
    """`retry_after` in the body is exact; the header is rounded up."""
    await process.learn()
    await fleet.rejected(process, scope("global"), retry_after=1.5)

    assert (await process.refused()).retry_after == pytest.approx(1.75, abs=0.01)


async def test_half_the_budget_is_given_at_first_when_a_global_pause_is_over(process: fleet.Process) -> None:
    """After a pause the fleet comes back at half speed, and five seconds later at full speed less what others use."""
    await process.learn()
    await fleet.rejected(process, scope("global"))
    await asyncio.sleep(3.26)

    first = await granted_at_once(process)
    await asyncio.sleep(60.0)
    later = await granted_at_once(process)

    assert first == 20
    assert later == 47


async def granted_at_once(process: fleet.Process) -> int:
    """Count the interactive permits that are there now, for other users each."""
    for count in range(100):
        try:
            await process.take(fleet.charge(1000 + count))
        except errors.RateLimited:
            return count
    raise AssertionError("there is no end")


async def test_only_the_user_stops_when_his_own_token_is_limited_globally(process: fleet.Process) -> None:
    """A global 429 for a user's token says nothing of the bot's."""
    own = fleet.charge(1, route=fleet.GUILDS, identity="user:1", major=None)
    await process.learn()
    await process.learn(fleet.GUILDS, identity="user:9")
    await fleet.rejected(process, scope("global"), of=own)

    assert (await process.refused(own)).budget == "user"
    await process.take(fleet.charge(2))


async def test_only_the_route_of_the_guild_stops_when_the_scope_is_user(process: fleet.Process) -> None:
    """A 429 of scope user is about the bucket, not about the token."""
    seen = fleet.headers(999)
    await process.call(fleet.charge(None, major=1), seen)
    await process.call(fleet.charge(None, major=2), seen)
    await process.call(fleet.charge(None, major=3, route=fleet.GUILDS))
    await fleet.rejected(process, scope("user") | seen, of=fleet.charge(None, major=1))

    refusal = await process.refused(fleet.charge(None, major=1))

    assert (refusal.budget, refusal.why) == ("route", "pause")
    assert refusal.retry_after == pytest.approx(3.0, abs=0.01)
    await process.take(fleet.charge(None, route=fleet.GUILDS))


async def test_the_resource_waits_and_nothing_is_counted_when_the_scope_is_shared(process: fleet.Process) -> None:
    """A shared 429 is somebody else's doing: it is waited for, and does not count towards the ban."""
    await process.learn()
    await fleet.rejected(process, scope("shared"))

    refusal = await process.refused(fleet.charge(2))

    assert (refusal.budget, refusal.why) == ("route", "shared")
    assert (await process.limiter.snapshot())[1].free == limits.INVALID.capacity


async def test_everything_behind_the_address_stops_when_the_edge_blocks(process: fleet.Process) -> None:
    """A 403 that is not Discord's JSON stops all calls for at least a minute."""
    await process.learn()
    permit = await process.take()
    await process.limiter.settle(permit, limiter.Answer(403, {}, fleet.TRIP, is_discord=False))

    refusal = await process.refused(fleet.charge(2))

    assert (refusal.budget, refusal.why) == ("egress", "pause")
    assert refusal.retry_after == pytest.approx(60.0, abs=0.01)
    assert process.value("indexer_discord_rate_limited_total", scope="egress") == 1


async def test_the_pause_doubles_when_a_429_names_no_wait(process: fleet.Process) -> None:
    """Without a number the pause is one second, then two."""
    await process.learn()
    await fleet.rejected(process, {"x-ratelimit-scope": "user"})
    first = await process.refused()
    await asyncio.sleep(1.01)
    await fleet.rejected(process, {"x-ratelimit-scope": "user"})

    assert first.retry_after == pytest.approx(1.0, abs=0.01)
    assert (await process.refused()).retry_after == pytest.approx(2.0, abs=0.01)


async def invalid(process: fleet.Process, count: int) -> None:
    """Bring home *count* answers 403 of Discord itself."""
    for _ in range(count):
        permit = await process.take(fleet.charge(None))
        await process.limiter.settle(permit, limiter.Answer(403, {}, 0.01))
        await asyncio.sleep(0.05)


async def test_background_and_refresh_stop_when_five_percent_of_the_ban_line_are_used(shared: fleet.Fleet) -> None:
    """At 500 invalid answers in ten minutes only who is waited for may still call."""
    process = shared.process(limiter_stop_bulk=0.003, limiter_stop_all=0.006)
    await process.learn()

    await invalid(process, 30)

    for lane in (model.Lane.BACKGROUND, model.Lane.REFRESH):
        refusal = await process.refused(fleet.charge(2, lane=lane))
        assert (refusal.budget, refusal.why) == ("egress", "breaker")
    await process.take(fleet.charge(2))


async def test_everything_stops_and_says_why_when_ten_percent_of_the_ban_line_are_used(shared: fleet.Fleet) -> None:
    """At 1,000 invalid answers nothing goes until enough of them are ten minutes old."""
    process = shared.process(limiter_stop_bulk=0.003, limiter_stop_all=0.006)
    await process.learn()

    await invalid(process, 60)

    refusal = await process.refused(fleet.charge(2))
    state = (await process.limiter.snapshot())[0]
    assert (refusal.budget, refusal.why) == ("egress", "breaker")
    assert 500 < refusal.retry_after <= 600
    assert (state.free, state.why) == (0, "breaker")
    await asyncio.sleep(refusal.retry_after)
    await process.take(fleet.charge(2))


async def test_404_is_not_counted_when_it_comes(process: fleet.Process) -> None:
    """Only 401, 403 and 429 bring the ban nearer."""
    await process.learn()
    for status, left in ((404, 10_000), (401, 9_999), (403, 9_998)):
        await process.settle(await process.take(), status=status)

        assert (await process.limiter.snapshot())[1].free == left


async def test_the_length_of_a_pause_is_measured_when_discord_asks_for_one(process: fleet.Process) -> None:
    """Operators see how long Discord made us stop, by scope."""
    await process.learn()

    await fleet.rejected(process, scope("shared"))

    assert process.value("indexer_ratelimit_pause_seconds_sum", scope="shared") == 3.0
