"""
A small Discord that changes while time passes: who is in which guild, what a guild looks like, who has which roles.

The figures are our guesses of ordinary use, written down here and in the report; none was tuned to a result.
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
"""The role that opens a guild's private channel has the guild's id plus this."""


@dataclasses.dataclass(frozen=True, slots=True)
class Recipe:
    """
    What the world is like.

    Attributes:
        universe: Guilds that users may be in; the k-th most popular one is joined in proportion to 1/k (Zipf).
        guilds_per_user: On average; each user has between half and one and a half of it.
        bot_every: Our bot is in one of so many guilds, at every popularity.
        visits: Of a user a day, in his sixteen waking hours.
        changes: Median days between two changes of a guild's structure.
        spread: Sigma of the log-normal distribution of that: a few guilds change all the time, most hardly ever.
        private: Share of guilds with a channel that depends on a role.
        staff: Share of memberships that own or administer their guild.
        role_changes: Mean days between two changes of a member's roles.
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
    """A guild that has our bot; `version` counts its changes."""

    guild_id: int
    private: bool
    rate: float
    born: float
    version: int = 0

    def channels(self) -> list[model.Channel]:
        """Return what Discord lists now."""
        return _channels(self.guild_id, self.private, self.born, self.version)

    def fingerprint(self) -> str:
        """Return the mark of what Discord lists now."""
        return _fingerprint(self.guild_id, self.private, self.born, self.version)


class World:
    """What is true; `lists` has the rows of each user's guild list."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.dice = random.Random(recipe.seed)
        self.lists: dict[int, list[model.UserGuild]] = {}
        self.guilds: dict[int, Guild] = {}
        self.roles: collections.Counter[tuple[int, int]] = collections.Counter()
        weights = list(itertools.accumulate(1 / rank for rank in range(1, recipe.universe + 1)))
        for user in range(1, recipe.users + 1):
            self.lists[user] = self._list(weights)
        for guild_id in sorted({row.guild_id for rows in self.lists.values() for row in rows}):
            if self.has_bot(guild_id):
                self.guilds[guild_id] = self._guild(guild_id)

    def has_bot(self, guild_id: int) -> bool:
        """Return whether our bot is in the guild."""
        return _number(guild_id) % self.recipe.bot_every == self.recipe.bot_every // 2

    def installed(self) -> frozenset[int]:
        """Return all guilds of the universe that have our bot, those of nobody we know included."""
        return frozenset(key for number in range(self.recipe.universe) if self.has_bot(key := _id(number)))

    def role_ids(self, user: int, guild_id: int) -> tuple[int, ...]:
        """Return the user's roles in a guild now: one that opens private channels comes and goes."""
        held = (user + _number(guild_id) + self.roles[user, guild_id]) % 3
        return (guild_id + ROLE_OFFSET,) if held else ()

    def waking(self, user: int, day: int) -> list[float]:
        """Return the moments of a user's visits on a day, in seconds from the beginning."""
        morning = (user * 0.618034) % 1.0 * DAY
        return [day * DAY + morning + self.dice.random() * DAY * 2 / 3 for _ in range(self.recipe.visits)]

    def changes(self) -> list[tuple[float, int, int]]:
        """Return when what changes, in order: (moment, guild, user), with user 0 for the guild's structure."""
        end, found = self.recipe.days * DAY, []
        for guild in self.guilds.values():
            found += [(at, guild.guild_id, 0) for at in self._moments(guild.rate, end)]
        rate = 1 / (self.recipe.role_changes * DAY)
        for user, rows in self.lists.items():
            for row in rows:
                if row.guild_id in self.guilds:
                    found += [(at, row.guild_id, user) for at in self._moments(rate, end)]
        return sorted(found)

    def apply(self, guild_id: int, user: int) -> None:
        """Let a change happen."""
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
        mean = self.recipe.guilds_per_user
        count = self.dice.randint(mean // 2, mean + mean // 2)
        chosen: set[int] = set()
        while len(chosen) < count:
            chosen.add(bisect.bisect(weights, self.dice.random() * weights[-1]))
        return [self._row(number) for number in sorted(chosen)]

    def _row(self, number: int) -> model.UserGuild:
        staff = self.dice.random() < self.recipe.staff
        permissions = values.VIEW | (values.ADMINISTRATOR if staff else 0)
        return values.user_guild(_id(number), name=f"g{number}", permissions=permissions, member_count=100)

    def _guild(self, guild_id: int) -> Guild:
        days = self.recipe.changes * math.exp(self.dice.gauss(0, self.recipe.spread))
        rate = 1 / (days * DAY)
        born = clockwork.START - min(self.dice.expovariate(rate), 2_000 * DAY)
        return Guild(guild_id, self.dice.random() < self.recipe.private, rate, born)


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
