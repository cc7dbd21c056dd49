"""
The two guild lists that a job is made of: the user's guilds, and the guilds that have our bot.

The user's list is stored at once and ranked; each of its guilds becomes a guild task. The bot's list is cached for
all users: a guild outside it is skipped without a call. A list that lacks many known guilds is fetched a second time
before it is trusted, because Discord sometimes answers with a part.
"""

import asyncio
import dataclasses

from indexing import errors, settings
from indexing.domain import freshness, model, ports, ranking, reasons
from indexing.telemetry import logs
from indexing.usecases import erase_user

MAX_UNCONFIRMED_LOSS = 0.3
"""Share of the known guilds that a list may lack without being fetched a second time."""
FORCED_INTERVAL = 60.0
"""Least seconds between two refreshes of the bot's list, however many jobs force one."""
REFRESH_PURPOSE = ports.Purpose(model.Lane.REFRESH, user_id=None, waiter="installs", max_wait=1.0)
"""Purpose of a refresh that no job waits for."""


class GuildLists:
    """
    Fetches users' guild lists. Round trips for one: 1 to Discord, 3 to Redis, 11 to MongoDB.

    Attributes:
        bot_guilds: The guilds that have our bot.
    """

    def __init__(self, deps: ports.Dependencies, config: settings.IndexingSettings) -> None:
        self.bot_guilds = BotGuilds(deps, config)
        self._deps = deps
        self._config = config

    async def fetch_guild_list(
        self, job: model.Job, credential: ports.Credential, purpose: ports.Purpose
    ) -> list[model.GuildTask]:
        """
        Fetch and store the user's guilds; returns the tasks of the job, most important first, with revision 0.

        Raises:
            errors.TokenRefused: Discord refuses the user's token.
            errors.BotTokenRefused: Discord refuses the bot's token.
            And the errors of `ports.Discord`.
        """
        with_bot = await self.bot_guilds.get(purpose)
        listed = await self._fetch_confirmed(job.user_id, credential, purpose)
        if job.force and any(guild.guild_id not in with_bot for guild in listed):
            # Force often follows an installation of our bot.
            with_bot = await self.bot_guilds.force_refresh(purpose)
        without_bot = [guild.guild_id for guild in listed if guild.guild_id not in with_bot]
        await self._deps.guilds.mark_bot_removed(without_bot, self._deps.clock())
        await self._deps.guilds.upsert_guilds(listed, with_bot)
        # The memberships last: an erasure after this finds everything that was written for the user.
        await self._deps.users.replace_guild_list(job.user_id, listed, self._deps.clock())
        memberships, guilds = await self._load_stored(job.user_id)
        if memberships.keys() - guilds.keys():
            # Erased with their last known member, before this user was one, or with this user.
            await self._deps.guilds.upsert_guilds(listed, with_bot)
            await erase_user.compensate_if_user_erased(self._deps, job, [guild.guild_id for guild in listed])
            memberships, guilds = await self._load_stored(job.user_id)
        return await self._make_tasks(job, memberships, guilds)

    async def _fetch_confirmed(
        self, user_id: int, credential: ports.Credential, purpose: ports.Purpose
    ) -> list[model.UserGuild]:
        """Return the user's guilds; a list that lacks many known ones is fetched twice, and the second one counts."""
        listed = await self._deps.discord.user_guilds(credential, purpose)
        before = [row.guild_id for row in await self._deps.users.memberships(user_id)]
        if freshness.needs_confirmation(before, [guild.guild_id for guild in listed], MAX_UNCONFIRMED_LOSS):
            return await self._deps.discord.user_guilds(credential, purpose)
        return listed

    async def _load_stored(self, user_id: int) -> tuple[dict[int, model.Membership], dict[int, model.Guild]]:
        memberships = {row.guild_id: row for row in await self._deps.users.memberships(user_id)}
        return memberships, await self._deps.guilds.get(memberships)

    async def _make_tasks(
        self, job: model.Job, memberships: dict[int, model.Membership], guilds: dict[int, model.Guild]
    ) -> list[model.GuildTask]:
        now = self._deps.clock()
        preferences = await self._deps.users.get_preferences(job.user_id)
        ordered = ranking.rank_guilds(memberships, guilds, preferences, now=now, weights=self._config.rank_weights)
        tasks = [
            _task(guilds[row.inputs.guild_id], position, muted=row.inputs.guild_id in preferences.muted)
            for position, row in enumerate(ordered)
        ]
        viewed = [task.guild_id for task in tasks if not task.state.terminal]
        stale = [key for key in viewed if not freshness.is_fresh(guilds[key], now=now, max_age=self._config.max_age)]
        await self._deps.guilds.mark_viewed(viewed, now, waiting=stale)
        return tasks


