"""
A user's guild list: ask Discord, store it at once, rank it, and make the units of a job from it.

In which guilds our bot is: the set that makes every other guild cost no call.
"""

import asyncio
import dataclasses

from indexing import errors, settings
from indexing.domain import freshness, model, ports, ranking, reasons
from indexing.telemetry import logs
from indexing.usecases import erase_user

MOST_LOST = 0.3
"""Share of the known guilds that a listing may lack and be believed at once."""


class Listing:
    """
    Reads guild lists. Round trips for one: 1 to Discord, 3 to Redis, 11 to MongoDB.

    Attributes:
        bot: Where our bot is.
    """

    def __init__(self, world: ports.World, rules: settings.IndexingSettings) -> None:
        self.bot = Installed(world, rules)
        self._world = world
        self._rules = rules

    async def read(self, job: model.Job, credential: ports.Credential, purpose: ports.Purpose) -> list[model.Unit]:
        """
        Store the user's guilds as they are now and return the units of the job, most important first, revision 0.

        Raises:
            errors.TokenRefused: The user's token is dead.
            errors.BotTokenRefused: The bot's is.
            And whatever `ports.Discord` may raise.
        """
        with_bot = await self.bot.known(purpose)
        listed = await self._listed(job.user_id, credential, purpose)
        if job.force and any(guild.guild_id not in with_bot for guild in listed):
            # Who forces may have just installed our bot.
            with_bot = await self.bot.doubted(purpose)
        without_bot = [guild.guild_id for guild in listed if guild.guild_id not in with_bot]
        await self._world.guilds.bot_removed(without_bot, self._world.clock())
        await self._world.guilds.named(listed, with_bot)
        # The memberships last: whoever erases the user after this finds all that it has brought.
        await self._world.users.listed(job.user_id, listed, self._world.clock())
        memberships, guilds = await self._stored(job.user_id)
        if memberships.keys() - guilds.keys():
            # Erased with the last member who was known, before this one was, or with this one.
            await self._world.guilds.named(listed, with_bot)
            await erase_user.take_back(self._world, job, [guild.guild_id for guild in listed])
            memberships, guilds = await self._stored(job.user_id)
        return await self._units(job, memberships, guilds)

    async def _listed(
        self, user_id: int, credential: ports.Credential, purpose: ports.Purpose
    ) -> list[model.UserGuild]:
        """Return the user's guilds; a list that lacks many of those he had is believed when it comes twice."""
        listed = await self._world.discord.user_guilds(credential, purpose)
        before = [row.guild_id for row in await self._world.users.memberships(user_id)]
        if freshness.loses_much(before, [guild.guild_id for guild in listed], MOST_LOST):
            return await self._world.discord.user_guilds(credential, purpose)
        return listed

    async def _stored(self, user_id: int) -> tuple[dict[int, model.Membership], dict[int, model.Guild]]:
        memberships = {row.guild_id: row for row in await self._world.users.memberships(user_id)}
        return memberships, await self._world.guilds.get(memberships)

    async def _units(
        self, job: model.Job, memberships: dict[int, model.Membership], guilds: dict[int, model.Guild]
    ) -> list[model.Unit]:
        now = self._world.clock()
        wishes = await self._world.users.preferences(job.user_id)
        ordered = ranking.ordered(memberships, guilds, wishes, now=now, weights=self._rules.rank_weights)
        units = [
            _unit(guilds[row.inputs.guild_id], position, row.score, muted=row.inputs.guild_id in wishes.muted)
            for position, row in enumerate(ordered)
        ]
        looked = [unit.guild_id for unit in units if not unit.state.terminal]
        waiting = [key for key in looked if not freshness.is_fresh(guilds[key], now=now, max_age=self._rules.max_age)]
        await self._world.guilds.looked(looked, now, waiting=waiting)
        return units


def _unit(guild: model.Guild, position: int, score: float, *, muted: bool) -> model.Unit:
    reason = reasons.MUTED if muted else ""
    if guild.access is model.Access.NOT_INSTALLED:
        reason = reasons.BOT_NOT_INSTALLED
    return model.Unit(
        guild_id=guild.guild_id,
        name=guild.name,
        state=model.UnitState.SKIPPED if reason else model.UnitState.QUEUED,
        step=model.Step.CHANNELS,
        position=position,
        score=score,
        attempts=0,
        retry_at=0.0,
        error=reason,
        channel_count=None,
        revision=0,
    )


DOUBTED_EVERY = 60.0
"""Seconds between two readings of the set because of doubt, however many doubt it."""


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
