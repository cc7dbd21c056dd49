"""A token pair is renewed before it expires, by one process, and stored before it is used."""

import asyncio

import pytest

from indexing import errors
from indexing.domain import model, ports
from indexing.usecases import tokens as usecases_tokens
from tests import fake_backend, values

pytestmark = pytest.mark.clockwork

PURPOSE = ports.Purpose(model.Lane.BACKGROUND, values.USER, "job:renew", 1.0)
RENEWED = "access+"


async def backend_with(expires_in: float | None, **changes: str) -> fake_backend.FakeBackend:
    """Return a backend with a configured application and a user whose token pair expires after so many seconds."""
    backend = fake_backend.make()
    backend.oauth.enabled = True
    ends = None if expires_in is None else backend.clock() + expires_in
    await backend.users.put_credential(values.USER, values.credential(expires_at=ends, **changes))
    return backend


def renewing(backend: fake_backend.FakeBackend) -> usecases_tokens.TokenManager:
    """Return one process's use case."""
    return usecases_tokens.TokenManager(backend.deps, backend.config, backend.metrics)


async def usable(backend: fake_backend.FakeBackend) -> str:
    """Return the access token that a turn would use."""
    return (await renewing(backend).get_usable(values.USER, PURPOSE)).access_token


async def stored(backend: fake_backend.FakeBackend) -> str:
    """Return the access token that is stored, withheld or not."""
    return (await backend.credentials.get(values.USER)).credential.access_token


@pytest.mark.parametrize(
    ("expires_in", "token"),
    [
        pytest.param(None, "access", id="its end is unknown"),
        pytest.param(usecases_tokens.RENEW_AHEAD + 1, "access", id="far from its end"),
        pytest.param(usecases_tokens.RENEW_AHEAD - 1, RENEWED, id="near its end"),
        pytest.param(-1.0, RENEWED, id="expired"),
    ],
)
async def test_the_pair_is_renewed_when_it_expires_soon(expires_in: float | None, token: str) -> None:
    """Not earlier; the stored pair is the one used."""
    backend = await backend_with(expires_in)

    assert await usable(backend) == token
    assert await stored(backend) == token


async def test_the_new_credential_is_used_when_the_user_logs_in_during_the_renewal() -> None:
    """The renewed pair belongs to a replaced grant: it is dropped and never used."""
    backend = await backend_with(-1.0)

    async def logs_in() -> None:
        await backend.users.put_credential(values.USER, values.credential(access_token="brought"))

    backend.oauth.before_answer = logs_in

    assert await usable(backend) == "brought"
    assert await stored(backend) == "brought"


async def test_no_pair_is_used_when_the_user_is_erased_during_the_renewal() -> None:
    """A pair that cannot be stored is not used."""
    backend = await backend_with(-1.0)

    async def goes() -> None:
        await backend.deps.user_data.erase_user(values.USER)

    backend.oauth.before_answer = goes

    with pytest.raises(errors.CredentialMissing):
        await usable(backend)


@pytest.mark.parametrize("able", [True, False])
async def test_the_old_pair_is_used_when_it_cannot_be_renewed(able: bool) -> None:  # noqa: FBT001 -- a parameter
    """Without a refresh token, or without the application's secret, Discord decides how long it is valid."""
    backend = await backend_with(-1.0, refresh_token="" if able else "refresh")
    backend.oauth.enabled = able

    assert await usable(backend) == "access"
    assert backend.oauth.renewals == []


async def test_one_call_is_made_when_ten_find_the_pair_expired() -> None:
    """Nine wait for the one, and all ten use the pair that it stored."""
    backend = await backend_with(-1.0)
    backend.oauth.latency = 0.7

    tokens = await asyncio.gather(*(usable(backend) for _ in range(10)))

    assert tokens == [RENEWED] * 10
    assert backend.oauth.renewals == ["refresh"]


