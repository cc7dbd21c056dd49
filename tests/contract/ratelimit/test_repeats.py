"""429s that name absurd waits or none, that repeat, and that name another bucket than good answers do."""

import asyncio

import pytest

from indexing import errors
from indexing.domain import model
from indexing.ratelimit import limiter, limits
from tests.contract.ratelimit import fleet

pytestmark = pytest.mark.clockwork
USER = {"x-ratelimit-scope": "user"}
OWN = fleet.charge(1, route=fleet.GUILDS, identity="user:1", major=None)
LIE = fleet.headers(999, 1000, 0.3, bucket="wide")


def guild(number: int, **others: object) -> limits.Charge:
    """Return a read of a guild's channels for nobody."""
    return fleet.charge(None, major=number, **others)


def background(user: int) -> limits.Charge:
    """Return a read of a guild's channels for a job that keeps its queue position."""
    return fleet.charge(user, lane=model.Lane.BACKGROUND, waiter=f"job{user}:guild")


async def refuse(
    process: fleet.Process, of: limits.Charge, seen: dict[str, str] = USER, *, retry_after: float | None = 0.0
) -> None:
    """Make a call that is answered 429."""
    permit = await process.take(of, max_wait=0.0)
    await asyncio.sleep(fleet.ROUND_TRIP)
    body_global = seen.get("x-ratelimit-scope") == "global"
    answer = limiter.Answer(429, seen, fleet.ROUND_TRIP, body_retry_after=retry_after, body_global=body_global)
    await process.limiter.settle(permit, answer)


async def wait_of(process: fleet.Process, of: limits.Charge) -> float:
    """Return a refusal's wait, then let it pass."""
    wait = (await process.refused(of)).retry_after
    await asyncio.sleep(wait + 0.001)
    return wait


async def waits(process: fleet.Process, of: limits.Charge, number: int, **answer: float | None) -> list[int]:
    """Return the waits, in whole seconds, after each of *number* 429s in a row."""
    found = []
    for _ in range(number):
        await refuse(process, of, **answer)  # type: ignore[arg-type]  # retry_after
        found.append(round(await wait_of(process, of)))
    return found


@pytest.mark.parametrize(
    "retry_after", [1e9, 1e300, float("inf"), 10**400, 300.0], ids=["1e9", "1e300", "inf", "huge", "bound"]
)
@pytest.mark.parametrize("scope", ["global", "user", "shared"])
async def test_one_answer_stops_nothing_for_more_than_five_minutes(
    process: fleet.Process, scope: str, retry_after: float
) -> None:
    """Whatever it asks for, and whatever it stops."""
    await process.learn_routes()

    await refuse(process, guild(7), {"x-ratelimit-scope": scope}, retry_after=retry_after)

    assert await wait_of(process, guild(7)) == pytest.approx(300.0, abs=0.01)
    await process.take(guild(7))


@pytest.mark.parametrize(
    "retry_after", [float("nan"), -1.0, True, None, 0.0], ids=["nan", "negative", "bool", "none", "zero"]
)
async def test_a_wait_that_is_no_wait_counts_as_missing(process: fleet.Process, retry_after: float | None) -> None:
    """The header's holds then, or one second."""
    await process.learn_routes()

    await refuse(process, guild(7), USER | {"retry-after": "nonsense"}, retry_after=retry_after)

    assert await wait_of(process, guild(7)) == pytest.approx(1.0, abs=0.01)


async def test_one_call_finds_out_when_a_long_pause_of_the_token_ends(process: fleet.Process) -> None:
    """All others wait for its answer and a second; five seconds later capacity returns."""
    await process.learn_routes()
    await refuse(process, guild(7), {"x-ratelimit-scope": "global"}, retry_after=1e9)
    await asyncio.sleep(300.1)

    probe = await process.take(fleet.charge(1))
    assert (await process.refused(fleet.charge(2))).budget == "global"
    await process.settle(probe)
    await asyncio.sleep(60.0)

    for user_id in range(30):
        await process.take(fleet.charge(user_id))


