"""The simulated world: users, the guilds they share, and later changes."""

import bisect
import dataclasses
import random
from collections.abc import Sequence

from devstack.simulator import channels, guilds, lru_cache, names, permissions, snowflakes

CHANNELS_IN_MEMORY = 60_000
"""Number of cached channels; evicted ones are rebuilt identically."""

SHARING = 4
"""Every further user adds a quarter of their guilds to the world and shares the rest. Our guess."""


@dataclasses.dataclass(frozen=True)
class WorldSpec:
    """Size and seed of a world; equal specs give equal worlds."""

    seed: int = 1
    users: int = 1
    guilds_per_user: int = 60
    guilds: int = 0
    no_sharing: bool = False
    channels_per_guild: float = 32.0
    without_bot: float = 0.22
    now_ms: int = 1_795_000_000_000

    def guild_count(self) -> int:
        """Number of guilds, at least as many as one user needs."""
        if self.no_sharing:
            return self.guilds_per_user * self.users
        derived = self.guilds_per_user + (self.users - 1) * self.guilds_per_user // SHARING
        return max(self.guilds or derived, self.guilds_per_user)


@dataclasses.dataclass(slots=True)
class Member:
    """A user's membership in a guild."""

    roles: frozenset[int]
    nick: str | None
    joined_ms: int
    timed_out: bool