async def test_no_caller_waits_when_the_pair_is_still_valid() -> None:
    """One caller renews it before it expires; the others continue with the old pair at once."""
    backend = await backend_with(usecases_tokens.RENEW_AHEAD / 2)
    backend.oauth.latency = 3.0
    first = asyncio.create_task(usable(backend))
    await asyncio.sleep(0.1)
    began = backend.clock()

    second = await usable(backend)

    assert (second, backend.clock() - began) == ("access", 0.0)
    assert await first == RENEWED


async def test_the_new_pair_is_stored_before_it_is_used() -> None:
    """While the store is unavailable no caller gets the new pair; afterwards all get the same."""
    backend = await backend_with(-1.0)
    backend.credentials.failures = len(usecases_tokens.STORE_RETRIES)

    assert await usable(backend) == RENEWED
    assert await stored(backend) == RENEWED


async def test_the_new_pair_is_dropped_when_the_store_stays_unavailable() -> None:
    """It is never used; the user must log in again after the lock ends, because the old refresh token is used up."""
    backend = await backend_with(-1.0)
    backend.credentials.failures = len(usecases_tokens.STORE_RETRIES) + 1

    with pytest.raises(errors.StoreUnavailable):
        await usable(backend)

    assert await stored(backend) == "access"
    with pytest.raises(errors.CredentialBusy):
        await usable(backend)
    backend.clock.advance(backend.oauth.max_call_time + PURPOSE.max_wait + usecases_tokens.LOCK_MARGIN)
    with pytest.raises(errors.ReauthRequired):
        await usable(backend)


async def test_another_process_renews_when_one_crashed_before_its_call() -> None:
    """Its lock ends, and the refresh token still works: Discord had never got it."""
    backend = await backend_with(-1.0)
    held = await backend.credentials.get(values.USER)
    assert await backend.credentials.lock(
        values.USER, version=held.version, now=backend.clock(), until=backend.clock() + 3.0
    )

    assert await usable(backend) == RENEWED


async def test_waiting_is_bounded_when_another_process_holds_the_lock_for_long() -> None:
    """The error has the time of the next attempt; no call was made."""
    backend = await backend_with(-1.0)
    held = await backend.credentials.get(values.USER)
    await backend.credentials.lock(values.USER, version=held.version, now=backend.clock(), until=backend.clock() + 60.0)
    began = backend.clock()

    with pytest.raises(errors.CredentialBusy) as busy:
        await usable(backend)

    assert (
        usecases_tokens.RENEWAL_WAIT
        <= backend.clock() - began
        <= usecases_tokens.RENEWAL_WAIT + usecases_tokens.POLL_INTERVAL
    )
    assert 0 < busy.value.retry_after <= usecases_tokens.RENEWAL_WAIT
    assert backend.oauth.renewals == []


async def test_reauth_is_required_when_discord_refuses_the_grant() -> None:
    """The refusal is stored, so that the call is not repeated."""
    backend = await backend_with(-1.0)
    backend.oauth.fail(errors.GrantRefused(400, 0))

    for _ in range(2):
        with pytest.raises(errors.ReauthRequired):
            await usable(backend)

    assert len(backend.oauth.renewals) == 1


async def test_a_new_consent_is_used_when_it_comes_while_the_old_one_is_refused() -> None:
    """The refusal is about the old pair and leaves the new one alone."""
    backend = await backend_with(-1.0)

    async def consents() -> None:
        await backend.users.put_credential(values.USER, values.credential(access_token="fresh"))

    backend.oauth.before_answer = consents
    backend.oauth.fail(errors.GrantRefused(400, 0))

    assert await usable(backend) == "fresh"
    assert await stored(backend) == "fresh"


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
    """And the next attempt waits: each refusal may count towards the invalid-request limit."""
    backend = await backend_with(usecases_tokens.RENEW_AHEAD - 1)
    backend.oauth.fail(problem)

    tokens = [await usable(backend)]
    if rest:
        backend.clock.advance(rest - 1)
        tokens.append(await usable(backend))
        backend.clock.advance(1)

    assert set(tokens) == {"access"}
    assert len(backend.oauth.renewals) == 1
    backend.oauth.renewals.clear()
    assert await usable(backend) == RENEWED