async def test_waiters_of_a_long_pause_return_as_the_capacity_grows(process: fleet.Process) -> None:
    """
    The capacity of the pause itself, one permit, is not that of the time in which they return.

    Of 50 permits a second 5 are left to foreign usage. From five seconds after the pause on, when the first calls have
    found out, 45 permits a second return evenly over ten seconds: the 101st comes sqrt(20 * 101 / 45) seconds later.
    """
    await process.learn_routes()
    await refuse(process, guild(7), {"x-ratelimit-scope": "global"}, retry_after=1e9)

    waits = [(await process.refused(background(user))).retry_after for user in range(101)]

    assert waits[:3] == pytest.approx([300.0, 301.0, 302.0], abs=0.01)
    assert waits[100] == pytest.approx(300.0 + 5.0 + 6.700, abs=0.01)


async def test_waiters_return_as_the_capacity_grows_when_they_ask_after_a_long_pause(process: fleet.Process) -> None:
    """While one call at a time finds out whether a pause is over, the others do not wait a second for each."""
    await process.learn_routes()
    await refuse(process, guild(7), {"x-ratelimit-scope": "global"}, retry_after=1e9)
    await asyncio.sleep(300.0)
    await process.take(background(0))

    waits = [(await process.refused(background(user))).retry_after for user in range(1, 101)]

    assert max(waits) < 5.0 + 6.8


async def test_one_call_finds_out_when_a_block_of_the_address_ends(process: fleet.Process) -> None:
    """Discord's edge may still refuse, and counts what it refuses."""
    await process.learn_routes()
    permit = await process.take(guild(7))
    await process.limiter.settle(permit, limiter.Answer(429, {}, fleet.ROUND_TRIP, is_discord=False))
    await asyncio.sleep(60.01)

    await process.take(fleet.charge(1))

    assert (await process.refused(fleet.charge(2))).budget == "global"


async def test_one_call_finds_out_when_a_long_pause_of_a_route_ends(process: fleet.Process) -> None:
    """The bucket's other permits are free ten seconds later."""
    seen = fleet.headers(4, 5, 2.0)
    await process.call(guild(7), seen)
    await asyncio.sleep(60.0)
    await refuse(process, guild(7), USER | seen, retry_after=1e9)
    await asyncio.sleep(300.1)

    await process.take(guild(7))
    assert (await process.refused(guild(7))).budget == "route"
    await asyncio.sleep(10.0)

    for _ in range(4):
        await process.take(guild(7))


async def test_a_users_token_has_one_call_when_its_long_pause_ends(process: fleet.Process) -> None:
    """The user's other permits are free ten seconds later."""
    await process.learn_routes(fleet.GUILDS, identity="user:1")
    await refuse(process, OWN, {"x-ratelimit-scope": "global"}, retry_after=1e9)
    await asyncio.sleep(300.1)

    await process.take(OWN)

    assert (await process.refused(OWN)).budget == "user"


@pytest.mark.parametrize("retry_after", [0.0, None], ids=["zero", "missing"])
async def test_the_wait_doubles_when_429s_without_a_wait_repeat(
    process: fleet.Process, retry_after: float | None
) -> None:
    """Up to five minutes."""
    await process.learn_routes()

    found = await waits(process, guild(7), 11, retry_after=retry_after)

    assert found == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]


async def test_the_wait_grows_when_short_waits_repeat_whatever_they_say(process: fleet.Process) -> None:
    """The first is obeyed as it is."""
    await process.learn_routes()

    found = await waits(process, guild(7), 5, retry_after=3.0)

    assert found == [3, 3, 4, 8, 16]


async def test_other_guilds_go_on_when_the_429s_of_one_repeat(process: fleet.Process) -> None:
    """They wait for what the answer says, and not for what its repetition means."""
    await process.learn_routes()
    await waits(process, guild(7), 6)
    await refuse(process, guild(7))

    assert await wait_of(process, guild(8)) == pytest.approx(1.0, abs=0.01)
    for _ in range(20):
        await process.call(guild(8))
    assert (await process.refused(guild(7))).retry_after > 50


async def test_the_wait_is_short_again_when_a_call_succeeded_after_it(process: fleet.Process) -> None:
    """Repetition ends with the first good answer."""
    await process.learn_routes()
    await waits(process, guild(7), 5)

    await process.call(guild(7))

    assert await waits(process, guild(7), 2) == [1, 2]


