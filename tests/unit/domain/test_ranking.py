"""Ranking of a user's guilds."""

import dataclasses
import random
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies

from indexing import settings
from indexing.domain import model, ranking
from tests import clockwork, values

NOW = clockwork.START
DAY = 86_400.0
ADMINISTRATOR, MANAGE_CHANNELS, MANAGE_GUILD = 1 << 3, 1 << 4, 1 << 5
"""Bits of developers/topics/permissions.mdx, Bitwise Permission Flags."""

WEIGHTS = settings.RankWeights()
TIMES = strategies.none() | strategies.floats(0, 2 * NOW)

INPUTS = strategies.builds(
    ranking.RankInputs,
    guild_id=strategies.integers(1, 1 << 62),
    pinned=strategies.none(),
    owner=strategies.booleans(),
    permissions=strategies.integers(0, (1 << 63) - 1),
    last_activity=TIMES,
    member_count=strategies.none() | strategies.integers(-1, 10**9),
    last_viewed_at=TIMES,
    fetched_at=TIMES,
    demand=strategies.integers(0, 10**6),
)
SOME_WEIGHTS = strategies.builds(
    settings.RankWeights, **{name: strategies.floats(0, 10) for name in settings.RankWeights.model_fields}
)


def score(row: ranking.RankInputs) -> float:
    """Return what a guild scores now."""
    return ranking.score_guild(row, NOW, WEIGHTS).score


def ids(rows: list[ranking.RankInputs]) -> list[int]:
    """Return the guilds in their order."""
    return [row.inputs.guild_id for row in ranking.rank_inputs(rows, NOW, WEIGHTS)]


def inputs(guild_id: int = 1, **changes: Any) -> ranking.RankInputs:  # noqa: ANN401 -- any field
    """Return inputs without any positive signal."""
    known: dict[str, Any] = {
        "pinned": None,
        "owner": False,
        "permissions": 0,
        "last_activity": None,
        "member_count": None,
    }
    return ranking.RankInputs(guild_id=guild_id, **{**known, **changes})


@strategies.composite
def lists(draw: strategies.DrawFn) -> list[ranking.RankInputs]:
    """Draw guilds of one user, some of them pinned, each pin once."""
    rows = draw(strategies.lists(INPUTS, max_size=12, unique_by=lambda row: row.guild_id))
    pins = draw(strategies.permutations(range(len(rows))))
    most = draw(strategies.integers(0, len(rows)))
    return [dataclasses.replace(row, pinned=pin) if pin < most else row for row, pin in zip(rows, pins, strict=True)]


@hypothesis.given(INPUTS, SOME_WEIGHTS)
def test_the_score_stays_between_0_and_1_when_anything_is_known(
    row: ranking.RankInputs, weights: settings.RankWeights
) -> None:
    """For any input, any clock and any weights."""
    ranked = ranking.score_guild(row, NOW, weights)

    assert 0.0 <= ranked.score <= 1.0
    assert ranked.score == pytest.approx(sum(ranked.contributions.values()), abs=1e-6)
    assert all(part >= 0.0 for part in ranked.contributions.values())


@hypothesis.given(lists())
def test_pinned_guilds_come_first_when_guilds_are_ordered(rows: list[ranking.RankInputs]) -> None:
    """In the user's own order, before everything else; the others by their score."""
    found = [row.inputs for row in ranking.rank_inputs(rows, NOW, WEIGHTS)]

    pins = [row.pinned for row in found if row.pinned is not None]
    scores = [score(row) for row in found[len(pins) :]]
    assert pins == sorted(pins) == [row.pinned for row in found[: len(pins)]]
    assert scores == sorted(scores, reverse=True)


