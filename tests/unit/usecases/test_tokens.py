"""A user's pair is renewed ahead of its end, by one of all, and stored before anybody uses it."""

import asyncio

import pytest

from indexing import errors
from indexing.domain import model, ports
from indexing.usecases import tokens as usecases_tokens
from tests import values, worlds

pytestmark = pytest.mark.clockwork

PURPOSE = ports.Purpose(model.Lane.BACKGROUND, values.USER, "job:renew", 1.0)
RENEWED = "access+"


async def world_with(expires_in: float | None, **changes: str) -> worlds.World:
    """Return a world whose application is known, with a user whose pair ends so soon."""
    world = worlds.world()
    world.oauth.enabled = True
    ends = None if expires_in is None else world.clock() + expires_in
    await world.users.put_credential(values.USER, values.credential(expires_at=ends, **changes))
    return world


def renewing(world: worlds.World) -> usecases_tokens.TokenManager:
    """Return one process's use case."""
    return usecases_tokens.TokenManager(world.ports, world.seen)


async def usable(world: worlds.World) -> str:
    """Return the access token that a turn would use."""
    return (await renewing(world).get_usable(values.USER, PURPOSE)).access_token


async def stored(world: worlds.World) -> str:
    """Return the access token that is stored, withheld or not."""
    return (await world.credentials.get(values.USER)).credential.access_token


@pytest.mark.parametrize(
    ("expires_in", "token"),
    [
        pytest.param(None, "access", id="its end is unknown"),
        pytest.param(usecases_tokens.RENEW_AHEAD + 1, "access", id="far from its end"),
        pytest.param(usecases_tokens.RENEW_AHEAD - 1, RENEWED, id="near its end"),
        pytest.param(-1.0, RENEWED, id="expired"),
    ],
)
async def test_the_pair_is_renewed_when_its_end_is_near(expires_in: float | None, token: str) -> None:
    """Ahead of its end, and not before; what is used is what is stored."""
    world = await world_with(expires_in)

    assert await usable(world) == token
    assert await stored(world) == token


async def test_what_the_user_brought_is_used_when_he_logs_in_again_during_the_renewal() -> None:
    """The renewed pair is of a grant that he has replaced: it is dropped, and nobody uses it."""
    world = await world_with(-1.0)

    async def logs_in() -> None:
        await world.users.put_credential(values.USER, values.credential(access_token="brought"))

    world.oauth.before_answer = logs_in

    assert await usable(world) == "brought"
    assert await stored(world) == "brought"


async def test_nothing_is_used_when_the_user_is_gone_after_the_renewal() -> None:
    """A pair that nobody could store is nobody's."""
    world = await world_with(-1.0)

    async def goes() -> None:
        await world.ports.user_data.erase_user(values.USER)

    world.oauth.before_answer = goes

    with pytest.raises(errors.CredentialMissing):
        await usable(world)


@pytest.mark.parametrize("able", [True, False])
async def test_the_old_pair_is_used_when_it_cannot_be_renewed(able: bool) -> None:  # noqa: FBT001 -- a parameter
    """Without a refresh token, or without the application's secret, Discord decides how long it lives."""
    world = await world_with(-1.0, refresh_token="" if able else "refresh")
    world.oauth.enabled = able

    assert await usable(world) == "access"
    assert world.oauth.renewals == []


async def test_one_call_is_made_when_ten_find_the_pair_expired() -> None:
    """Nine wait for the one, and all ten use the pair that he stored."""
    world = await world_with(-1.0)
    world.oauth.latency = 0.7

    tokens = await asyncio.gather(*(usable(world) for _ in range(10)))

    assert tokens == [RENEWED] * 10
    assert world.oauth.renewals == ["refresh"]


async def test_nobody_waits_when_the_pair_still_lives() -> None:
    """While one renews it ahead of its end, the others go on with the old one at once."""
    world = await world_with(usecases_tokens.RENEW_AHEAD / 2)
    world.oauth.latency = 3.0
    first = asyncio.create_task(usable(world))
    await asyncio.sleep(0.1)
    began = world.clock()

    second = await usable(world)

    assert (second, world.clock() - began) == ("access", 0.0)
    assert await first == RENEWED


async def test_the_new_pair_is_stored_before_it_is_used() -> None:
    """While the store is away for a moment nobody has the new pair; then everybody has the same."""
    world = await world_with(-1.0)
    world.credentials.failures = len(usecases_tokens.STORE_RETRIES)

    assert await usable(world) == RENEWED
    assert await stored(world) == RENEWED


async def test_the_new_pair_is_dropped_when_the_store_stays_away() -> None:
    """It is never used; the user must log in again when the lock is over, because the old refresh token is dead."""
    world = await world_with(-1.0)
    world.credentials.failures = len(usecases_tokens.STORE_RETRIES) + 1

    with pytest.raises(errors.StoreUnavailable):
        await usable(world)

    assert await stored(world) == "access"
    with pytest.raises(errors.CredentialBusy):
        await usable(world)
    world.clock.advance(world.oauth.max_call_time + PURPOSE.max_wait + usecases_tokens.LOCK_MARGIN)
    with pytest.raises(errors.ReauthRequired):
        await usable(world)