async def test_the_wait_stays_when_a_success_was_sent_before_it(process: fleet.Process) -> None:
    """A good answer that was under way proves nothing."""
    await process.learn_routes()
    await waits(process, guild(7), 3)
    early = await process.take(guild(7))
    await refuse(process, guild(7))

    await process.settle(early)

    assert await wait_of(process, guild(7)) == pytest.approx(8.0, abs=0.2)


async def test_429s_of_calls_side_by_side_count_once(process: fleet.Process) -> None:
    """Ten calls that were under way together are one refusal."""
    await process.learn_routes()
    permits = [await process.take(guild(7)) for _ in range(10)]

    for permit in permits:
        await process.limiter.settle(permit, limiter.Answer(429, USER, fleet.ROUND_TRIP, body_retry_after=0.0))

    assert await wait_of(process, guild(7)) == pytest.approx(1.0, abs=0.1)
    assert await waits(process, guild(7), 1) == [2]


async def test_the_wait_of_the_token_grows_when_its_global_429s_repeat(process: fleet.Process) -> None:
    """Whichever guilds they are for."""
    await process.learn_routes()
    found = []
    for number in range(5):
        await refuse(process, guild(number), {"x-ratelimit-scope": "global"})
        found.append(await wait_of(process, guild(99)))

    assert found == pytest.approx([1.25, 2.0, 4.0, 8.0, 16.0], abs=0.01)


async def test_the_wait_of_a_users_token_grows_when_its_global_429s_repeat(process: fleet.Process) -> None:
    """All calls charged to the user wait, and no other user's."""
    await process.learn_routes(fleet.CHANNELS)
    await process.learn_routes(fleet.GUILDS, identity="user:1")
    found = []
    for _ in range(4):
        await refuse(process, OWN, {"x-ratelimit-scope": "global"})
        await process.take(fleet.charge(2))
        found.append(await wait_of(process, fleet.charge(1)))

    assert found == pytest.approx([1.25, 2.0, 4.0, 8.0], abs=0.01)


async def test_the_block_of_the_address_grows_when_it_repeats(process: fleet.Process) -> None:
    """A ban lasts longer than a minute, and asking prolongs it."""
    await process.learn_routes()
    found = []
    for number in range(4):
        permit = await process.take(guild(number))
        await process.limiter.settle(permit, limiter.Answer(403, {}, fleet.ROUND_TRIP, is_discord=False))
        found.append(round(await wait_of(process, guild(99))))

    assert found == [60, 120, 240, 300]


async def test_the_wait_is_forgotten_ten_minutes_after_it(process: fleet.Process) -> None:
    """Old refusals say nothing of today."""
    await process.learn_routes()
    await waits(process, guild(7), 5)

    await asyncio.sleep(601.0)

    assert await waits(process, guild(7), 1) == [1]


async def test_the_snapshot_shows_the_grown_wait(process: fleet.Process) -> None:
    """An operator sees which guild waits, and how long."""
    seen = fleet.headers(999)
    await process.call(guild(7), seen)
    for _ in range(5):
        await asyncio.sleep(60.0)
        await refuse(process, guild(7), USER | seen)

    paused = {state.key: round(state.paused_for) for state in await process.limiter.snapshot() if state.kind == "route"}

    assert paused == {f"{fleet.CHANNELS}|bot|7": 16}


async def test_the_snapshot_shows_a_wait_of_a_route_whose_limit_is_unknown(process: fleet.Process) -> None:
    """An operator sees a stop that began with the route's first answer, for as long as it lasts."""
    await refuse(process, guild(7), retry_after=1e9)
    await asyncio.sleep(100.0)

    (route,) = [state for state in await process.limiter.snapshot() if state.kind == "route"]

    assert (route.key, route.free, route.reason) == (f"{fleet.CHANNELS}|bot|7", 0, "pause")
    assert route.paused_for == pytest.approx(200.0, abs=0.01)


