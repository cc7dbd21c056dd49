"""A user's guild list: ask Discord, store it at once, rank it, and make the units of a job from it."""

import asyncio

from indexing import errors, model, ports, rank, settings

BOT_NOT_INSTALLED = "BOT_NOT_INSTALLED"
MUTED = "MUTED"


class Listing:
    """Reads guild lists. Round trips for one: 1 to Discord, 3 to Redis, 6 to MongoDB."""

    def __init__(self, world: ports.World, rules: settings.IndexingSettings) -> None:
        self._world = world
        self._rules = rules
        self._one_reads = asyncio.Lock()

    async def read(self, job: model.Job, credential: ports.Credential, purpose: ports.Purpose) -> list[model.Unit]:
        """
        Store the user's guilds as they are now and return the units of the job, most important first, revision 0.

        Raises:
            errors.TokenRefused: The user's token is dead.
            errors.BotTokenRefused: The bot's is.
            And whatever `ports.Discord` may raise.
        """
        installed = await self.installed(purpose)
        listed = await self._world.discord.user_guilds(credential, purpose)
        await self._world.users.listed(job.user_id, listed, self._world.clock())
        await self._world.guilds.named(listed, installed)
        return await self._units(job)

    async def installed(self, purpose: ports.Purpose) -> frozenset[int]:
        """Return the guilds that have our bot; asks Discord when the cached set is lost or too old."""
        known = await self._world.installs.load()
        if known is None or self._world.clock() - known[1] > self._rules.bot_guilds_age:
            async with self._one_reads:
                known = await self._world.installs.load()
                if known is None or self._world.clock() - known[1] > self._rules.bot_guilds_age:
                    return await self._read_installs(known, purpose)
        return known[0]

    async def renew_installs(self) -> None:
        """Keep the cached set young, so that no start has to wait for it. Raises what `ports.Discord` may raise."""
        await self.installed(ports.Purpose(model.Lane.REFRESH, user=None, waiter="installs", patience=1.0))

    async def _read_installs(
        self, known: tuple[frozenset[int], float] | None, purpose: ports.Purpose
    ) -> frozenset[int]:
        for_all = ports.Purpose(lane=purpose.lane, user=None, waiter="installs", patience=purpose.patience)
        try:
            found = await self._world.discord.bot_guilds(for_all)
        except errors.TokenRefused as refusal:
            raise errors.BotTokenRefused(refusal.status, refusal.code) from refusal
        except (errors.RateLimited, errors.DiscordTransient, errors.EgressBlocked):
            if known is None:
                raise
            return known[0]
        await self._world.installs.store(found, self._world.clock())
        return found

    async def _units(self, job: model.Job) -> list[model.Unit]:
        memberships = {row.guild_id: row for row in await self._world.users.memberships(job.user_id)}
        guilds = await self._world.guilds.get(memberships)
        wishes = await self._world.users.preferences(job.user_id)
        ordered = rank.ordered(memberships, guilds, wishes, self._world.clock())
        return [
            _unit(guilds[row.guild_id], position, score, muted=row.guild_id in wishes.muted)
            for position, (row, score) in enumerate(ordered)
        ]


def _unit(guild: model.Guild, position: int, score: float, *, muted: bool) -> model.Unit:
    reason = MUTED if muted else ""
    if guild.access is model.Access.NOT_INSTALLED:
        reason = BOT_NOT_INSTALLED
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
