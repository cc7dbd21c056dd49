"""
What comes first: the order of a user's guilds.

Hard order: pinned before the rest, in the user's own order. Inside the rest a score between 0 and 1, a weighted mean of
signals that cost no call: they come with the guild list and with what is already stored. Every input stands on a stored
row, so that the order can be made again at each turn and explained at any time.
"""

import dataclasses
import math
from collections.abc import Mapping

from indexing import settings
from indexing.domain import model

ADMINISTRATOR = 1 << 3
MANAGE_CHANNELS = 1 << 4
MANAGE_GUILD = 1 << 5

DAY = 86_400.0
ACTIVITY_DAYS = 30.0
RECENCY_DAYS = 7.0
STALENESS_DAYS = 3.0
LARGE_GUILD = 100_000
HIGH_DEMAND = 100
UNKNOWN_ACTIVITY = 0.25
"""Activity of a guild that was never read and has no people; with many people it counts up to thrice that."""


@dataclasses.dataclass(frozen=True, slots=True)
class RankInputs:
    """
    What the rank of one guild is made of.

    Attributes:
        pinned: Place among the pinned guilds, None when not pinned.
        last_activity: Epoch second of the newest message known, None when unknown.
        member_count: Members present, else members, as Discord counts them; None when unknown.
        last_viewed_at: When this user last opened the guild, None when never.
        fetched_at: When the guild's channels were read, None when never.
        demand: How often users have asked for the guild since it was last read.
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
    """A guild in its place: what speaks for it, by signal, and the sum of that, 0..1."""

    inputs: RankInputs
    score: float
    contributions: Mapping[str, float]


def inputs_of(membership: model.Membership, guild: model.Guild | None, pinned: tuple[int, ...]) -> RankInputs:
    """Collect the inputs for one guild of a user; *pinned* are his pinned guilds in order."""
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
    """Return a user's stored guilds, most important first."""
    rows = [inputs_of(row, guilds[key], preferences.pinned) for key, row in memberships.items() if key in guilds]
    return rank_inputs(rows, now, weights)


def rank_inputs(rows: list[RankInputs], now: float, weights: settings.RankWeights) -> list[RankedGuild]:
    """Return *rows* with their scores, most important first; ties fall to the older guild, so the order is stable."""
    ranked = [score_guild(row, now, weights) for row in rows]
    return sorted(ranked, key=sort_key)


def sort_key(row: RankedGuild) -> tuple[int, int, float, int]:
    """Return the place of a guild in the order, as numbers that JSON can say: a page token names the last row's."""
    pinned = row.inputs.pinned
    group, place = (1, 0) if pinned is None else (0, pinned)
    return group, place, -row.score, row.inputs.guild_id


def score_guild(inputs: RankInputs, now: float, weights: settings.RankWeights) -> RankedGuild:
    """Return what each signal adds to a guild's importance."""
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
    parts = {name: getattr(weights, name) / total * value for name, value in signals.items()}
    return RankedGuild(inputs, min(1.0, sum(parts.values())), parts)


def _role_weight(permissions: int) -> float:
    if permissions & ADMINISTRATOR:
        return 1.0
    return 0.6 if permissions & (MANAGE_GUILD | MANAGE_CHANNELS) else 0.0


def _decay(moment: float | None, now: float, days: float, *, unknown: float) -> float:
    if moment is None:
        return unknown
    return math.exp(-max(0.0, now - moment) / (days * DAY))


def _likely_activity(people: int | None) -> float:
    return UNKNOWN_ACTIVITY * (1.0 + 2.0 * _log_fraction(people or 0, LARGE_GUILD))


def _log_fraction(count: int, many: int) -> float:
    return min(1.0, math.log1p(max(0, count)) / math.log1p(many))
