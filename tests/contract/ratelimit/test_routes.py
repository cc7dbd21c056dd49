"""Route limits learned from headers: one call at first, then the bucket's own limit, separate guilds once proven."""

import asyncio
from typing import Any

import pytest

from indexing.ratelimit import limiter, limits
from tests.contract.ratelimit import fleet

pytestmark = pytest.mark.clockwork


def no_user(guild: int = 7, **others: Any) -> limits.Charge:  # noqa: ANN401 -- the fields of a charge
    """Return a charge without a user, so that only the route and global budgets limit it."""
    return fleet.charge(None, major=guild, **others)


async def learn_limit(process: fleet.Process, limit: int = 3, window: float = 10.0, *, guilds: int = 2) -> None:
    """Make the first calls of several guilds, each the first of its bucket."""
    for guild in range(1, guilds + 1):
        await process.call(no_user(guild), fleet.headers(limit - 1, limit, window))


async def test_only_one_call_is_in_flight_when_the_route_is_unknown(process: fleet.Process) -> None:
    """Until the first answer the limit is unknown, so one call goes, for any guild."""
    await process.take(no_user(1))

    refusal = await process.refused(no_user(2))

    assert (refusal.budget, refusal.why) == ("route", "probe")
    assert refusal.retry_after <= 0.2


