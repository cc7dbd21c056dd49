"""
One guild for one user: the step of a unit that may ask Discord.

A unit has at most two steps: the guild's channels, shared by all its users, and this user's role ids, asked for only
when they can change what he sees. Round trips for a guild that must be fetched: 1 to Discord, 2 to Redis, 3 to MongoDB
when nothing changed there and up to 7 else; for one that is fresh: 1 to MongoDB; for one that must wait for quota: 1 to
Redis.
"""

import dataclasses
from collections.abc import Awaitable, Callable

from indexing import errors, settings
from indexing.domain import freshness, model, permissions, ports, reasons
from indexing.telemetry import metrics
from indexing.usecases import read_channels

ELSEWHERE = 0.5
"""Seconds until a guild that somebody else fetches is looked at again; a fetch takes about 0.2 s."""


@dataclasses.dataclass(frozen=True, slots=True)
class Work:
    """A unit with all that is stored about its guild and user; `began` is called when its fetch begins."""

    job: model.Job
    unit: model.Unit
    guild: model.Guild
    membership: model.Membership
    credential: ports.Credential
    began: Callable[[], Awaitable[None]]


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """
    The unit after the step.

    Attributes:
        throttled: The refusal that stops the whole job for now, None when the job may go on.
    """

    unit: model.Unit
    throttled: errors.RateLimited | None = None


class Fetch:
    """Runs the steps of units."""

    def __init__(
        self,
        world: ports.World,
        rules: settings.IndexingSettings,
        seen: metrics.IndexingMetrics,
        reader: read_channels.Reader,
    ) -> None:
        self._world = world
        self._rules = rules
        self._seen = seen
        self._reader = reader

    async def run(self, work: Work, purpose: ports.Purpose) -> Outcome:
        """
        Do the unit's next step.

        Raises:
            errors.TokenRefused: A token is dead: whose, says the step (CHANNELS the bot's, ROLES the user's).
            errors.LimiterUnavailable, errors.StoreUnavailable: Nothing can be done now.
        """
        try:
            if work.unit.step is model.Step.ROLES:
                return Outcome(await self._roles(work, purpose))
            return Outcome(await self._channels(work, purpose))
        except errors.RateLimited as refusal:
            return self._wait(work.unit, refusal)
        except errors.EgressBlocked as block:
            return self._wait(work.unit, errors.RateLimited("egress", retry_after=block.retry_after, why="blocked"))
        except errors.DiscordTransient as failure:
            return Outcome(self._again_later(work.unit, failure.reason))
        except errors.TokenRefused:
            raise
        except errors.DiscordRefused as refusal:
            return Outcome(_ended(work.unit, model.UnitState.FAILED, refusal.reason))

    async def _channels(self, work: Work, purpose: ports.Purpose) -> model.Unit:
        now = self._world.clock()
        if reasons.still_refused(work.guild, now=now, force=work.job.force):
            return _ended(work.unit, model.UnitState.SKIPPED, work.guild.error or reasons.NO_ACCESS)
        if not self._served_by(work, work.guild):
            if work.guild.lease_until > now:
                return self._elsewhere(work.unit)
            since = work.job.created_at if work.job.force else now - self._rules.max_age
            read = await self._reader.read(read_channels.Wanted(work.guild, since, work.began), purpose)
            if read is not None:
                return self._seen_by(work, read.channels) if not read.cause else _refused(work.unit, read.cause)
            current = await self._world.guilds.get([work.guild.guild_id])
            if not self._served_by(work, current.get(work.guild.guild_id, work.guild)):
                return self._elsewhere(work.unit)
        self._seen.saved.inc()
        return self._seen_by(work, await self._world.guilds.channels([work.guild.guild_id]))

    def _served_by(self, work: Work, guild: model.Guild) -> bool:
        """Return whether what is stored of the guild is young enough for the job."""
        if work.job.force:
            return freshness.fetched_since(guild, work.job.created_at)
        return freshness.is_fresh(guild, now=self._world.clock(), max_age=self._rules.max_age)

    def _elsewhere(self, unit: model.Unit) -> model.Unit:
        return dataclasses.replace(_back(unit), retry_at=self._world.clock() + ELSEWHERE)

    def _seen_by(self, work: Work, channels: list[model.Channel]) -> model.Unit:
        """Count what the user may see with what is known of his roles; ask for the roles next if they matter."""
        now = self._world.clock()
        believed = freshness.roles_are_fresh(work.membership, now=now, max_age=self._rules.roles_hard_age)
        roles = work.membership.role_ids if believed else None
        unit = dataclasses.replace(
            work.unit,
            channel_count=len(permissions.visible(work.membership, channels, roles)),
            attempts=0,
            retry_at=0.0,
        )
        age = now - work.job.created_at if work.job.force else self._rules.roles_max_age
        fresh = freshness.roles_are_fresh(work.membership, now=now, max_age=age)
        if not fresh and permissions.needs_roles(work.membership, channels):
            return dataclasses.replace(unit, state=model.UnitState.RUNNING, step=model.Step.ROLES)
        return _ended(unit, model.UnitState.SUCCEEDED)

    async def _roles(self, work: Work, purpose: ports.Purpose) -> model.Unit:
        user, guild = work.membership.user_id, work.membership.guild_id
        try:
            roles = await self._world.discord.member_roles(user, guild, work.credential, purpose)
        except errors.Gone:
            await self._world.users.left(user, guild, self._world.clock())
            return _ended(dataclasses.replace(work.unit, channel_count=0), model.UnitState.SKIPPED, reasons.USER_LEFT)
        except errors.NoAccess:
            return _ended(work.unit, model.UnitState.SUCCEEDED, reasons.ROLES_UNKNOWN)
        await self._world.users.store_roles(user, guild, roles, self._world.clock())
        channels = await self._world.guilds.channels([guild])
        count = len(permissions.visible(work.membership, channels, roles))
        return _ended(dataclasses.replace(work.unit, channel_count=count), model.UnitState.SUCCEEDED)

    def _wait(self, unit: model.Unit, refusal: errors.RateLimited) -> Outcome:
        """Put the unit back; only a refusal that is about this guild alone lets the job's other guilds go on."""
        waiting = _back(unit)
        if refusal.budget == "route":
            return Outcome(dataclasses.replace(waiting, retry_at=self._world.clock() + refusal.retry_after))
        return Outcome(waiting, throttled=refusal)

    def _again_later(self, unit: model.Unit, reason: str) -> model.Unit:
        attempts = unit.attempts + 1
        if attempts >= self._rules.max_attempts:
            return dataclasses.replace(_ended(unit, model.UnitState.FAILED, reason), attempts=attempts)
        pause = freshness.backoff(attempts, base=self._rules.retry_base)
        return dataclasses.replace(_back(unit), attempts=attempts, error=reason, retry_at=self._world.clock() + pause)


def _back(unit: model.Unit) -> model.Unit:
    """Return the unit as not worked on: still partly done when only its roles are missing."""
    state = model.UnitState.RUNNING if unit.step is model.Step.ROLES else model.UnitState.QUEUED
    return dataclasses.replace(unit, state=state)


def _refused(unit: model.Unit, cause: str) -> model.Unit:
    """Return the unit of a guild that refused; without our bot there is nothing that could have failed."""
    state = model.UnitState.SKIPPED if cause == reasons.BOT_REMOVED else model.UnitState.FAILED
    return _ended(unit, state, cause)


def _ended(unit: model.Unit, state: model.UnitState, error: str = "") -> model.Unit:
    return dataclasses.replace(unit, state=state, error=error, retry_at=0.0)