async def test_the_failure_is_raised_when_the_pair_has_expired() -> None:
    """An expired token is not sent to Discord; the consent stays valid."""
    backend = await backend_with(-1.0)
    backend.oauth.fail(errors.DiscordTransient("played"))

    with pytest.raises(errors.DiscordTransient):
        await usable(backend)

    assert not (await backend.credentials.get(values.USER)).refused


async def test_the_response_is_kept_when_the_turn_ends_during_the_call() -> None:
    """Cancelling the caller does not lose the new pair."""
    backend = await backend_with(-1.0)
    backend.oauth.latency = 1.0
    work = asyncio.create_task(usable(backend))
    await asyncio.sleep(0.5)

    work.cancel()
    await asyncio.sleep(1.0)

    assert work.cancelled()
    assert await stored(backend) == RENEWED


async def test_the_stored_pair_is_taken_when_the_refused_one_was_renewed_since() -> None:
    """A 401 for an old token costs no renewal when another process has made one."""
    backend = await backend_with(None)

    pair = await renewing(backend).renew_refused(values.USER, values.credential(access_token="older"), PURPOSE)

    assert (pair.access_token, backend.oauth.renewals) == ("access", [])


async def test_a_newer_pair_stays_when_an_older_one_is_refused_for_good() -> None:
    """A refusal applies only to the refused pair."""
    backend = await backend_with(None)

    with pytest.raises(errors.CredentialBusy):
        await renewing(backend).confirm_refused(values.USER, values.credential(access_token="older"))

    held = await backend.credentials.get(values.USER)
    assert (held.refused, held.doubted_at) == (False, 0.0)


@pytest.mark.parametrize(
    ("pauses", "ends"),
    [
        pytest.param((0.0,), False, id="once"),
        pytest.param((0.0, 0.0), False, id="twice in the same second"),
        pytest.param((0.0, 2.0, 2.0), False, id="three times within the pause"),
        pytest.param((0.0, usecases_tokens.CONFIRMATION_PAUSE), True, id="twice"),
        pytest.param((0.0, 60.0), True, id="a minute later"),
        pytest.param((0.0, usecases_tokens.DOUBT_LIFETIME), False, id="an hour later"),
        pytest.param((0.0, -600.0), False, id="a clock ten minutes behind"),
    ],
)
async def test_the_consent_ends_when_two_refusals_are_some_seconds_apart(
    pauses: tuple[float, ...],
    ends: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """In any process: the first refusal is stored with the pair. Until the second, the job waits."""
    backend = await backend_with(None, refresh_token="")
    raised: list[type[Exception]] = []

    for pause in pauses:
        backend.clock.advance(pause)
        with pytest.raises((errors.CredentialBusy, errors.ReauthRequired)) as problem:
            await renewing(backend).renew_refused(values.USER, values.credential(), PURPOSE)
        raised.append(type(problem.value))

    assert raised == [errors.CredentialBusy] * (len(pauses) - 1) + [
        errors.ReauthRequired if ends else errors.CredentialBusy
    ]
    assert (await backend.credentials.get(values.USER)).refused is ends


async def test_what_is_stored_is_hidden_an_hour_after_discord_refuses_the_grant() -> None:
    """The user may have withdrawn their consent; the setting says how long a new login may take."""
    backend = await backend_with(-1.0)
    backend.oauth.fail(errors.GrantRefused(400, 0))

    with pytest.raises(errors.ReauthRequired):
        await usable(backend)

    user = await backend.users.load(values.USER)
    assert user is not None
    assert user.shown_until == backend.clock() + 3_600.0
