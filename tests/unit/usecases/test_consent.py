"""Status and revocation of credentials; a revoked credential is not used any more."""

import pytest

from indexing import errors
from indexing.domain import model, turns
from indexing.usecases import control_credential, control_job
from tests import fake_backend, values

pytestmark = pytest.mark.clockwork
JOB = "a" * 32
GUILDS = [10, 20]


@pytest.fixture
async def backend() -> fake_backend.FakeBackend:
    """One user in two guilds, with a job that has done one of them; the application is known."""
    made = fake_backend.make()
    made.oauth.enabled = True
    await made.add_user([values.user_guild(guild_id) for guild_id in GUILDS])
    await made.start_job()
    await made.turn_runner.run_turn(turns.Turn(JOB, 0), made.turn_limits(first=1))
    return made


def credential_control(backend: fake_backend.FakeBackend) -> control_credential.CredentialControl:
    """Return the use case."""
    return control_credential.CredentialControl(
        backend.deps, backend.config, backend.metrics, control_job.JobControl(backend.deps, backend.config)
    )


async def test_status_is_returned_when_a_credential_is_stored_refused_or_missing(
    backend: fake_backend.FakeBackend,
) -> None:
    """Stored, refused, or not there; with scopes and end, and without a token."""
    case = credential_control(backend)
    ends = backend.clock() + 60.0
    await backend.users.put_credential(values.USER, values.credential(expires_at=ends))

    active = await case.get_status(values.USER)
    version = (await backend.credentials.get(values.USER)).version
    await backend.credentials.mark_refused(values.USER, version=version, shown_until=0.0)
    refused = await case.get_status(values.USER)

    scopes = values.credential().scopes
    assert active == control_credential.CredentialStatus(control_credential.CredentialState.ACTIVE, scopes, ends)
    assert refused == control_credential.CredentialStatus(
        control_credential.CredentialState.REAUTH_REQUIRED, scopes, ends
    )
    assert await case.get_status(values.USER + 1) == control_credential.CredentialStatus(
        control_credential.CredentialState.MISSING
    )


async def test_the_job_fails_when_the_credential_is_revoked(backend: fake_backend.FakeBackend) -> None:
    """The job fails with the reason, completed tasks stay, watchers see it, and no turn continues."""
    revoked = await credential_control(backend).revoke(values.USER)
    asked = len(backend.discord.calls)
    await backend.run_all_turns()

    job = await backend.get_job()
    assert revoked
    assert (job.state, job.reason) == (model.JobState.FAILED, control_credential.CREDENTIAL_REVOKED)
    assert await backend.task_states() == {10: "SUCCEEDED", 20: f"FAILED {control_credential.CREDENTIAL_REVOKED}"}
    assert backend.events.streams[JOB][-1].job == job
    assert len(backend.discord.calls) == asked
    assert backend.oauth.revoked == [values.credential()]
    assert (
        await credential_control(backend).get_status(values.USER)
    ).state is control_credential.CredentialState.MISSING
    with pytest.raises(errors.CredentialMissing):
        await backend.users.credential(values.USER)


@pytest.mark.parametrize(
    "problem",
    [
        errors.DiscordTransient("played"),
        errors.RateLimited("egress", retry_after=60.0, why="breaker"),
        errors.LimiterUnavailable(1.0),
        errors.ClientRefused(401, 0),
    ],
    ids=lambda problem: type(problem).__name__,
)
async def test_the_tokens_are_deleted_when_revocation_at_discord_fails(
    backend: fake_backend.FakeBackend, problem: errors.IndexerError
) -> None:
    """Revocation at Discord is tried once; its failure is returned and the tokens are deleted anyway."""
    backend.oauth.fail(problem)

    assert not await credential_control(backend).revoke(values.USER)

    assert (
        await credential_control(backend).get_status(values.USER)
    ).state is control_credential.CredentialState.MISSING
    assert (await backend.get_job()).reason == control_credential.CREDENTIAL_REVOKED


async def test_revocation_returns_in_time_when_discord_is_slow(backend: fake_backend.FakeBackend) -> None:
    """No caller waits longer than the bound."""
    backend.oauth.latency = 1_000.0
    began = backend.clock()

    assert not await credential_control(backend).revoke(values.USER)

    assert backend.clock() - began <= control_credential.REVOKE_TIMEOUT + 0.1


async def test_revocation_does_nothing_when_there_is_no_credential(backend: fake_backend.FakeBackend) -> None:
    """A second revocation, and one of an unknown user, succeed without a call."""
    await credential_control(backend).revoke(values.USER)
    backend.oauth.revoked.clear()

    again = [await credential_control(backend).revoke(user) for user in (values.USER, values.USER + 1)]

    assert (again, backend.oauth.revoked) == ([False, False], [])


async def test_no_pair_is_stored_when_it_is_revoked_during_its_renewal(backend: fake_backend.FakeBackend) -> None:
    """The renewed pair is dropped, and the turn that wanted it ends the job."""
    await backend.users.put_credential(values.USER, values.credential(expires_at=backend.clock()))

    async def revokes() -> None:
        backend.oauth.before_answer = None
        await credential_control(backend).revoke(values.USER)

    backend.oauth.before_answer = revokes
    await backend.run_all_turns()

    assert backend.oauth.renewals == ["refresh"]
    assert (await backend.get_job()).reason == control_credential.CREDENTIAL_REVOKED
    with pytest.raises(errors.CredentialMissing):
        await backend.users.credential(values.USER)


@pytest.mark.parametrize(("grace", "shown"), [(0.0, False), (60.0, True)])
async def test_what_is_stored_is_hidden_after_the_grace_time_when_it_is_revoked(
    grace: float,
    shown: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """The setting says for how long it is still shown."""
    made = fake_backend.make(revoke_grace=grace)
    await made.add_user([values.user_guild(10)])

    await credential_control(made).revoke(values.USER)

    user = await made.users.load(values.USER)
    assert user is not None
    assert (user.shown_until > made.clock()) == shown
    assert user.shown_until == made.clock() + grace
