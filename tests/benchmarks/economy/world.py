"""
A model of Discord that changes over time: memberships, channels, and roles.

The figures are our guesses of ordinary use, listed here and in the report. None was tuned to a result.
"""

import bisect
import collections
import dataclasses
import functools
import itertools
import math
import random

from indexing.domain import freshness, model
from tests import clockwork, values

DAY = 86_400.0
ROLE_OFFSET = 7
"""The id of the role that can view a guild's private channel is the guild's id plus this."""


@dataclasses.dataclass(frozen=True, slots=True)
class WorldSpec:
    """
    The parameters of a world.

    Attributes:
        universe: Guilds that users may be in; the k-th most popular one is joined in proportion to 1/k (Zipf).
        guilds_per_user: Average number; each user has between half and one and a half times as many.
        bot_every: One of this many guilds has the bot, at every popularity.
        visits: Visits per user and day, within sixteen visits_on hours.
        changes: Median number of days between two changes of a guild's structure.
        spread: Sigma of the log-normal distribution of `changes`: a few guilds change constantly, most hardly ever.
        private: Share of guilds with a channel that requires a role.
        staff: Share of memberships that own or administer their guild.
        role_changes: Mean number of days between two changes of a member's roles.
    """

    users: int = 4_000
    days: int = 7
    seed: int = 5
    universe: int = 40_000
    guilds_per_user: int = 50
    bot_every: int = 4
    visits: int = 3
    changes: float = 14.0
    spread: float = 1.3
    private: float = 0.75
    staff: float = 0.05
    role_changes: float = 90.0


@dataclasses.dataclass(slots=True)
class Guild:
    """A guild with the bot; `version` counts its changes."""

    guild_id: int
    private: bool
    rate: float
    born: float
    version: int = 0

    def channels(self) -> list[model.Channel]:
        """Return the current channels."""
        return _channels(self.guild_id, self.private, self.born, self.version)

    def fingerprint(self) -> str:
        """Return the fingerprint of the current channels."""
        return _fingerprint(self.guild_id, self.private, self.born, self.version)


class World:
    """The true state; `lists` has each user's guild list."""

    def __init__(self, spec: WorldSpec) -> None:
        self.spec = spec
        self.dice = random.Random(spec.seed)
        self.lists: dict[int, list[model.UserGuild]] = {}
        self.guilds: dict[int, Guild] = {}
        self.roles: collections.Counter[tuple[int, int]] = collections.Counter()
        weights = list(itertools.accumulate(1 / rank for rank in range(1, spec.universe + 1)))
        for user in range(1, spec.users + 1):
            self.lists[user] = self._list(weights)
        for guild_id in sorted({row.guild_id for rows in self.lists.values() for row in rows}):
            if self.has_bot(guild_id):
                self.guilds[guild_id] = self._guild(guild_id)

    def has_bot(self, guild_id: int) -> bool:
        """Return whether the guild has the bot."""
        return _number(guild_id) % self.spec.bot_every == self.spec.bot_every // 2

    def installed(self) -> frozenset[int]:
        """Return all guilds with the bot, including those without users."""
        return frozenset(key for number in range(self.spec.universe) if self.has_bot(key := _id(number)))

    def role_ids(self, user: int, guild_id: int) -> tuple[int, ...]:
        """Return the user's current roles in a guild: with or without the role for private channels."""
        held = (user + _number(guild_id) + self.roles[user, guild_id]) % 3
        return (guild_id + ROLE_OFFSET,) if held else ()

    def visits_on(self, user: int, day: int) -> list[float]:
        """Return the times of a user's visits on a day, in seconds from the start."""
        morning = (user * 0.618034) % 1.0 * DAY
        return [day * DAY + morning + self.dice.random() * DAY * 2 / 3 for _ in range(self.spec.visits)]

    def changes(self) -> list[tuple[float, int, int]]:
        """Return all changes by time as (time, guild, user), with user 0 for the guild's structure."""
        end, found = self.spec.days * DAY, []
        for guild in self.guilds.values():
            found += [(at, guild.guild_id, 0) for at in self._moments(guild.rate, end)]
        rate = 1 / (self.spec.role_changes * DAY)
        for user, rows in self.lists.items():
            for row in rows:
                if row.guild_id in self.guilds:
                    found += [(at, row.guild_id, user) for at in self._moments(rate, end)]
        return sorted(found)

    def apply(self, guild_id: int, user: int) -> None:
        """Apply a change."""
        if user:
            self.roles[user, guild_id] += 1
        else:
            self.guilds[guild_id].version += 1

    def _moments(self, rate: float, end: float) -> list[float]:
        found, at = [], self.dice.expovariate(rate)
        while at < end:
            found.append(at)
            at += self.dice.expovariate(rate)
        return found

    def _list(self, weights: list[float]) -> list[model.UserGuild]:
        mean = self.spec.guilds_per_user
        count = self.dice.randint(mean // 2, mean + mean // 2)
        chosen: set[int] = set()
        while len(chosen) < count:
            chosen.add(bisect.bisect(weights, self.dice.random() * weights[-1]))
        return [self._row(number) for number in sorted(chosen)]

    def _row(self, number: int) -> model.UserGuild:
        staff = self.dice.random() < self.spec.staff
        permissions = values.VIEW | (values.ADMINISTRATOR if staff else 0)
        return values.user_guild(_id(number), name=f"g{number}", permissions=permissions, member_count=100)

    def _guild(self, guild_id: int) -> Guild:
        days = self.spec.changes * math.exp(self.dice.gauss(0, self.spec.spread))
        rate = 1 / (days * DAY)
        born = clockwork.START - min(self.dice.expovariate(rate), 2_000 * DAY)
        return Guild(guild_id, self.dice.random() < self.spec.private, rate, born)


def _id(number: int) -> int:
    return values.GUILD + number * 1_000


def _number(guild_id: int) -> int:
    return (guild_id - values.GUILD) // 1_000


@functools.lru_cache(maxsize=20_000)
def _channels(guild_id: int, private: bool, born: float, version: int) -> list[model.Channel]:  # noqa: FBT001 -- a key
    newest = values.snowflake(born) + _number(guild_id)
    rows = [values.channel(newest - (place << 40), guild_id, name=f"c{place}") for place in range(6)]
    rows[version % 6] = dataclasses.replace(rows[version % 6], name=f"changed {version}")
    if private:
        hidden = (values.denied(guild_id), values.allowed(guild_id + ROLE_OFFSET))
        rows[5] = dataclasses.replace(rows[5], overwrites=model.Overwrites.of(hidden))
    return rows


@functools.lru_cache(maxsize=200_000)
def _fingerprint(guild_id: int, private: bool, born: float, version: int) -> str:  # noqa: FBT001 -- a key
    return freshness.fingerprint(_channels(guild_id, private, born, version))
