"""
A week with the feed from the Gateway: what it stores, as if each event arrived at once, and roles over it.

Lost sessions are not simulated. Audits are simulated on their own (`audits`).
"""

import collections
import dataclasses
import enum
from collections.abc import Collection

from indexing.domain import model, ports
from tests import fakes
from tests.benchmarks.economy import world

SHARD = "0/1"


class Feed(enum.StrEnum):
    """How much of the feed a week has."""

    NONE = "none"
    CHANNELS = "channels"
    """Channels; roles by REST."""
    ROLES = "channels and roles"


class FedGuilds(fakes.MemoryGuilds):
    """Port `ports.Guilds` whose guilds with the bot are fed."""

    def __init__(self, users: fakes.MemoryUsers, truth: world.World, clock: ports.Clock) -> None:
        super().__init__(users)
        self._truth = truth
        self._clock = clock

    async def get(self, guild_ids: Collection[int]) -> dict[int, model.Guild]:
        """Return those that are stored, as they are now."""
        found = await super().get(guild_ids)
        return {guild_id: self._fed(guild) for guild_id, guild in found.items()}

    def _fed(self, guild: model.Guild) -> model.Guild:
        if guild.guild_id not in self._truth.guilds:
            return guild
        fingerprint = self._truth.guilds[guild.guild_id].fingerprint()
        schedule = dataclasses.replace(guild.schedule, fingerprint=fingerprint, next_at=0.0)
        return dataclasses.replace(guild, fed_by=SHARD, fetched_at=self._clock(), schedule=schedule)

    async def load(self, guild_ids: Collection[int]) -> dict[int, model.IndexedGuild]:
        """Return those that are stored, with their channels."""
        found = await self.get(guild_ids)
        truth = self._truth.guilds
        rows = {key: tuple(truth[key].channels()) if key in truth else () for key in found}
        return {key: model.IndexedGuild(guild, 1, rows[key], ()) for key, guild in found.items()}

    async def list_due(self, now: float, limit: int) -> list[model.Guild]:  # noqa: ARG002 -- the port has them
        """Return none: fed guilds are not refreshed by REST."""
        return []


class FedRoles:
    """Port `ports.FedRoles`: the truth, or no answer."""

    def __init__(self, truth: world.World, calls: collections.Counter[str], *, answers: bool) -> None:
        self._truth = truth
        self._calls = calls
        self._answers = answers

    async def fetch(self, shard: str, guild_id: int, user_id: int) -> tuple[int, ...] | None:  # noqa: ARG002 -- the port has it
        """Return the user's current roles; None without an answer."""
        if not self._answers:
            return None
        self._calls["op 8"] += 1
        return self._truth.role_ids(user_id, guild_id)
