"""A user's guild list: ask Discord, store it at once, rank it, and make the units of a job from it."""

from indexing import settings
from indexing.domain import freshness, model, ports, ranking, reasons
from indexing.usecases import bot_guilds, leftovers

MOST_LOST = 0.3
"""Share of a user's guilds that a listing may lack and be believed at once."""


class Listing:
    """
    Reads guild lists. Round trips for one: 1 to Discord, 3 to Redis, 11 to MongoDB.

    Attributes:
        bot: Where our bot is.
    """

    def __init__(self, world: ports.World, rules: settings.IndexingSettings) -> None:
        self.bot = bot_guilds.Installed(world, rules)
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
            await leftovers.take_back(self._world, job, [guild.guild_id for guild in listed])
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
