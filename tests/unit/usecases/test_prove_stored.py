"""A stored pair that is not proven is proven by the user's next turn, before anything is listed with it."""

import asyncio
import dataclasses
import random
from collections.abc import Awaitable, Callable
from typing import cast

import pytest

from indexing import errors
from indexing.domain import model, ports
from indexing.usecases import control_credential, control_job, tokens
from tests import fake_backend, values

pytestmark = pytest.mark.clockwork
USER = values.USER
OTHER = USER + 1


@pytest.fixture
async def backend() -> fake_backend.FakeBackend:
    """One user in one guild, without a credential; the application is known."""
    made = fake_backend.make()
    made.oauth.enabled = True
    await made.add_user([values.user_guild()])
    await made.credentials.delete(USER, shown_until=0.0)
    return made


def of_another(token: str, backend: fake_backend.FakeBackend, **changes: object) -> None:
    """Let a token be another user's."""
    fields: dict[str, object] = {"user_id": OTHER, "ours": True, "scopes": (), "expires_at": None} | changes
    backend.oauth.authorizations[token] = ports.Authorization(**fields)  # type: ignore[arg-type]  # by keyword


async def run_job(backend: fake_backend.FakeBackend) -> model.Job:
    """Run a job to its end."""
    await backend.start_job()
    await backend.run_all_turns()
    return await backend.get_job()


async def status(backend: fake_backend.FakeBackend) -> str:
    """Return the state that callers see."""
    control = control_credential.CredentialControl(
        backend.deps, backend.config, backend.metrics, control_job.JobControl(backend.deps, backend.config)
    )
    return (await control.get_status(USER)).state.value