@pytest.mark.parametrize(("waiters", "at_once"), [(limiter.MOST_WOKEN, True), (limiter.MOST_WOKEN + 1, False)])
async def test_few_callers_go_on_at_once_when_their_process_has_the_first_answer(
    process: fleet.Process,
    waiters: int,
    at_once: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """Many wait as long as they were told, so that they do not use up the budget before the next route's first call."""
    clock = asyncio.get_running_loop().time
    first = await process.take(no_user(1))
    waiting = [asyncio.create_task(process.take(no_user(guild), max_wait=1.0)) for guild in range(2, 2 + waiters)]
    await asyncio.sleep(0.02)

    answered = clock()
    await process.settle(first, fleet.headers(49, 50, 10.0))
    await asyncio.gather(*waiting)

    assert (clock() - answered < 0.02) is at_once


async def test_all_processes_use_the_limit_when_one_has_read_the_first_answer(
    process: fleet.Process, shared: fleet.Fleet
) -> None:
    """A limit that one process learns holds for all."""
    other = shared.process()
    await process.call(no_user(1), fleet.headers(9, 10, 10.0))

    for _ in range(9):
        await other.take(no_user(1))

    assert (await other.refused(no_user(1))).budget == "route"


async def test_the_probe_is_repeated_when_its_answer_is_lost(process: fleet.Process) -> None:
    """A first call without an answer does not block the route for ever."""
    await process.take(no_user(1))

    await asyncio.sleep(fleet.MAX_IN_FLIGHT + 5.1)

    await process.take(no_user(1))


async def test_other_routes_are_not_blocked_when_one_is_probed(process: fleet.Process) -> None:
    """Each route is learned separately."""
    await process.take(no_user(1))

    await process.take(no_user(1, route=fleet.GUILDS))


async def test_the_route_has_no_limit_when_answers_carry_no_headers(process: fleet.Process) -> None:
    """Without headers only the user and global budgets limit calls."""
    await process.call(no_user(1))

    for _ in range(40):
        await process.take(no_user(1))


async def test_guilds_share_the_bucket_until_separate_buckets_are_proven(process: fleet.Process) -> None:
    """At first all guilds are charged to one ledger."""
    await process.call(no_user(1), fleet.headers(2, 3, 10.0))
    await process.call(no_user(2), fleet.headers(1, 3, 10.0))
    await process.call(no_user(3), fleet.headers(0, 3, 10.0))

    assert (await process.refused(no_user(4))).budget == "route"


async def test_guilds_have_separate_buckets_when_two_answers_are_each_the_first_of_a_bucket(
    process: fleet.Process,
) -> None:
    """Two guilds that both show one used call before the first one's reset have two buckets."""
    await learn_limit(process)

    for guild in (3, 4, 5, 6):
        for _ in range(3):
            await process.take(no_user(guild))
        assert (await process.refused(no_user(guild))).budget == "route"


async def test_guilds_share_the_bucket_when_the_second_answer_comes_at_the_first_ones_reset(
    process: fleet.Process,
) -> None:
    """Then it may show the first call of the same bucket's next window."""
    first = await process.take(no_user(1))
    await process.settle(first, fleet.headers(1, 2, 1.0))
    second = await process.take(no_user(2))
    await asyncio.sleep(1.0)
    await process.settle(second, fleet.headers(1, 2, 1.0))

    await process.take(no_user(3))

    assert (await process.refused(no_user(4))).budget == "route"


async def test_earlier_calls_of_a_guild_count_when_separate_buckets_are_proven(process: fleet.Process) -> None:
    """Calls made while the guilds shared a ledger are also charged to their own guild's."""
    await learn_limit(process)

    await process.take(no_user(1))
    await process.take(no_user(1))

    assert (await process.refused(no_user(1))).budget == "route"


async def test_all_guilds_are_paused_when_a_429_disproves_separate_buckets(process: fleet.Process) -> None:
    """After a 429 of scope user, guilds share the bucket until headers prove separate buckets again."""
    await learn_limit(process, 100, 10.0)
    seen = fleet.headers(0, 100, 3.0) | {"x-ratelimit-scope": "user", "retry-after": "3"}
    await fleet.settle_429(process, seen, of=no_user(1))

    assert (await process.refused(no_user(2))).why == "pause"
    await asyncio.sleep(3.1)
    await process.take(no_user(2))


async def test_a_smaller_limit_applies_at_once_when_an_answer_shows_it(process: fleet.Process) -> None:
    """Discord may lower a limit at any time; it applies to the next call."""
    await learn_limit(process, 10, 10.0)
    await process.call(no_user(5), fleet.headers(1, 2, 10.0))

    await process.take(no_user(5))

    assert (await process.refused(no_user(5))).budget == "route"


async def test_a_larger_limit_applies_only_when_fifty_consecutive_answers_show_it(process: fleet.Process) -> None:
    """One generous answer proves nothing."""
    await learn_limit(process, 2, 10.0)
    await process.call(no_user(5), fleet.headers(9, 10, 10.0))
    await process.take(no_user(5))
    assert (await process.refused(no_user(5))).budget == "route"

    for guild in range(100, 150):
        await process.call(no_user(guild), fleet.headers(9, 10, 10.0))

    for _ in range(10):
        await process.take(no_user(6))


async def test_a_longer_window_applies_at_once_when_an_answer_shows_it(process: fleet.Process) -> None:
    """The window is the longest time to a reset in any answer."""
    await learn_limit(process, 3, 1.0)
    await process.call(no_user(5), fleet.headers(2, 3, 8.0))
    await process.call(no_user(5), fleet.headers(1, 3, 8.0))
    await process.call(no_user(5), fleet.headers(0, 3, 8.0))

    refusal = await process.refused(no_user(5))

    assert refusal.retry_after == pytest.approx(8.0 - 0.2, abs=0.1)


async def test_foreign_calls_hold_permits_when_the_headers_count_them(process: fleet.Process) -> None:
    """Four calls remain where the fleet made one: foreign usage made the others."""
    await learn_limit(process, 10, 10.0)
    await process.call(no_user(5), fleet.headers(4, 10, 10.0))

    for _ in range(5):
        await process.take(no_user(5))

    assert (await process.refused(no_user(5))).budget == "route"
    assert process.value("indexer_ratelimit_foreign_use_total") == 4


async def test_no_call_is_foreign_when_the_fleet_made_all_that_the_headers_count(process: fleet.Process) -> None:
    """Permits that were held when a call was charged may be free again before its answer arrives."""
    await learn_limit(process, 10, 1.0)
    first, second, third = [await process.take(no_user(5)) for _ in range(3)]
    await process.settle(first)
    await process.settle(second)
    await asyncio.sleep(2.0)

    await process.settle(third, fleet.headers(7, 10, 1.0))

    assert process.value("indexer_ratelimit_foreign_use_total") == 0


@pytest.mark.parametrize(
    "broken",
    [
        {"x-ratelimit-limit": "0"},
        {"x-ratelimit-remaining": "many"},
        {"x-ratelimit-reset-after": "nan"},
        {"x-ratelimit-bucket": "a b"},
        {"x-ratelimit-remaining": "99"},
    ],
    ids=lambda broken: str(next(iter(broken.items()))),
)
async def test_headers_count_as_absent_when_they_are_invalid(process: fleet.Process, broken: dict[str, str]) -> None:
    """Invalid headers neither break the limiter nor change a limit."""
    permit = await process.take(no_user())

    await process.limiter.settle(permit, limiter.Answer(200, fleet.headers(2, 3) | broken, fleet.ROUND_TRIP))

    for _ in range(10):
        await process.take(no_user())


async def test_users_do_not_share_route_budgets_when_they_call_with_their_own_tokens(process: fleet.Process) -> None:
    """Each token has a route budget of its own; its size is learned once for all users."""
    first = fleet.charge(1, route=fleet.GUILDS, identity="user:1", major=None)
    second = fleet.charge(2, route=fleet.GUILDS, identity="user:2", major=None)
    await process.call(first, fleet.headers(1, 2, 10.0))
    await process.take(first)

    assert (await process.refused(first)).budget == "route"
    await process.take(second)
    await process.take(second)


async def test_a_route_keeps_its_limit_when_an_answer_has_no_headers(process: fleet.Process) -> None:
    """One answer without them proves nothing about a limit that others have shown."""
    await learn_limit(process, limit=2, guilds=1)
    await asyncio.sleep(60)
    await process.call(no_user(1))
    await asyncio.sleep(60)

    for _ in range(2):
        await process.take(no_user(1))

    assert (await process.refused(no_user(1))).budget == "route"


async def test_a_route_stays_unknown_when_discord_did_not_handle_its_first_call(process: fleet.Process) -> None:
    """A failure without headers does not say that there is no limit: one call finds out."""
    permit = await process.take(no_user(1))
    await process.settle(permit, status=503)
    await asyncio.sleep(60)

    await process.take(no_user(1))

    assert (await process.refused(no_user(2))).why == "probe"
