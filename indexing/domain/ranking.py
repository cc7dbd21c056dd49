"""
The order of a user's guilds.

Pinned guilds are first, in the user's own order. The rest is ordered by a score between 0 and 1, a weighted mean of
signals that cost no call: they are part of the guild list or stored already. All inputs are stored, so each turn can
rank again, and any position can be explained later.
"""

import dataclasses
import math
from collections.abc import Mapping

from indexing import settings
from indexing.domain import model, permissions

DAY = 86_400.0
ACTIVITY_DAYS = 30.0
RECENCY_DAYS = 7.0
STALENESS_DAYS = 3.0
LARGE_GUILD = 100_000
HIGH_DEMAND = 100
UNKNOWN_ACTIVITY = 0.25
"""Activity of a guild that was never fetched and has no members; with many members up to three times as much."""


@dataclasses.dataclass(frozen=True, slots=True)
class RankInputs:
    """
    The inputs of one guild's rank.

    Attributes:
        pinned: Index among the pinned guilds, None when not pinned.
        last_activity: Epoch second of the newest known message, None when unknown.
        member_count: Members present, else members, as Discord counts them; None when unknown.
        last_viewed_at: When this user last opened the guild, None when never.
        fetched_at: When the guild's channels were fetched, None when never.
        demand: How often users have asked for the guild since it was last fetched.
    """

    guild_id: int
    pinned: int | None
    owner: bool
    permissions: int
    last_activity: float | None
    member_count: int | None
    last_viewed_at: float | None = None
    fetched_at: float | None = None
    demand: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class RankedGuild:
    """A guild with its score, 0..1, and what each signal contributes to it."""

    inputs: RankInputs
    score: float
    contributions: Mapping[str, float]


def inputs_of(membership: model.Membership, guild: model.Guild | None, pinned: tuple[int, ...]) -> RankInputs:
    """Collect the inputs for one guild of a user; *pinned* are the user's pinned guilds in order."""
    newest = guild.newest_message_id if guild else None
    return RankInputs(
        guild_id=membership.guild_id,
        pinned=pinned.index(membership.guild_id) if membership.guild_id in pinned else None,
        owner=membership.owner,
        permissions=membership.permissions,
        last_activity=model.snowflake_time(newest) if newest else None,
        member_count=guild.member_count if guild else None,
        last_viewed_at=membership.last_viewed_at,
        fetched_at=guild.fetched_at if guild else None,
        demand=guild.demand if guild else 0,
    )


def rank_guilds(
    memberships: Mapping[int, model.Membership],
    guilds: Mapping[int, model.Guild],
    preferences: model.Preferences,
    *,
    now: float,
    weights: settings.RankWeights,
) -> list[RankedGuild]:
    """Return the user's stored guilds, most important first."""
    rows = [inputs_of(row, guilds[key], preferences.pinned) for key, row in memberships.items() if key in guilds]
    return rank_inputs(rows, now, weights)


def rank_inputs(rows: list[RankInputs], now: float, weights: settings.RankWeights) -> list[RankedGuild]:
    """Return *rows* with their scores, most important first; the older guild wins a tie, so the order is stable."""
    ranked = [score_guild(row, now, weights) for row in rows]
    return sorted(ranked, key=sort_key)


def sort_key(row: RankedGuild) -> tuple[int, int, float, int]:
    """Return the place of a guild in the order, as numbers that JSON can say: a page token names the last row's."""
    pinned = row.inputs.pinned
    group, place = (1, 0) if pinned is None else (0, pinned)
    return group, place, -row.score, row.inputs.guild_id


def score_guild(inputs: RankInputs, now: float, weights: settings.RankWeights) -> RankedGuild:
    """Score a guild by the weighted mean of its signals."""
    signals = {
        "recency": _decay(inputs.last_viewed_at, now, RECENCY_DAYS, unknown=0.0),
        "activity": _decay(inputs.last_activity, now, ACTIVITY_DAYS, unknown=_likely_activity(inputs.member_count)),
        "owner": 1.0 if inputs.owner else 0.0,
        "role": _role_weight(inputs.permissions),
        "new": 1.0 if inputs.fetched_at is None else 0.0,
        "staleness": 1.0 - _decay(inputs.fetched_at, now, STALENESS_DAYS, unknown=1.0),
        "demand": _log_fraction(inputs.demand, HIGH_DEMAND),
    }
    total = weights.total
    contributions = {name: getattr(weights, name) / total * value for name, value in signals.items()}
    return RankedGuild(inputs, min(1.0, sum(contributions.values())), contributions)


def _role_weight(bits: int) -> float:
    if bits & permissions.ADMINISTRATOR:
        return 1.0
    return 0.6 if bits & (permissions.MANAGE_GUILD | permissions.MANAGE_CHANNELS) else 0.0


def _decay(moment: float | None, now: float, days: float, *, unknown: float) -> float:
    if moment is None:
        return unknown
    return math.exp(-max(0.0, now - moment) / (days * DAY))


def _likely_activity(member_count: int | None) -> float:
    return UNKNOWN_ACTIVITY * (1.0 + 2.0 * _log_fraction(member_count or 0, LARGE_GUILD))


def _log_fraction(count: int, maximum: int) -> float:
    return min(1.0, math.log1p(max(0, count)) / math.log1p(maximum))