@pytest.mark.parametrize("old", [False, True], ids=["put while Discord was slow", "of an older release"])
async def test_a_stored_pair_is_proven_when_its_first_turn_runs(
    backend: fake_backend.FakeBackend,
    old: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """Once, in the turn's lane; the next job makes no such call."""
    if old:
        backend.users.put_old(USER, values.credential())
    else:
        await backend.users.put_unproven(USER, values.credential())

    jobs = [(await run_job(backend)).state]
    await backend.jobs.create_or_join(values.job("b" * 32))
    held = await backend.credentials.get(USER)

    assert jobs == [model.JobState.SUCCEEDED]
    assert (held.proven, held.has_newer, await status(backend)) == (True, False, "ACTIVE")
    assert [purpose.lane for purpose in backend.oauth.described_for] == [model.Lane.BACKGROUND]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        pytest.param({}, "CREDENTIAL_OF_ANOTHER_USER", id="another user"),
        pytest.param({"ours": False}, "CREDENTIAL_OF_ANOTHER_APPLICATION", id="another application"),
        pytest.param({"user_id": None}, "IDENTIFY_SCOPE_MISSING", id="no user"),
    ],
)
@pytest.mark.parametrize("old", [False, True], ids=["put while Discord was slow", "of an older release"])
async def test_the_job_fails_and_nothing_is_listed_when_the_pair_is_not_the_users(
    backend: fake_backend.FakeBackend,
    said: dict[str, object],
    reason: str,
    old: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """The pair is erased, what it brought before is emptied, and only a new login helps."""
    of_another("access", backend, **said)
    if old:
        backend.users.put_old(USER, values.credential())
        known = await backend.users.load(USER)
        assert known is not None
        await backend.users.replace_guild_list(known, [values.user_guild()], backend.clock())
    else:
        await backend.users.put_unproven(USER, values.credential())

    job = await run_job(backend)

    user = await backend.users.load(USER)
    assert (job.state, job.reason) == (model.JobState.FAILED, reason)
    assert backend.discord.calls == []
    assert await status(backend) == "REAUTH_REQUIRED"
    with pytest.raises(errors.ReauthRequired):
        await backend.users.credential(USER)
    assert user is not None
    assert (user.memberships, user.shown_until) == ({}, 0.0)


class Slow:
    """A store each of whose answers takes up to a second, drawn with a seed, before and after it takes effect."""

    def __init__(self, store: object, dice: random.Random) -> None:
        self._store, self._dice = store, dice

    def __getattr__(self, name: str) -> Callable[..., Awaitable[object]]:
        """Return a slow method."""
        method = getattr(self._store, name)

        async def slow(*arguments: object, **more: object) -> object:
            await asyncio.sleep(self._dice.random())
            try:
                return await method(*arguments, **more)
            finally:
                await asyncio.sleep(self._dice.random())

        return slow


def with_slow_pairs(deps: ports.Dependencies, dice: random.Random) -> ports.Dependencies:
    """Return the dependencies with slow stores of pairs."""
    in_use, newer = Slow(deps.credentials, dice), Slow(deps.unproven, dice)
    return dataclasses.replace(
        deps, credentials=cast("ports.Credentials", in_use), unproven=cast("ports.Credentials", newer)
    )


@pytest.mark.parametrize("seed", range(20))
async def test_nobody_misses_the_pair_when_a_turn_proves_it_meanwhile(seed: int) -> None:
    """What is being moved is neither here nor there for a moment. That is no reason to end a job."""
    backend = fake_backend.make()
    backend.oauth.enabled = True
    await backend.users.put_unproven(USER, values.credential())
    dice = random.Random(seed)
    deps = with_slow_pairs(backend.deps, dice)
    purpose = ports.Purpose(model.Lane.BACKGROUND, USER, "", 1.0)

    control = control_credential.CredentialControl(
        deps, backend.config, backend.metrics, control_job.JobControl(deps, backend.config)
    )

    async def get_states() -> set[str]:
        return {(await control.get_status(USER)).state.value for _ in range(8)}

    async def get_usable() -> str:
        await asyncio.sleep(3 * dice.random())
        manager = tokens.TokenManager(deps, backend.config, backend.metrics)
        while True:
            try:
                return (await manager.get_usable(USER, purpose)).access_token
            except errors.CredentialBusy as busy:
                await asyncio.sleep(busy.retry_after)

    states, *found = await asyncio.gather(get_states(), *(get_usable() for _ in range(4)))

    assert found == ["access"] * 4
    assert states == {"UNVERIFIED", "ACTIVE"}


async def test_the_work_goes_on_when_junk_is_beside_the_pair_in_use(backend: fake_backend.FakeBackend) -> None:
    """Another user's token is erased; the job uses the proven pair."""
    await backend.users.put_credential(USER, values.credential(access_token="mine"))
    await backend.users.put_unproven(USER, values.credential(access_token="junk"))
    of_another("junk", backend)

    job = await run_job(backend)

    assert job.state is model.JobState.SUCCEEDED
    assert (await backend.credentials.get(USER)).credential.access_token == "mine"
    assert not (await backend.credentials.get(USER)).has_newer
    assert await status(backend) == "ACTIVE"


@pytest.mark.parametrize(
    "problem",
    [
        errors.DiscordTransient("503"),
        errors.RateLimited("user", retry_after=5.0, why="used up"),
        errors.CredentialUnverifiable(404, 0),
    ],
    ids=lambda problem: type(problem).__name__,
)
async def test_the_pair_in_use_is_used_when_the_newer_one_cannot_be_proven_now(
    backend: fake_backend.FakeBackend, problem: errors.IndexerError
) -> None:
    """The newer one is proven by a later turn."""
    await backend.users.put_credential(USER, values.credential(access_token="mine"))
    await backend.users.put_unproven(USER, values.credential(access_token="newer"))
    backend.oauth.fail(problem)

    job = await run_job(backend)

    held = await backend.credentials.get(USER)
    assert (job.state, held.credential.access_token, held.has_newer) == (model.JobState.SUCCEEDED, "mine", True)


async def test_the_newer_pair_is_used_when_it_is_proven(backend: fake_backend.FakeBackend) -> None:
    """It takes the place of the other."""
    await backend.users.put_credential(USER, values.credential(access_token="mine"))
    await backend.users.put_unproven(USER, values.credential(access_token="newer"))

    await run_job(backend)

    held = await backend.credentials.get(USER)
    assert (held.credential.access_token, held.proven, held.has_newer) == ("newer", True, False)


@pytest.mark.parametrize("old", [False, True], ids=["put while Discord was slow", "of an older release"])
async def test_an_expired_pair_is_renewed_first_when_it_is_proven(
    backend: fake_backend.FakeBackend,
    old: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """The renewed token is the one that is proven; a proven pair keeps its proof when it is renewed."""
    expired = values.credential(expires_at=backend.clock() - 1)
    if old:
        backend.users.put_old(USER, expired)
    else:
        await backend.users.put_unproven(USER, expired)

    job = await run_job(backend)

    assert job.state is model.JobState.SUCCEEDED
    assert (backend.oauth.renewals, backend.oauth.described) == (["refresh"], ["access+"])
    assert (await backend.credentials.get(USER)).proven


async def test_a_renewed_pair_of_another_user_is_not_listed_with(backend: fake_backend.FakeBackend) -> None:
    """Renewal proves nothing about whose pair it is."""
    of_another("access+", backend)
    await backend.users.put_unproven(USER, values.credential(expires_at=backend.clock() - 1))

    job = await run_job(backend)

    assert (job.reason, backend.discord.calls) == ("CREDENTIAL_OF_ANOTHER_USER", [])


async def test_a_junk_token_never_reaches_the_guild_list(backend: fake_backend.FakeBackend) -> None:
    """Two refusals some seconds apart end the consent; one alone does not."""
    await backend.users.put_unproven(USER, values.credential(refresh_token=""))
    backend.oauth.fail(errors.TokenRefused(401, 0), errors.TokenRefused(401, 0))

    job = await run_job(backend)

    assert (job.state, job.reason) == (model.JobState.FAILED, "REAUTH_REQUIRED")
    assert backend.discord.calls == []
    assert await status(backend) == "REAUTH_REQUIRED"


async def test_a_good_pair_of_an_older_release_survives_when_discord_refuses_it_once(
    backend: fake_backend.FakeBackend,
) -> None:
    """Discord sometimes refuses a good token for a moment."""
    backend.users.put_old(USER, values.credential(refresh_token=""))
    backend.oauth.fail(errors.TokenRefused(401, 0))

    job = await run_job(backend)

    assert job.state is model.JobState.SUCCEEDED


async def test_the_job_waits_when_discord_cannot_be_asked_whose_token_it_is(
    backend: fake_backend.FakeBackend,
) -> None:
    """It is proven when Discord answers again."""
    await backend.users.put_unproven(USER, values.credential())
    backend.oauth.fail(errors.RateLimited("user", retry_after=3.0, why="used up"), errors.DiscordTransient("503"))

    job = await run_job(backend)

    assert job.state is model.JobState.SUCCEEDED
    assert len(backend.oauth.described) == 3


async def test_the_pair_is_erased_when_a_member_answer_is_about_another_user(
    backend: fake_backend.FakeBackend,
) -> None:
    """The roles are not stored, the job fails, and the guild list of that pair is emptied."""
    await backend.users.put_credential(USER, values.credential())
    hidden = values.channel(11, overwrites=(values.denied(values.GUILD), values.allowed(5)))
    backend.discord.channels[values.GUILD] = [hidden]
    backend.discord.fail((USER, values.GUILD), errors.CredentialOfAnotherUser())

    job = await run_job(backend)

    user = await backend.users.load(USER)
    assert (job.state, job.reason) == (model.JobState.FAILED, "CREDENTIAL_OF_ANOTHER_USER")
    assert user is not None
    assert user.memberships == {}
    assert await status(backend) == "REAUTH_REQUIRED"


@pytest.mark.parametrize("old", [False, True], ids=["put while Discord was slow", "of an older release"])
async def test_the_job_fails_and_the_pair_stays_when_discord_does_not_say_whose_it_is(
    backend: fake_backend.FakeBackend,
    old: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """Nothing is listed with it; the next job asks again."""
    if old:
        backend.users.put_old(USER, values.credential())
    else:
        await backend.users.put_unproven(USER, values.credential())
    backend.oauth.fail(errors.CredentialUnverifiable(404, 0))

    job = await run_job(backend)

    assert (job.state, job.reason) == (model.JobState.FAILED, "CREDENTIAL_UNVERIFIABLE")
    assert backend.discord.calls == []
    assert await status(backend) == "UNVERIFIED"
