"""
What comes first: the order of a user's guilds.

Hard order: pinned before the rest, in the user's own order. Inside the rest a score between 0 and 1, a weighted sum of
signals that cost no call: they come with the guild list and with what is already stored. The weights are our guess of
what a user opens first; they trade nothing but order.
"""

import dataclasses
import math
from collections.abc import Mapping

from indexing import model

ADMINISTRATOR = 1 << 3
MANAGE_CHANNELS = 1 << 4
MANAGE_GUILD = 1 << 5

WEIGHTS = {"owner": 0.35, "role": 0.2, "activity": 0.3, "size": 0.15}
ACTIVE_DAYS = 30.0
LARGE_GUILD = 100_000


@dataclasses.dataclass(frozen=True, slots=True)
class Inputs:
    """
    What the rank of one guild is made of; kept so that the order can be explained.

    Attributes:
        pinned: Place among the pinned guilds, None when not pinned.
        last_activity: Epoch second of the newest message known, None when unknown.
        people: Members present, else members, as Discord counts them; None when unknown.
    """

    guild_id: int
    pinned: int | None
    owner: bool
    permissions: int
    last_activity: float | None
    people: int | None


def inputs_of(membership: model.Membership, guild: model.Guild | None, pinned: tuple[int, ...]) -> Inputs:
    """Collect the inputs for one guild of a user; *pinned* are his pinned guilds in order."""
    newest = guild.newest_message_id if guild else None
    return Inputs(
        guild_id=membership.guild_id,
        pinned=pinned.index(membership.guild_id) if membership.guild_id in pinned else None,
        owner=membership.owner,
        permissions=membership.permissions,
        last_activity=model.snowflake_time(newest) if newest else None,
        people=guild.people if guild else None,
    )


def ordered(
    memberships: Mapping[int, model.Membership],
    guilds: Mapping[int, model.Guild],
    wishes: model.Preferences,
    now: float,
) -> list[tuple[Inputs, float]]:
    """Return the inputs and scores of a user's stored guilds, most important first."""
    rows = [inputs_of(row, guilds[key], wishes.pinned) for key, row in memberships.items() if key in guilds]
    return order(rows, now)


def score(inputs: Inputs, now: float) -> float:
    """Return the importance of a guild that is not pinned, 0..1."""
    signals = {
        "owner": 1.0 if inputs.owner else 0.0,
        "role": _role(inputs.permissions),
        "activity": _recency(inputs.last_activity, now),
        "size": _size(inputs.people),
    }
    return sum(WEIGHTS[name] * value for name, value in signals.items())


def order(rows: list[Inputs], now: float) -> list[tuple[Inputs, float]]:
    """Return *rows* with their scores, most important first; ties fall to the older guild, so the order is stable."""
    scored = [(row, score(row, now)) for row in rows]
    return sorted(scored, key=lambda pair: (_pin(pair[0]), -pair[1], pair[0].guild_id))


def _pin(inputs: Inputs) -> float:
    return math.inf if inputs.pinned is None else inputs.pinned


def _role(permissions: int) -> float:
    if permissions & ADMINISTRATOR:
        return 1.0
    return 0.6 if permissions & (MANAGE_GUILD | MANAGE_CHANNELS) else 0.0


def _recency(last_activity: float | None, now: float) -> float:
    if last_activity is None:
        return 0.5
    days = max(0.0, now - last_activity) / 86_400
    return math.exp(-days / ACTIVE_DAYS)


def _size(people: int | None) -> float:
    if not people or people < 1:
        return 0.0
    return min(1.0, math.log1p(people) / math.log1p(LARGE_GUILD))
