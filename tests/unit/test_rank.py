"""What comes first."""

import random
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies

from indexing import model, rank
from tests import clockwork, values

NOW = clockwork.START
DAY = 86_400.0

INPUTS = strategies.builds(
    rank.Inputs,
    guild_id=strategies.integers(1, 1 << 62),
    pinned=strategies.none(),
    owner=strategies.booleans(),
    permissions=strategies.integers(0, (1 << 63) - 1),
    last_activity=strategies.none() | strategies.floats(0, 2 * NOW),
    people=strategies.none() | strategies.integers(-1, 10**9),
)


def inputs(guild_id: int = 1, **changes: Any) -> rank.Inputs:  # noqa: ANN401 -- any field
    """Return the inputs of a guild of which nothing speaks for it."""
    known: dict[str, Any] = {"pinned": None, "owner": False, "permissions": 0, "last_activity": None, "people": None}
    return rank.Inputs(guild_id=guild_id, **{**known, **changes})


@strategies.composite
def lists(draw: strategies.DrawFn) -> list[rank.Inputs]:
    """Draw guilds of one user, some of them pinned, each pin once."""
    rows = draw(strategies.lists(INPUTS, max_size=12, unique_by=lambda row: row.guild_id))
    pins = draw(strategies.permutations(range(len(rows))))
    most = draw(strategies.integers(0, len(rows)))
    return [
        rank.Inputs(row.guild_id, pin, row.owner, row.permissions, row.last_activity, row.people) if pin < most else row
        for row, pin in zip(rows, pins, strict=True)
    ]


@hypothesis.given(INPUTS)
def test_the_score_stays_between_0_and_1_when_anything_is_known(row: rank.Inputs) -> None:
    """Whatever Discord says, and whatever the clocks say."""
    assert 0.0 <= rank.score(row, NOW) <= 1.0


@hypothesis.given(lists())
def test_pinned_guilds_come_first_when_guilds_are_ordered(rows: list[rank.Inputs]) -> None:
    """In the user's own order, before everything else; the others by their score."""
    found = [row for row, _ in rank.order(rows, NOW)]

    pins = [row.pinned for row in found if row.pinned is not None]
    scores = [rank.score(row, NOW) for row in found[len(pins) :]]
    assert pins == sorted(pins) == [row.pinned for row in found[: len(pins)]]
    assert scores == sorted(scores, reverse=True)


@hypothesis.given(lists(), strategies.randoms(use_true_random=False))
def test_the_order_is_the_same_when_guilds_come_in_another_order(rows: list[rank.Inputs], dice: random.Random) -> None:
    """It is total: no two guilds are alike, none is lost, and no shuffle shows."""
    shuffled = list(rows)
    dice.shuffle(shuffled)

    found = rank.order(shuffled, NOW)

    assert found == rank.order(rows, NOW)
    assert sorted(row.guild_id for row, _ in found) == sorted(row.guild_id for row in rows)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        pytest.param({"owner": True}, {"permissions": rank.ADMINISTRATOR}, id="owner-over-administrator"),
        pytest.param({"permissions": rank.ADMINISTRATOR}, {"permissions": rank.MANAGE_GUILD}, id="rank-over-lower"),
        pytest.param({"permissions": rank.MANAGE_CHANNELS}, {"permissions": 1 << 10}, id="manager-over-member"),
        pytest.param({"last_activity": NOW - DAY}, {"last_activity": NOW - 30 * DAY}, id="recent-over-quiet"),
        pytest.param({"last_activity": NOW - DAY}, {}, id="recent-over-unknown"),
        pytest.param({}, {"last_activity": NOW - 60 * DAY}, id="unknown-over-dead"),
        pytest.param({"people": 5_000}, {"people": 50}, id="large-over-small"),
        pytest.param({"people": 2}, {"people": 0}, id="some-over-nobody"),
    ],
)
def test_a_guild_comes_earlier_when_more_speaks_for_it(better: dict[str, Any], worse: dict[str, Any]) -> None:
    """Each signal moves the order its own way."""
    assert rank.score(inputs(**better), NOW) > rank.score(inputs(**worse), NOW)


def test_a_pinned_guild_comes_first_when_everything_else_speaks_against_it() -> None:
    """A wish beats every signal."""
    best = inputs(1, owner=True, permissions=rank.ADMINISTRATOR, last_activity=NOW, people=10**6)

    found = [row.guild_id for row, _ in rank.order([best, inputs(2, pinned=1), inputs(3, pinned=0)], NOW)]

    assert found == [3, 2, 1]


def test_the_older_guild_comes_first_when_nothing_tells_two_apart() -> None:
    """Ids grow with time, and equal guilds must not change places between two turns."""
    found = [row.guild_id for row, _ in rank.order([inputs(9), inputs(4), inputs(7)], NOW)]

    assert found == [4, 7, 9]


def test_inputs_come_from_membership_and_guild_when_both_are_known() -> None:
    """The newest message's id tells when it was written."""
    newest = values.snowflake(NOW - 5 * DAY)
    membership = values.membership(guild_id=7, owner=True, permissions=99)

    found = rank.inputs_of(membership, values.guild(guild_id=7, people=12, newest_message_id=newest), (5, 7))

    assert found == rank.Inputs(7, 1, owner=True, permissions=99, last_activity=NOW - 5 * DAY, people=12)


def test_only_stored_guilds_are_ordered_when_a_membership_is_ahead_of_them() -> None:
    """A guild that is not stored yet has no name to show and no place."""
    memberships = {key: values.membership(guild_id=key) for key in (1, 2)}

    found = rank.ordered(memberships, {2: values.guild(guild_id=2)}, model.Preferences(pinned=(1,)), NOW)

    assert [row.guild_id for row, _ in found] == [2]