async def test_the_next_one_renews_when_a_process_died_before_its_call() -> None:
    """Its lock ends, and the refresh token still works: Discord had never got it."""
    world = await world_with(-1.0)
    held = await world.credentials.get(values.USER)
    assert await world.credentials.lock(values.USER, version=held.version, now=world.clock(), until=world.clock() + 3.0)

    assert await usable(world) == RENEWED


async def test_waiting_is_bounded_when_somebody_holds_the_lock_for_long() -> None:
    """Who waited long enough is told when to come again; nothing was asked."""
    world = await world_with(-1.0)
    held = await world.credentials.get(values.USER)
    await world.credentials.lock(values.USER, version=held.version, now=world.clock(), until=world.clock() + 60.0)
    began = world.clock()

    with pytest.raises(errors.CredentialBusy) as busy:
        await usable(world)

    assert (
        usecases_tokens.RENEWAL_WAIT
        <= world.clock() - began
        <= usecases_tokens.RENEWAL_WAIT + usecases_tokens.POLL_INTERVAL
    )
    assert 0 < busy.value.retry_after <= usecases_tokens.RENEWAL_WAIT
    assert world.oauth.renewals == []


async def test_only_the_user_can_help_when_discord_refuses_the_grant() -> None:
    """The refusal is stored, so that nobody asks again."""
    world = await world_with(-1.0)
    world.oauth.fail(errors.GrantRefused(400, 0))

    for _ in range(2):
        with pytest.raises(errors.ReauthRequired):
            await usable(world)

    assert len(world.oauth.renewals) == 1


async def test_a_new_consent_is_used_when_it_comes_while_the_old_one_is_refused() -> None:
    """The refusal is about the old pair and leaves the new one alone."""
    world = await world_with(-1.0)

    async def consents() -> None:
        await world.users.put_credential(values.USER, values.credential(access_token="fresh"))

    world.oauth.before_answer = consents
    world.oauth.fail(errors.GrantRefused(400, 0))

    assert await usable(world) == "fresh"
    assert await stored(world) == "fresh"


@pytest.mark.parametrize(
    ("problem", "rest"),
    [
        pytest.param(errors.DiscordTransient("played"), usecases_tokens.RETRY_PAUSE, id="passing"),
        pytest.param(errors.EgressBlocked(403, 60.0), usecases_tokens.RETRY_PAUSE, id="blocked"),
        pytest.param(errors.ClientRefused(401, 0), usecases_tokens.LONG_RETRY_PAUSE, id="our own secret"),
        pytest.param(errors.RateLimited("global", retry_after=1.0, why="used up"), 0.0, id="no permit"),
    ],
)
async def test_the_old_pair_is_used_when_renewing_fails_ahead_of_its_end(
    problem: errors.IndexerError, rest: float
) -> None:
    """And the next attempt waits: each refusal may count towards the ban line."""
    world = await world_with(usecases_tokens.RENEW_AHEAD - 1)
    world.oauth.fail(problem)

    tokens = [await usable(world)]
    if rest:
        world.clock.advance(rest - 1)
        tokens.append(await usable(world))
        world.clock.advance(1)

    assert set(tokens) == {"access"}
    assert len(world.oauth.renewals) == 1
    world.oauth.renewals.clear()
    assert await usable(world) == RENEWED


async def test_the_failure_is_told_when_the_pair_is_used_up() -> None:
    """A token that is dead by its own date is not sent to Discord; the consent stands."""
    world = await world_with(-1.0)
    world.oauth.fail(errors.DiscordTransient("played"))

    with pytest.raises(errors.DiscordTransient):
        await usable(world)

    assert not (await world.credentials.get(values.USER)).refused


async def test_the_answer_is_kept_when_the_turn_ends_while_it_is_on_its_way() -> None:
    """Cancelling the work that wanted the pair does not lose it."""
    world = await world_with(-1.0)
    world.oauth.latency = 1.0
    work = asyncio.create_task(usable(world))
    await asyncio.sleep(0.5)

    work.cancel()
    await asyncio.sleep(1.0)

    assert work.cancelled()
    assert await stored(world) == RENEWED


async def test_the_stored_pair_is_taken_when_the_refused_one_was_renewed_since() -> None:
    """A 401 for an old token costs no renewal when another process has made one."""
    world = await world_with(None)

    pair = await renewing(world).renew_refused(values.USER, values.credential(access_token="older"), PURPOSE)

    assert (pair.access_token, world.oauth.renewals) == ("access", [])


async def test_a_newer_pair_stays_when_an_older_one_is_refused_for_good() -> None:
    """Noting a second refusal touches only the pair that was refused."""
    world = await world_with(None)

    await renewing(world).mark_refused(values.USER, values.credential(access_token="older"))

    assert not (await world.credentials.get(values.USER)).refused
