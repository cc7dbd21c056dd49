"""A pair that a caller brings is proven to be the user's before it is stored in use."""

import asyncio

import pytest

from indexing import errors
from indexing.domain import model, ports
from indexing.usecases import control_credential, control_job, tokens
from tests import fake_backend, values

pytestmark = pytest.mark.clockwork
OTHER = values.USER + 1
SCOPES = ("guilds", "identify")


@pytest.fixture
async def backend() -> fake_backend.FakeBackend:
    """No user; the application is known."""
    made = fake_backend.make()
    made.oauth.enabled = True
    return made


def case(backend: fake_backend.FakeBackend) -> control_credential.CredentialControl:
    """Return the use case."""
    return control_credential.CredentialControl(
        backend.deps, backend.config, backend.metrics, control_job.JobControl(backend.deps, backend.config)
    )


def describe(backend: fake_backend.FakeBackend, **changes: object) -> None:
    """Let Discord say this of the token."""
    fields: dict[str, object] = {"user_id": values.USER, "ours": True, "scopes": SCOPES, "expires_at": 9e9} | changes
    backend.oauth.authorizations["access"] = ports.Authorization(**fields)  # type: ignore[arg-type]  # by keyword


async def state(backend: fake_backend.FakeBackend, user_id: int = values.USER) -> str:
    """Return the state that callers see."""
    return (await case(backend).get_status(user_id)).state.value


