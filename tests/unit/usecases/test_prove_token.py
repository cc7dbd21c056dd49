"""Each attempt to prove a token is counted by its result."""

import asyncio

import pytest

from indexing import errors
from indexing.domain import model, ports
from indexing.usecases import prove_token
from tests import fake_backend, values

pytestmark = pytest.mark.clockwork
PURPOSE = ports.Purpose(model.Lane.INTERACTIVE, values.USER, "", 2.0)


async def counted(backend: fake_backend.FakeBackend) -> list[str]:
    """Prove the pair; returns the results that are counted."""
    prover = prove_token.TokenProver(backend.oauth, backend.metrics)
    try:
        async with asyncio.timeout(2.0):
            await prover.prove(values.USER, values.credential(), PURPOSE)
    except (errors.IndexerError, TimeoutError):
        pass
    (family,) = backend.metrics.proofs.collect()
    totals = [sample for sample in family.samples if sample.name.endswith("_total")]
    return [sample.labels["result"] for sample in totals if sample.value]


@pytest.mark.parametrize(
    ("said", "result"),
    [
        pytest.param({}, "proven", id="theirs"),
        pytest.param({"user_id": values.USER + 1}, "other_user", id="another user"),
        pytest.param({"ours": False}, "other_application", id="another application"),
        pytest.param({"user_id": None}, "no_user", id="no user"),
    ],
)
async def test_a_proof_is_counted_when_discord_describes_the_token(said: dict[str, object], result: str) -> None:
    """By what Discord says."""
    backend = fake_backend.make()
    fields: dict[str, object] = {"user_id": values.USER, "ours": True, "scopes": (), "expires_at": None} | said
    backend.oauth.authorizations["access"] = ports.Authorization(**fields)  # type: ignore[arg-type]  # by keyword

    assert await counted(backend) == [result]


@pytest.mark.parametrize(
    ("problem", "result"),
    [
        pytest.param(errors.TokenRefused(401, 0), "refused", id="401"),
        pytest.param(errors.CredentialUnverifiable(404, 0), "unverifiable", id="404"),
        pytest.param(errors.DiscordTransient("503"), "unanswered", id="503"),
        pytest.param(errors.RateLimited("user", retry_after=1.0, why="used up"), "unanswered", id="no permit"),
    ],
)
async def test_a_proof_is_counted_when_discord_does_not_describe_the_token(
    problem: errors.IndexerError, result: str
) -> None:
    """By whether asking again may help."""
    backend = fake_backend.make()
    backend.oauth.fail(problem)

    assert await counted(backend) == [result]


async def test_a_proof_is_counted_when_it_takes_too_long() -> None:
    """The caller has cancelled it."""
    backend = fake_backend.make()
    backend.oauth.latency = 60.0

    assert await counted(backend) == ["unanswered"]
