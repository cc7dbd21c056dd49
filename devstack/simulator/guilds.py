"""One guild: its name, size, owner and roles, derived from the seed and the guild's index."""

import dataclasses
import math
import random
import statistics
from collections.abc import Sequence

from devstack.simulator import names, permissions, snowflakes

SIGMA = 1.0
"""Spread of the channel counts: the largest guild of 60 has about ten times as many channels as the median."""

FEWEST_CHANNELS = 5
MOST_CHANNELS = 500
"""Discord's maximum (error 30013, developers/topics/opcodes-and-status-codes.mdx, read 2026-08-06)."""

_GOLDEN = 0.6180339887498949
_SILVER = 0.4142135623730951
_FUTURE_PERMISSION = 1 << 66
_FEATURES = ("COMMUNITY", "NEWS", "DISCOVERABLE", "VERIFIED", "INVITE_SPLASH", "BANNER", "ANIMATED_ICON", "PARTNERED")
_NORMAL = permissions.VIEW_CHANNEL | permissions.SEND_MESSAGES | permissions.READ_MESSAGE_HISTORY | permissions.CONNECT
_MODERATOR = permissions.MANAGE_CHANNELS | permissions.MANAGE_ROLES | 1 << 1 | 1 << 2 | 1 << 13 | 1 << 40


@dataclasses.dataclass(slots=True)
class Role:
    """One role; `bot` marks the bot's own role."""

    id: int
    name: str
    permissions: int
    bot: bool = False


@dataclasses.dataclass(slots=True)
class Guild:
    """One guild without its channels; `simulated_members` are the ids of its members among the simulated users."""

    id: int
    name: str
    owner_id: int
    has_bot: bool
    bot_id: int
    channel_count: int
    members: int
    online: int
    icon: str | None
    features: list[str]
    roles: list[Role]
    simulated_members: list[int]
    version: int = 0

    def role_permissions(self) -> dict[int, int]:
        """Return the permission bits by role id."""
        return {role.id: role.permissions for role in self.roles}

    def bot_roles(self) -> frozenset[int]:
        """Return the ids of the bot's roles."""
        return frozenset(role.id for role in self.roles if role.bot)


@dataclasses.dataclass(frozen=True)
class GuildFactory:
    """Makes guilds from their index."""

    seed: int
    channels_per_guild: float
    without_bot: float
    bot_id: int

    def guild(self, index: int, simulated_members: Sequence[int]) -> Guild:
        """Return the *index*-th guild, with the members *simulated_members*."""
        guild_id = snowflakes.nth_id(self.seed, index)
        rng = random.Random(f"{self.seed}/guild/{guild_id}")
        members = max(len(simulated_members) + 1, int(math.exp(rng.gauss(5.5, 1.8))))
        owned = bool(simulated_members) and rng.random() < 0.06 * min(len(simulated_members), 5)
        return Guild(
            id=guild_id,
            name=names.guild_name(rng),
            owner_id=rng.choice(simulated_members) if owned else snowflakes.nth_id(self.seed + 7, index),
            has_bot=self.has_bot(index),
            bot_id=self.bot_id,
            channel_count=self._channel_count(index),
            members=members,
            online=int(members * rng.uniform(0.05, 0.5)),
            icon=f"{rng.getrandbits(128):032x}" if rng.random() < 0.8 else None,
            features=rng.sample(_FEATURES, rng.randrange(4)),
            roles=_roles(rng, guild_id),
            simulated_members=list(simulated_members),
        )

    def has_bot(self, index: int) -> bool:
        """Return whether the bot is installed in the *index*-th guild."""
        return _spread(index, _SILVER, self.seed) >= self.without_bot

    def _channel_count(self, index: int) -> int:
        # Log-normal quantiles, spread evenly over the guilds, so that even a small world has the expected total.
        middle = math.log(max(self.channels_per_guild, 1.0)) - SIGMA**2 / 2
        quantile = min(max(_spread(index, _GOLDEN, self.seed), 0.001), 0.9995)
        count = math.exp(statistics.NormalDist(middle, SIGMA).inv_cdf(quantile))
        return min(max(round(count), FEWEST_CHANNELS), MOST_CHANNELS)


def _spread(index: int, step: float, seed: int) -> float:
    return (index * step + snowflakes.mix(seed, 3) / 2**64) % 1.0


def _roles(rng: random.Random, guild_id: int) -> list[Role]:
    open_house = rng.random() < 0.85
    made = [Role(guild_id, "@everyone", _NORMAL if open_house else 0)]

    def add(name: str, bits: int, *, bot: bool = False) -> None:
        made.append(Role(guild_id + ((len(made) * 1_000 + 7) << snowflakes.LOW_BITS), name, bits, bot))

    add("indexer", permissions.ADMINISTRATOR if rng.random() < 0.25 else _NORMAL, bot=True)
    # Arbitrary precision: decimal strings since v8 (developers/topics/permissions.mdx, read 2026-08-06).
    future = _FUTURE_PERMISSION if rng.random() < 0.02 else 0
    add("admin", permissions.ADMINISTRATOR | future)
    add("moderator", _NORMAL | _MODERATOR)
    add("member", _NORMAL)
    for number in range(_role_count(rng)):
        add(f"role {number}", _NORMAL if rng.random() < 0.3 else 0)
    return made


def _role_count(rng: random.Random) -> int:
    return rng.randrange(60, 240) if rng.random() < 0.02 else rng.randrange(1, 12)