def _task(guild: model.Guild, position: int, *, muted: bool) -> model.GuildTask:
    reason = reasons.MUTED if muted else ""
    if guild.access is model.Access.NOT_INSTALLED:
        reason = reasons.BOT_NOT_INSTALLED
    return model.GuildTask(
        guild_id=guild.guild_id,
        name=guild.name,
        state=model.TaskState.SKIPPED if reason else model.TaskState.QUEUED,
        step=model.Step.CHANNELS,
        position=position,
        attempts=0,
        retry_at=0.0,
        reason=reason,
        channel_count=None,
        revision=0,
    )


class BotGuilds:
    """The guilds that have our bot, cached for all users; a refresh costs one call for each 200 guilds."""

    def __init__(self, deps: ports.Dependencies, config: settings.IndexingSettings) -> None:
        self._deps = deps
        self._config = config
        self._refresh_lock = asyncio.Lock()
        self._log = logs.get(__name__)

    async def get(self, purpose: ports.Purpose, *, max_age: float | None = None) -> frozenset[int]:
        """
        Return the guilds that have our bot; fetches them when the cache is empty or older than *max_age*.

        Raises:
            errors.BotTokenRefused: Discord refuses the bot's token.
            And the errors of `ports.Discord`, when nothing is cached.
        """
        age = self._config.bot_guilds_age if max_age is None else max_age
        cached = await self._deps.bot_guilds.load()
        if cached is None or self._deps.clock() - cached[1] >= age:
            async with self._refresh_lock:
                cached = await self._deps.bot_guilds.load()
                if cached is None or self._deps.clock() - cached[1] >= age:
                    return await self._fetch(cached, purpose)
        return cached[0]

    async def force_refresh(self, purpose: ports.Purpose) -> frozenset[int]:
        """Return the guilds that have our bot, fetched again unless that happened within FORCED_INTERVAL."""
        return await self.get(purpose, max_age=FORCED_INTERVAL)

    async def keep_fresh(self) -> None:
        """Refresh the cache when it is due, so that no start waits for it. Raises the errors of `ports.Discord`."""
        await self.get(REFRESH_PURPOSE)

    async def verify_installed(self, guild_id: int, purpose: ports.Purpose) -> bool:
        """Return whether our bot is still in a guild that refused it; one call instead of a refresh."""
        if await self._deps.discord.bot_is_in(guild_id, _without_user(purpose)):
            return True
        cached = await self._deps.bot_guilds.load()
        if cached is not None:
            await self._deps.bot_guilds.store(cached[0] - {guild_id}, cached[1])
        await self._record_removed({guild_id})
        return False

    async def _fetch(self, cached: tuple[frozenset[int], float] | None, purpose: ports.Purpose) -> frozenset[int]:
        before = cached[0] if cached else frozenset()
        try:
            found = await self._deps.discord.bot_guilds(_without_user(purpose))
            if freshness.needs_confirmation(before, found, MAX_UNCONFIRMED_LOSS):
                found = await self._deps.discord.bot_guilds(_without_user(purpose))
        except errors.TokenRefused as refusal:
            raise errors.BotTokenRefused(refusal.status, refusal.code) from refusal
        except (errors.RateLimited, errors.DiscordTransient, errors.EgressBlocked):
            if cached is None:
                raise
            return before
        await self._deps.bot_guilds.store(found, self._deps.clock())
        if before - found:
            await self._record_removed(before - found)
        return found

    async def _record_removed(self, guild_ids: frozenset[int] | set[int]) -> None:
        self._log.info("bot_removed", guilds=len(guild_ids), reason=reasons.BOT_REMOVED)
        await self._deps.guilds.mark_bot_removed(guild_ids, self._deps.clock())


def _without_user(purpose: ports.Purpose) -> ports.Purpose:
    """Return the purpose of a call for all users: it charges no user's budget."""
    return dataclasses.replace(purpose, user_id=None, waiter="installs")