@hypothesis.given(lists(), strategies.randoms(use_true_random=False))
def test_the_order_is_the_same_when_guilds_come_in_another_order(
    rows: list[ranking.RankInputs], rng: random.Random
) -> None:
    """It is total: no two guilds are alike, none is lost, and no shuffle shows."""
    shuffled = list(rows)
    rng.shuffle(shuffled)

    found = ids(shuffled)

    assert found == ids(rows)
    assert sorted(found) == sorted(row.guild_id for row in rows)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        pytest.param({"owner": True}, {"permissions": ADMINISTRATOR}, id="owner-over-administrator"),
        pytest.param({"permissions": ADMINISTRATOR}, {"permissions": MANAGE_GUILD}, id="rank-over-lower"),
        pytest.param({"permissions": MANAGE_CHANNELS}, {"permissions": 1 << 10}, id="manager-over-member"),
        pytest.param({"last_activity": NOW - DAY}, {"last_activity": NOW - 30 * DAY}, id="recent-over-quiet"),
        pytest.param({"last_activity": NOW - DAY}, {}, id="recent-over-unknown"),
        pytest.param({}, {"last_activity": NOW - 60 * DAY}, id="unknown-over-dead"),
        pytest.param({"member_count": 5_000}, {"member_count": 50}, id="large-over-small"),
        pytest.param({"member_count": 2}, {"member_count": 0}, id="some-over-nobody"),
        pytest.param(
            {"last_viewed_at": NOW - DAY}, {"last_viewed_at": NOW - 9 * DAY}, id="opened-lately-over-long-ago"
        ),
        pytest.param({"last_viewed_at": NOW - 9 * DAY}, {}, id="opened-once-over-never"),
        pytest.param({}, {"fetched_at": NOW - 30 * DAY}, id="never-indexed-over-indexed"),
        pytest.param({"fetched_at": NOW - 2 * DAY}, {"fetched_at": NOW - DAY}, id="stale-over-fresh"),
        pytest.param({"demand": 5}, {"demand": 1}, id="many-wait-over-few"),
    ],
)
def test_a_guild_scores_higher_when_a_signal_is_stronger(better: dict[str, Any], worse: dict[str, Any]) -> None:
    """Each signal raises the score."""
    assert score(inputs(**better)) > score(inputs(**worse))


def test_a_pinned_guild_is_first_when_its_score_is_lowest() -> None:
    """A pin outranks every signal."""
    best = inputs(1, owner=True, permissions=ADMINISTRATOR, last_activity=NOW, member_count=10**6)

    found = ids([best, inputs(2, pinned=1), inputs(3, pinned=0)])

    assert found == [3, 2, 1]


def test_the_older_guild_is_first_when_scores_are_equal() -> None:
    """Ids grow with time, and equal guilds must not change places between two turns."""
    found = ids([inputs(9), inputs(4), inputs(7)])

    assert found == [4, 7, 9]


def test_inputs_come_from_membership_and_guild_when_both_are_known() -> None:
    """The newest message's id tells when it was written."""
    newest = values.snowflake(NOW - 5 * DAY)
    membership = values.membership(guild_id=7, owner=True, permissions=99, last_viewed_at=NOW - 1)
    guild = values.guild(guild_id=7, member_count=12, newest_message_id=newest, fetched_at=NOW - 2, demand=3)

    found = ranking.inputs_of(membership, guild, (5, 7))

    wanted = inputs(7, pinned=1, owner=True, permissions=99, last_activity=NOW - 5 * DAY, member_count=12)
    assert found == dataclasses.replace(wanted, last_viewed_at=NOW - 1, fetched_at=NOW - 2, demand=3)


def test_only_stored_guilds_are_ordered_when_a_membership_is_ahead_of_them() -> None:
    """A guild that is not stored yet has no name to show and no place."""
    memberships = {key: values.membership(guild_id=key) for key in (1, 2)}

    guilds = {2: values.guild(guild_id=2)}
    found = ranking.rank_guilds(memberships, guilds, model.Preferences(pinned=(1,)), now=NOW, weights=WEIGHTS)

    assert [row.inputs.guild_id for row in found] == [2]


def test_a_signal_without_weight_is_ignored_when_the_operator_sets_weights() -> None:
    """The remaining weights are normalized to a sum of 1."""
    weights = settings.RankWeights(recency=0, activity=0, owner=3, role=1, new=0, staleness=0, demand=0)

    found = ranking.score_guild(inputs(owner=True, demand=50), NOW, weights)

    assert {name: part for name, part in found.contributions.items() if part} == {"owner": 0.75}