async def test_an_erased_users_waits_are_forgotten(process: fleet.Process) -> None:
    """Nothing keeps the id, and the next 429 is the first."""
    await process.learn_routes(fleet.GUILDS, identity="user:1")
    await waits(process, OWN, 4)

    await process.limiter.forget_user(1)

    assert await waits(process, OWN, 1) == [1]


class Route:
    """A route whose good answers name a wide bucket, and only its 429s the true one: five calls in five seconds."""

    def __init__(self) -> None:
        self.calls: list[float] = []
        self.refused: list[float] = []

    async def answer(self, process: fleet.Process, of: limits.Charge) -> None:
        """Make one call as soon as the limiter allows."""
        permit = await process.take(of, max_wait=600.0)
        now = asyncio.get_running_loop().time()
        self.calls = [one for one in self.calls if one > now - 5.0]
        good = len(self.calls) < 5
        reset = 0.0 if good else 5.0 - (now - self.calls[0])
        (self.calls if good else self.refused).append(now)
        await asyncio.sleep(0.02)
        seen = LIE if good else USER | fleet.headers(0, 5, reset, bucket="narrow")
        answer = limiter.Answer(200 if good else 429, seen, 0.02, body_retry_after=None if good else reset)
        await process.limiter.settle(permit, answer)
        await process.limiter.close()


async def test_the_limit_of_a_429_holds_against_good_answers_that_name_another_bucket(process: fleet.Process) -> None:
    """After a few 429s there are no more, although every good answer claims that 999 of 1000 calls are left."""
    route, began = Route(), asyncio.get_running_loop().time()

    async def read(number: int) -> None:
        for call in range(12):
            await route.answer(process, guild(10 * number + call))

    async with asyncio.TaskGroup() as group:
        for number in range(10):
            group.create_task(read(number))

    ended = asyncio.get_running_loop().time()
    assert [at - began for at in route.refused if at - began > 20.0] == []
    assert len(route.refused) <= 20
    assert ended - began == pytest.approx(120.0, rel=0.4)


async def test_the_strictest_of_two_429s_holds_when_they_name_different_buckets(process: fleet.Process) -> None:
    """Fewer calls of the one, and the longer window of the other."""
    listing = fleet.charge(None, route=fleet.GUILDS, major=None)
    await process.call(listing, LIE)
    await refuse(process, listing, USER | fleet.headers(0, 2, 5.0, bucket="narrow"), retry_after=5.0)
    await asyncio.sleep(60.0)
    await refuse(process, listing, USER | fleet.headers(0, 9, 30.0, bucket="slow"), retry_after=5.0)
    await asyncio.sleep(60.0)

    for _ in range(2):
        await process.call(listing, LIE)

    assert await wait_of(process, listing) == pytest.approx(30.0, abs=0.2)


async def test_the_limit_of_a_429_is_given_up_an_hour_later(process: fleet.Process) -> None:
    """Then good answers decide again."""
    await process.call(guild(1), LIE)
    await refuse(process, guild(1), USER | fleet.headers(0, 1, 5.0, bucket="narrow"), retry_after=5.0)
    await asyncio.sleep(60.0)
    await process.call(guild(1), LIE)
    with pytest.raises(errors.RateLimited):
        await process.take(guild(1))

    await asyncio.sleep(3600.0)
    await process.call(guild(1), LIE)

    for _ in range(20):
        await process.take(guild(1))


async def test_a_429_with_permits_left_teaches_no_limit(process: fleet.Process) -> None:
    """It is not the bucket of its headers that was used up."""
    await process.call(guild(1), LIE)
    await refuse(process, guild(1), USER | fleet.headers(3, 5, 5.0, bucket="narrow"), retry_after=1.0)
    await asyncio.sleep(60.0)

    await process.call(guild(1), LIE)

    for _ in range(20):
        await process.take(guild(1))


async def test_a_window_of_headers_is_five_minutes_at_most(process: fleet.Process) -> None:
    """One absurd reset does not stop its route for a day, nor by the calls that it claims of others."""
    listing = fleet.charge(None, route=fleet.GUILDS, major=None)
    await process.call(listing, fleet.headers(0, 3, 1e9))
    await process.take(listing)

    assert 290.0 < await wait_of(process, listing) <= 300.01
    await process.take(listing)
