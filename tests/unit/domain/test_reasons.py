"""Reasons, their advice, and how long a refusal is cached."""

import pytest

from indexing import errors
from indexing.domain import reasons
from indexing.telemetry import metric_types
from tests import clockwork, values

NOW = clockwork.START
OF_JOBS = {"REAUTH_REQUIRED", "CREDENTIAL_MISSING", "CREDENTIAL_REVOKED", "CLIENT_REFUSED", "TURNS_LOST"}
"""Reasons of a failed job, which its open guild tasks take over."""


def test_advice_exists_when_a_reason_can_end_a_guild_task() -> None:
    """Every reason that a guild task can carry has one line of advice."""
    known = {*metric_types.REASON.values, *OF_JOBS} - {"", "other"}

    assert {reason for reason in known if not reasons.advice(reason)} == set()
    assert all("\n" not in line for line in reasons.ADVICE.values())
    assert errors.DiscordTransient.reason in known


@pytest.mark.parametrize(
    ("refusals", "hours"),
    [(0, 1), (1, 6), (2, 24), (3, 168), (4, 168), (100, 168)],
    ids=["first", "second", "third", "fourth", "fifth", "very many"],
)
def test_the_negative_cache_lasts_longer_when_a_guild_refused_before(refusals: int, hours: int) -> None:
    """1 hour, 6 hours, 1 day, then a week."""
    assert reasons.negative_cache_expiry(refusals, NOW) == NOW + hours * 3600


@pytest.mark.parametrize(
    ("refused_at", "retry_at", "force", "cached"),
    [
        pytest.param(0.0, 0.0, False, False, id="never refused"),
        pytest.param(0.0, 0.0, True, False, id="never refused, forced"),
        pytest.param(NOW - 10, NOW + 3590, False, True, id="cached"),
        pytest.param(NOW - 3599.9, NOW + 0.1, False, True, id="about to expire"),
        pytest.param(NOW - 3600, NOW, False, False, id="expired"),
        pytest.param(NOW - 59.9, NOW + 3540, True, True, id="forced within a minute"),
        pytest.param(NOW - 60, NOW + 3540, True, False, id="forced after a minute"),
        pytest.param(NOW - 10, NOW - 1, True, True, id="forced within a minute, though expired"),
    ],
)
def test_a_refusal_is_cached_until_it_expires_when_it_is_not_forced(
    refused_at: float,
    retry_at: float,
    force: bool,  # noqa: FBT001 -- a parameter
    cached: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """A forced job asks again a minute after the last refusal, whatever its expiry."""
    guild = values.guild(refused_at=refused_at, retry_at=retry_at)

    assert reasons.is_negatively_cached(guild, now=NOW, force=force) is cached
