"""In which guilds our bot is: the set that makes every other guild cost no call."""

import asyncio
import dataclasses

from indexing import errors, settings
from indexing.domain import freshness, model, ports, reasons
from indexing.telemetry import logs

DOUBTED_EVERY = 60.0
"""Seconds between two readings of the set because of doubt, however many doubt it."""
MOST_LOST = 0.3
"""Share of the known guilds that a listing may lack and be believed at once."""


class Installed:
    """Keeps the set; one page of 200 guilds a call."""

    def __init__(self, world: ports.World, rules: settings.IndexingSettings) -> None:
        self._world = world
        self._rules = rules
        self._one_reads = asyncio.Lock()
        self._log = logs.get(__name__)

    async def known(self, purpose: ports.Purpose, *, max_age: float | None = None) -> frozenset[int]:
        """
        Return the guilds that have our bot; asks Discord when what is cached is lost or older than *max_age*.

        Raises:
            errors.BotTokenRefused: The bot's token is dead.
            And whatever `ports.Discord` may raise, when nothing is cached.
        """
        age = self._rules.bot_guilds_age if max_age is None else max_age
        cached = await self._world.installs.load()
        if cached is None or self._world.clock() - cached[1] >= age:
            async with self._one_reads:
                cached = await self._world.installs.load()
                if cached is None or self._world.clock() - cached[1] >= age:
                    return await self._read(cached, purpose)
        return cached[0]

    async def doubted(self, purpose: ports.Purpose) -> frozenset[int]:
        """Return the guilds that have our bot, read again unless that was done just now."""
        return await self.known(purpose, max_age=DOUBTED_EVERY)

    async def renew(self) -> None:
        """Keep the set young, so that no start has to wait for it. Raises what `ports.Discord` may raise."""
        await self.known(FOR_NOBODY)

    async def still_in(self, guild_id: int, purpose: ports.Purpose) -> bool:
        """Return whether our bot is in a guild that refused it: one call, instead of a reading of all."""
        if await self._world.discord.bot_is_in(guild_id, _for_all(purpose)):
            return True
        cached = await self._world.installs.load()
        if cached is not None:
            await self._world.installs.store(cached[0] - {guild_id}, cached[1])
        await self._removed({guild_id})
        return False

    async def _read(self, cached: tuple[frozenset[int], float] | None, purpose: ports.Purpose) -> frozenset[int]:
        before = cached[0] if cached else frozenset()
        try:
            found = await self._world.discord.bot_guilds(_for_all(purpose))
            if freshness.loses_much(before, found, MOST_LOST):
                found = await self._world.discord.bot_guilds(_for_all(purpose))
        except errors.TokenRefused as refusal:
            raise errors.BotTokenRefused(refusal.status, refusal.code) from refusal
        except (errors.RateLimited, errors.DiscordTransient, errors.EgressBlocked):
            if cached is None:
                raise
            return before
        await self._world.installs.store(found, self._world.clock())
        if before - found:
            await self._removed(before - found)
        return found

    async def _removed(self, guild_ids: frozenset[int] | set[int]) -> None:
        self._log.info("bot_removed", guilds=len(guild_ids), cause=reasons.BOT_REMOVED)
        await self._world.guilds.bot_removed(guild_ids, self._world.clock())


def _for_all(purpose: ports.Purpose) -> ports.Purpose:
    return dataclasses.replace(purpose, user=None, waiter="installs")


FOR_NOBODY = ports.Purpose(model.Lane.REFRESH, user=None, waiter="installs", patience=1.0)
"""The purpose of a reading for which nobody waits."""
