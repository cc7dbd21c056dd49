"""What is learned from the headers: one at a time at first, then by the bucket's own numbers, guild by guild."""

import asyncio
from typing import Any

import pytest

from indexing.ratelimit import limiter, limits
from tests.contract.ratelimit import fleet

pytestmark = pytest.mark.clockwork


def nobody(guild: int = 7, **others: Any) -> limits.Charge:  # noqa: ANN401 -- the fields of a charge
    """Return a charge for no user, so that only route and token limit it."""
    return fleet.charge(None, major=guild, **others)


async def teach(process: fleet.Process, limit: int = 3, window: float = 10.0, *, guilds: int = 2) -> None:
    """Make the first calls of as many guilds, each the first of its bucket."""
    for guild in range(1, guilds + 1):
        await process.call(nobody(guild), fleet.headers(limit - 1, limit, window))


async def test_one_call_goes_when_the_route_was_never_seen(process: fleet.Process) -> None:
    """Until the first answer nothing is known, so the first call goes alone, whichever the guild."""
    await process.take(nobody(1))

    refusal = await process.refused(nobody(2))

    assert (refusal.budget, refusal.why) == ("route", "probe")
    assert refusal.retry_after <= 0.2


async def test_everybody_goes_when_the_first_answer_is_there(process: fleet.Process, shared: fleet.Fleet) -> None:
    """What one process learned, all know."""
    other = shared.process()
    await process.call(nobody(1), fleet.headers(9, 10, 10.0))

    for _ in range(9):
        await other.take(nobody(1))

    assert (await other.refused(nobody(1))).budget == "route"


async def test_the_probe_is_repeated_when_its_answer_is_lost(process: fleet.Process) -> None:
    """A first call that never comes back does not block the route for ever."""
    await process.take(nobody(1))

    await asyncio.sleep(fleet.LOST + 5.1)

    await process.take(nobody(1))


async def test_other_routes_go_when_one_is_probed(process: fleet.Process) -> None:
    """Each route is learned for itself."""
    await process.take(nobody(1))

    await process.take(nobody(1, route=fleet.GUILDS))


async def test_no_limit_is_known_when_answers_carry_no_headers(process: fleet.Process) -> None:
    """Absent headers leave user and token as the limits."""
    await process.call(nobody(1))

    for _ in range(40):
        await process.take(nobody(1))


async def test_guilds_share_the_bucket_until_their_buckets_are_proven_apart(process: fleet.Process) -> None:
    """Guild by guild is only what is usual, so at first the bucket counts for all guilds together."""
    await process.call(nobody(1), fleet.headers(2, 3, 10.0))
    await process.call(nobody(2), fleet.headers(1, 3, 10.0))
    await process.call(nobody(3), fleet.headers(0, 3, 10.0))

    assert (await process.refused(nobody(4))).budget == "route"


async def test_guilds_have_their_own_when_two_answers_are_each_the_first_of_their_bucket(
    process: fleet.Process,
) -> None:
    """Two guilds that both read "one used" before the first could have been reset are two buckets."""
    await teach(process)

    for guild in (3, 4, 5, 6):
        for _ in range(3):
            await process.take(nobody(guild))
        assert (await process.refused(nobody(guild))).budget == "route"


async def test_what_a_guild_used_counts_when_buckets_are_proven_apart(process: fleet.Process) -> None:
    """Calls made while the guilds still shared a bucket count for the guild they were made for."""
    await teach(process)

    await process.take(nobody(1))
    await process.take(nobody(1))

    assert (await process.refused(nobody(1))).budget == "route"


async def test_the_pause_is_the_buckets_when_guilds_were_wrongly_thought_apart(process: fleet.Process) -> None:
    """After a 429 of scope user all guilds wait, until the headers prove again that they need not."""
    await teach(process, 100, 10.0)
    seen = fleet.headers(0, 100, 3.0) | {"x-ratelimit-scope": "user", "retry-after": "3"}
    await fleet.rejected(process, seen, of=nobody(1))

    assert (await process.refused(nobody(2))).why == "pause"
    await asyncio.sleep(3.1)
    await process.take(nobody(2))


async def test_a_smaller_limit_holds_at_once_when_an_answer_shows_it(process: fleet.Process) -> None:
    """Discord may lower a limit at any time; the very next call goes by it."""
    await teach(process, 10, 10.0)
    await process.call(nobody(5), fleet.headers(1, 2, 10.0))

    await process.take(nobody(5))

    assert (await process.refused(nobody(5))).budget == "route"


async def test_a_larger_limit_waits_for_agreement_when_answers_show_it(process: fleet.Process) -> None:
    """One generous answer proves nothing; fifty in a row do."""
    await teach(process, 2, 10.0)
    await process.call(nobody(5), fleet.headers(9, 10, 10.0))
    await process.take(nobody(5))
    assert (await process.refused(nobody(5))).budget == "route"

    for guild in range(100, 150):
        await process.call(nobody(guild), fleet.headers(9, 10, 10.0))

    for _ in range(10):
        await process.take(nobody(6))


async def test_a_longer_window_holds_at_once_when_an_answer_shows_it(process: fleet.Process) -> None:
    """The longest time to a reset that was seen is the window."""
    await teach(process, 3, 1.0)
    await process.call(nobody(5), fleet.headers(2, 3, 8.0))
    await process.call(nobody(5), fleet.headers(1, 3, 8.0))
    await process.call(nobody(5), fleet.headers(0, 3, 8.0))

    refusal = await process.refused(nobody(5))

    assert refusal.retry_after == pytest.approx(8.0 - 0.2, abs=0.1)


async def test_calls_of_others_are_held_like_ours_when_the_headers_show_them(process: fleet.Process) -> None:
    """The server says four are left where we know of one call: somebody else made the others."""
    await teach(process, 10, 10.0)
    await process.call(nobody(5), fleet.headers(4, 10, 10.0))

    for _ in range(5):
        await process.take(nobody(5))

    assert (await process.refused(nobody(5))).budget == "route"
    assert process.value("indexer_ratelimit_foreign_use_total") == 4


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
async def test_headers_are_taken_for_absent_when_they_make_no_sense(
    process: fleet.Process, broken: dict[str, str]
) -> None:
    """Nonsense from outside neither breaks the limiter nor teaches it."""
    permit = await process.take(nobody())

    await process.limiter.settle(permit, limiter.Answer(200, fleet.headers(2, 3) | broken, fleet.TRIP))

    for _ in range(10):
        await process.take(nobody())


async def test_users_do_not_share_route_budgets_when_they_call_with_their_own_tokens(process: fleet.Process) -> None:
    """A route's budget belongs to the identity; what is learned of its size is shared by all users."""
    first = fleet.charge(1, route=fleet.GUILDS, identity="user:1", major=None)
    second = fleet.charge(2, route=fleet.GUILDS, identity="user:2", major=None)
    await process.call(first, fleet.headers(1, 2, 10.0))
    await process.take(first)

    assert (await process.refused(first)).budget == "route"
    await process.take(second)
    await process.take(second)
