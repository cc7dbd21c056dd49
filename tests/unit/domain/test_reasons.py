"""Why there is no news, and how long that is believed."""

import hypothesis
from hypothesis import strategies

from indexing import errors
from indexing.domain import reasons
from indexing.telemetry import metric_types
from tests import clockwork, values

NOW = clockwork.START
OF_JOBS = {"REAUTH_REQUIRED", "CREDENTIAL_MISSING", "CREDENTIAL_REVOKED", "CLIENT_REFUSED", "TURNS_LOST"}
"""Why a job as a whole failed, and with it the guilds that it left undone."""


def test_something_can_be_done_when_a_cause_ends_a_guild() -> None:
    """Every cause that a row can carry has one line of advice."""
    known = {*metric_types.REASON.values, *OF_JOBS} - {"", "other"}

    assert {cause for cause in known if not reasons.advice(cause)} == set()
    assert all("\n" not in line for line in reasons.ADVICE.values())
    assert errors.DiscordTransient.reason in known


@hypothesis.given(strategies.integers(0, 100))
def test_a_refusal_is_believed_longer_when_more_came_before(refusals: int) -> None:
    """An hour at first, a week at most."""
    first, later = reasons.negative_cache_expiry(refusals, NOW), reasons.negative_cache_expiry(refusals + 1, NOW)

    assert 3600 <= first - NOW <= later - NOW <= 7 * 86_400


@hypothesis.given(strategies.floats(0, 2 * 86_400), strategies.floats(0, 86_400), strategies.booleans())
def test_a_guild_is_asked_at_most_once_a_minute_when_it_is_forced(
    ago: float,
    believed_for: float,
    force: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """Force looks at the last refusal alone, everybody else at how long it is believed."""
    guild = values.guild(refused_at=NOW - ago, retry_at=NOW - ago + believed_for)

    refused = reasons.is_negatively_cached(guild, now=NOW, force=force)

    if force:
        assert refused is (NOW - guild.refused_at < 60)
    else:
        assert refused is (guild.retry_at > NOW)