async def test_a_pair_is_stored_with_discords_scopes_and_expiry_when_it_is_the_users(
    backend: fake_backend.FakeBackend,
) -> None:
    """They replace the caller's claims. One call, in the interactive lane, charged to the user."""
    describe(backend)

    verified = await case(backend).put(values.USER, values.credential(scopes=("claimed",), expires_at=None))

    held = await backend.credentials.get(values.USER)
    (purpose,) = backend.oauth.described_for
    assert verified
    assert (held.credential.scopes, held.credential.expires_at, held.proven) == (SCOPES, 9e9, True)
    assert (purpose.lane, purpose.user_id) == (model.Lane.INTERACTIVE, values.USER)
    assert await state(backend) == "ACTIVE"


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        pytest.param({"user_id": OTHER}, errors.CredentialOfAnotherUser, id="another user"),
        pytest.param({"ours": False}, errors.CredentialOfAnotherApplication, id="another application"),
        pytest.param({"user_id": None}, errors.IdentifyScopeMissing, id="no user"),
        pytest.param({"user_id": OTHER, "ours": False}, errors.CredentialOfAnotherApplication, id="both"),
    ],
)
@pytest.mark.parametrize("stored", [False, True], ids=["first", "beside another"])
async def test_nothing_is_stored_when_the_pair_is_not_the_users(
    backend: fake_backend.FakeBackend,
    said: dict[str, object],
    problem: type[Exception],
    stored: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """The pair in use stays; the error does not name the other user."""
    if stored:
        await backend.users.put_credential(values.USER, values.credential(access_token="mine"))
    describe(backend, **said)

    with pytest.raises(problem) as raised:
        await case(backend).put(values.USER, values.credential())

    assert str(OTHER) not in str(raised.value)
    assert await backend.users.exists(values.USER) == stored
    assert values.USER not in backend.users.unproven
    if stored:
        assert await backend.users.credential(values.USER) == values.credential(access_token="mine")


async def test_a_refused_token_is_remembered_when_it_is_put_again(backend: fake_backend.FakeBackend) -> None:
    """For ten minutes, whoever's it is said to be: each 401 counts towards the limit of the whole fleet."""
    control = case(backend)
    backend.oauth.fail(*[errors.TokenRefused(401, 0)] * 2)

    for user_id in (values.USER, OTHER):
        with pytest.raises(errors.CredentialRefused):
            await control.put(user_id, values.credential())
    asked = len(backend.oauth.described)
    backend.clock.advance(control_credential.REFUSED_FOR)

    assert asked == 2
    assert await control.put(values.USER, values.credential())
    assert len(backend.oauth.described) == 3


async def test_a_pair_is_stored_when_discord_refuses_its_token_once(backend: fake_backend.FakeBackend) -> None:
    """One refusal is no proof: a second later, the token is good."""
    backend.oauth.fail(errors.TokenRefused(401, 0))
    began = backend.clock()

    assert await case(backend).put(values.USER, values.credential())

    assert backend.clock() - began >= 1.0
    assert await state(backend) == "ACTIVE"


UNREACHABLE = [
    errors.RateLimited("route", retry_after=3.0, why="429 user"),
    errors.RateLimited("global", retry_after=3.0, why="used up"),
    errors.DiscordTransient("503"),
    errors.EgressBlocked(403, 60.0),
    errors.LimiterUnavailable(1.0),
    errors.DiscordOutage(5.0),
    errors.CredentialUnverifiable(404, 0),
]


@pytest.mark.parametrize("problem", UNREACHABLE, ids=lambda problem: type(problem).__name__)
async def test_a_pair_is_stored_unproven_when_discord_cannot_be_asked(
    backend: fake_backend.FakeBackend, problem: errors.IndexerError
) -> None:
    """The caller is told; a start finds the pair."""
    backend.oauth.fail(problem)

    assert not await case(backend).put(values.USER, values.credential())

    assert await state(backend) == "UNVERIFIED"
    assert await backend.users.credential(values.USER) == values.credential()


async def test_a_pair_is_stored_unproven_when_discord_is_slow(backend: fake_backend.FakeBackend) -> None:
    """The caller waits for two seconds at most."""
    backend.oauth.latency = 60.0
    began = backend.clock()

    assert not await case(backend).put(values.USER, values.credential())

    assert backend.clock() - began <= control_credential.PROOF_TIMEOUT + 0.1


async def test_no_call_is_made_when_the_access_token_has_expired(backend: fake_backend.FakeBackend) -> None:
    """Discord would refuse it; the next turn renews the pair, then proves it."""
    expired = values.credential(expires_at=backend.clock() - 1)

    assert not await case(backend).put(values.USER, expired)

    assert backend.oauth.described == []


async def test_no_call_is_made_when_the_same_proven_pair_is_put_again(backend: fake_backend.FakeBackend) -> None:
    """It stays as it is, renewed or not; another refresh token makes another pair."""
    await backend.users.put_credential(values.USER, values.credential())
    before = await backend.credentials.get(values.USER)

    assert await case(backend).put(values.USER, values.credential(scopes=(), expires_at=1.0))
    assert await backend.credentials.get(values.USER) == before
    assert backend.oauth.described == []

    assert await case(backend).put(values.USER, values.credential(refresh_token="another"))
    assert len(backend.oauth.described) == 1


async def test_the_same_pair_is_proven_when_it_was_refused_or_never_proven(
    backend: fake_backend.FakeBackend,
) -> None:
    """Only a proven pair that is in use needs no call."""
    await backend.users.put_credential(values.USER, values.credential())
    version = (await backend.credentials.get(values.USER)).version
    await backend.credentials.mark_refused(values.USER, version=version, shown_until=0.0)
    backend.users.put_old(OTHER, values.credential())

    assert await case(backend).put(values.USER, values.credential())
    assert await case(backend).put(OTHER, values.credential())

    assert len(backend.oauth.described) == 2


async def test_the_proven_pair_stays_in_use_when_junk_is_put_while_discord_is_slow(
    backend: fake_backend.FakeBackend,
) -> None:
    """Junk ends nobody's work."""
    await backend.users.put_credential(values.USER, values.credential(access_token="mine"))
    backend.oauth.fail(errors.DiscordTransient("503"))

    assert not await case(backend).put(values.USER, values.credential(access_token="junk"))

    held = await backend.credentials.get(values.USER)
    assert (held.credential.access_token, held.proven, held.has_newer) == ("mine", True, True)
    assert await state(backend) == "ACTIVE"


async def test_the_last_of_concurrent_puts_is_in_use_when_all_are_proven(backend: fake_backend.FakeBackend) -> None:
    """Each is one call; nothing is left beside the pair in use."""
    backend.oauth.latency = 0.2
    pairs = [values.credential(access_token=f"token {number}") for number in range(5)]

    await asyncio.gather(*(case(backend).put(values.USER, pair) for pair in pairs))

    held = await backend.credentials.get(values.USER)
    assert (held.credential in pairs, held.proven, held.has_newer) == (True, True, False)
    assert len(backend.oauth.described) == 5


async def test_a_pair_is_not_stored_over_a_newer_one_when_its_put_stood_still(
    backend: fake_backend.FakeBackend,
) -> None:
    """The process was paused between Discord's answer and the write; the caller is told to call again."""

    async def stand_still() -> None:
        await asyncio.sleep(1.5)
        backend.clock.advance(10.0)
        await backend.users.put_credential(values.USER, values.credential(access_token="newer"))

    backend.oauth.before_answer = stand_still

    with pytest.raises(errors.CredentialBusy):
        await case(backend).put(values.USER, values.credential(access_token="late"))

    assert (await backend.credentials.get(values.USER)).credential.access_token == "newer"


async def test_a_list_that_an_unproven_pair_brought_is_emptied_when_another_pair_is_proven(
    backend: fake_backend.FakeBackend,
) -> None:
    """An older release may have stored another user's list; one that a proven pair brought stays."""
    for user_id, proven in ((values.USER, False), (OTHER, True)):
        backend.users.put_old(user_id, values.credential(access_token="old"))
        known = await backend.users.load(user_id)
        assert known is not None
        await backend.users.replace_guild_list(known, [values.user_guild()], backend.clock())
        if not proven:
            backend.users.forget_proof(user_id)
        await case(backend).put(user_id, values.credential(access_token=f"of {user_id}"))

    (mine, others) = [await backend.users.load(user_id) for user_id in (values.USER, OTHER)]
    assert mine is not None
    assert others is not None
    assert (list(mine.memberships), list(others.memberships)) == ([], [values.GUILD])


async def test_a_pair_is_the_callers_when_it_is_put(backend: fake_backend.FakeBackend) -> None:
    """Also after its renewal: its calls take the caller's turn, and what Discord refuses counts for the caller."""
    describe(backend)
    pair = values.credential(brought_by="shop", expires_at=None)

    await case(backend).put(values.USER, pair)
    manager = tokens.TokenManager(backend.deps, backend.config, backend.metrics)
    purpose = ports.Purpose(model.Lane.BACKGROUND, values.USER, "job:renew", 1.0)
    held = await backend.credentials.get(values.USER)
    renewed = await manager.renew_refused(values.USER, held.credential, purpose)

    assert [asked.callers for asked in backend.oauth.described_for] == [("shop",)]
    assert (held.credential.brought_by, renewed.brought_by) == ("shop", "shop")


async def test_nothing_is_stored_when_the_caller_is_stopped(backend: fake_backend.FakeBackend) -> None:
    """Not even unproven: junk put during a stop would be tried after it."""
    backend.oauth.fail(errors.CallerStopped("shop", 500.0))

    with pytest.raises(errors.CallerStopped):
        await case(backend).put(values.USER, values.credential(brought_by="shop"))

    assert await state(backend) == "MISSING"