class World:
    """Users, guilds and memberships; guilds and channels are built at their first use."""

    def __init__(self, spec: WorldSpec) -> None:
        self.spec = spec
        self.bot_id = snowflakes.nth_id(spec.seed + 11, 0)
        self.user_ids = [snowflakes.nth_id(spec.seed + 5, index) for index in range(spec.users)]
        self._user_index = {user_id: index for index, user_id in enumerate(self.user_ids)}
        self._factory = guilds.GuildFactory(spec.seed, spec.channels_per_guild, spec.without_bot, self.bot_id)
        ids = [snowflakes.nth_id(spec.seed, index) for index in range(spec.guild_count())]
        self._guild_index = {guild_id: index for index, guild_id in enumerate(ids)}
        self._joined: dict[int, set[int]] = {}
        self._known: list[list[int]] = [[] for _ in ids]
        for index, user_id in enumerate(self.user_ids):
            picked = _pick(spec, index, len(ids))
            self._joined[user_id] = {ids[number] for number in picked}
            for number in picked:
                self._known[number].append(user_id)
        self._guilds: dict[int, guilds.Guild] = {}
        self._fresh_ids = 0
        self._role_overrides: dict[tuple[int, int], frozenset[int]] = {}
        self._changed: dict[int, list[channels.Channel]] = {}
        self._channels: lru_cache.LruCache[list[channels.Channel]] = lru_cache.LruCache(CHANNELS_IN_MEMORY, len)
        self._bot_guilds = sorted(ids[number] for number in range(len(ids)) if self._factory.has_bot(number))

    def user_name(self, user_id: int) -> str | None:
        """Return a user's name, or None if there is no such user."""
        index = self._user_index.get(user_id)
        return None if index is None else names.user_name(index)

    def guild(self, guild_id: int) -> guilds.Guild | None:
        """Return a guild by its id, or None."""
        made = self._guilds.get(guild_id)
        if made is None:
            index = self._guild_index.get(guild_id)
            if index is None:
                return None
            made = self._guilds[guild_id] = self._factory.guild(index, self._known[index])
        return made

    def guilds_of(self, user_id: int) -> list[int]:
        """Return the ids of a user's guilds, ascending."""
        return sorted(self._joined.get(user_id, ()))

    def is_member(self, user_id: int, guild_id: int) -> bool:
        """Return whether a user is a member of a guild."""
        return guild_id in self._joined.get(user_id, ())

    def bot_guilds(self) -> list[int]:
        """Return the ids of the guilds with the bot, ascending."""
        return self._bot_guilds

    def channels_of(self, guild: guilds.Guild) -> list[channels.Channel]:
        """Return all channels of a guild."""
        changed = self._changed.get(guild.id)
        if changed is not None:
            return changed
        return self._channels.get(guild.id, lambda: channels.build(guild, self.spec.seed, self.spec.now_ms))

    def member(self, user_id: int, guild: guilds.Guild) -> Member | None:
        """Return a user's membership, or None if the user is not in the guild."""
        if not self.is_member(user_id, guild.id):
            return None
        rng = random.Random(f"{self.spec.seed}/member/{guild.id}/{user_id}")
        drawn = _draw_roles(rng, guild)
        return Member(
            roles=self._role_overrides.get((guild.id, user_id), drawn),
            nick=names.channel_name(rng, 0) if rng.random() < 0.1 else None,
            joined_ms=rng.randrange(snowflakes.created_ms(guild.id), snowflakes.NEWEST_MS + 1),
            timed_out=rng.random() < 0.02,
        )

    def viewer(self, user_id: int, guild: guilds.Guild) -> permissions.Viewer | None:
        """Return what decides the permissions of a user or the bot; None for a user who is not in the guild."""
        if user_id == self.bot_id:
            return permissions.Viewer(user_id, guild.id, guild.bot_roles()) if guild.has_bot else None
        member = self.member(user_id, guild)
        if member is None:
            return None
        return permissions.Viewer(user_id, guild.id, member.roles, owner=guild.owner_id == user_id)

    def editable(self, guild: guilds.Guild) -> list[channels.Channel]:
        """Return a guild's channels for modification; from now on they are never evicted."""
        guild.version += 1
        if guild.id not in self._changed:
            self._changed[guild.id] = self.channels_of(guild)
            self._channels.drop(guild.id)
        return self._changed[guild.id]

    def fresh_id(self) -> int:
        """Return an id that nothing has, and nothing that is deleted had; newer than all ids of the initial world."""
        self._fresh_ids += 1
        return snowflakes.from_ms(self.spec.now_ms) + self._fresh_ids

    def set_bot(self, guild: guilds.Guild, *, present: bool) -> None:
        """Install the bot in a guild, or remove it."""
        guild.has_bot = present
        guild.version += 1
        others = set(self._bot_guilds) - {guild.id}
        self._bot_guilds = sorted(others | {guild.id}) if present else sorted(others)

    def set_joined(self, user_id: int, guild: guilds.Guild, *, joined: bool) -> None:
        """Add a user to a guild, or remove them."""
        guild.members += int(joined) - int(self.is_member(user_id, guild.id))
        if joined:
            self._joined[user_id].add(guild.id)
        else:
            self._joined[user_id].discard(guild.id)

    def set_roles(self, user_id: int, guild: guilds.Guild, roles: frozenset[int]) -> None:
        """Set the roles of a member."""
        self._role_overrides[guild.id, user_id] = roles

    def bot_guilds_between(self, after: int, before: int) -> Sequence[int]:
        """Return the ids of the bot's guilds strictly between two ids, ascending."""
        ids = self.bot_guilds()
        return ids[bisect.bisect_right(ids, after) : bisect.bisect_left(ids, before)]


def _pick(spec: WorldSpec, user: int, available: int) -> list[int]:
    if spec.no_sharing:
        return list(range(user * spec.guilds_per_user, (user + 1) * spec.guilds_per_user))
    rng = random.Random(f"{spec.seed}/joins/{user}")
    if spec.guilds_per_user * 2 >= available:
        return rng.sample(range(available), spec.guilds_per_user)
    picked: dict[int, None] = {}
    while len(picked) < spec.guilds_per_user:
        # One half prefers popular guilds (the cube favors low numbers), the other half is uniform.
        skew = 3 if rng.random() < 0.5 else 1
        picked[int(available * rng.random() ** skew)] = None
    return list(picked)


def _draw_roles(rng: random.Random, guild: guilds.Guild) -> frozenset[int]:
    _, _, admin, moderator, member, *rest = guild.roles
    roles = {role.id for role in rest[:12] if rng.random() < 0.2}
    dice = rng.random()
    if dice < 0.04:
        roles.add(admin.id)
    elif dice < 0.12:
        roles.add(moderator.id)
    if rng.random() < 0.85:
        roles.add(member.id)
    return frozenset(roles)
