"""
One guild for one user: the step of a unit that may ask Discord.

A unit has at most two steps: the guild's channels, shared by all its users, and this user's role ids, asked for only
when they can change what he sees. Round trips for a guild that must be fetched: 1 to Discord, 2 to Redis, 5 to MongoDB;
for one that is fresh: 1 to MongoDB; for one that must wait for quota: 1 to Redis.
"""

import dataclasses
from collections.abc import Awaitable, Callable

from indexing import errors, freshness, metrics, model, ports, settings, visibility

ELSEWHERE = 0.5
"""Seconds until a guild that somebody else fetches is looked at again; a fetch takes about 0.2 s."""
REFUSED_FOR = 3_600.0
"""Seconds for which a refusal is believed: each 403 counts towards the ban line of the whole fleet."""
NO_ACCESS = "NO_ACCESS"


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


class _Lease:
    """The right to fetch one guild, taken when the permit is there, so that waiting for quota locks nothing."""

    def __init__(self, world: ports.World, work: Work, since: float, seconds: float) -> None:
        self._world = world
        self._work = work
        self._since = since
        self._seconds = seconds
        self._fence: int | None = None

    async def take(self) -> bool:
        """Take the lease, unless it is held; the watchers learn that the guild is being fetched."""
        if self._fence is None:
            now = self._world.clock()
            self._fence = await self._world.guilds.lease(
                self._work.guild.guild_id, now=now, until=now + self._seconds, fetched_before=self._since
            )
            if self._fence is not None:
                await self._work.began()
        return self._fence is not None

    async def store(self, channels: list[model.Channel]) -> bool:
        """Store the listing and end the lease; False when the lease was lost meanwhile."""
        return self._fence is not None and await self._world.guilds.store_channels(
            self._work.guild.guild_id, fence=self._fence, channels=channels, now=self._world.clock()
        )

    async def refused(self, reason: str) -> None:
        """Remember a lasting refusal and end the lease."""
        if self._fence is not None:
            retry_at = self._world.clock() + REFUSED_FOR
            await self._world.guilds.refused(
                self._work.guild.guild_id, fence=self._fence, error=reason, retry_at=retry_at
            )

    async def release(self) -> None:
        """End the lease without a result."""
        if self._fence is not None:
            await self._world.guilds.release(self._work.guild.guild_id, fence=self._fence)


class Fetch:
    """Runs the steps of units."""

    def __init__(self, world: ports.World, rules: settings.IndexingSettings, seen: metrics.IndexingMetrics) -> None:
        self._world = world
        self._rules = rules
        self._seen = seen

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
        since = work.job.created_at if work.job.force else now - self._rules.max_age
        if work.guild.retry_at > now and not work.job.force:
            return _ended(work.unit, model.UnitState.SKIPPED, work.guild.error or NO_ACCESS)
        if not freshness.fetched_since(work.guild, since):
            if work.guild.lease_until > now:
                return self._elsewhere(work.unit)
            unit = await self._fetch(work, since, purpose)
            if unit is not None:
                return unit
            current = await self._world.guilds.get([work.guild.guild_id])
            if not freshness.fetched_since(current.get(work.guild.guild_id), since):
                return self._elsewhere(work.unit)
        self._seen.saved.inc()
        return self._seen_by(work, await self._world.guilds.channels([work.guild.guild_id]))

    async def _fetch(self, work: Work, since: float, purpose: ports.Purpose) -> model.Unit | None:
        """Fetch under the guild's lease, which ends or runs out whatever happens; None when somebody else holds it."""
        lease = _Lease(self._world, work, since, self._rules.guild_lease)
        try:
            channels = await self._world.discord.guild_channels(work.guild.guild_id, purpose, lease.take)
        except (errors.NoAccess, errors.Gone) as refusal:
            await lease.refused(refusal.reason)
            return _ended(work.unit, model.UnitState.FAILED, refusal.reason)
        except errors.IndexerError:
            await lease.release()
            raise
        if channels is None:
            return None
        if not await lease.store(channels):
            return self._elsewhere(work.unit)
        return self._seen_by(work, channels)

    def _elsewhere(self, unit: model.Unit) -> model.Unit:
        return dataclasses.replace(_back(unit), retry_at=self._world.clock() + ELSEWHERE)

    def _seen_by(self, work: Work, channels: list[model.Channel]) -> model.Unit:
        """Count what the user may see with what is known of his roles; ask for the roles next if they matter."""
        now = self._world.clock()
        believed = freshness.roles_are_fresh(work.membership, now=now, max_age=self._rules.roles_hard_age)
        roles = work.membership.role_ids if believed else None
        unit = dataclasses.replace(
            work.unit, channel_count=len(visibility.visible(work.membership, channels, roles)), attempts=0, retry_at=0.0
        )
        fresh = freshness.roles_are_fresh(work.membership, now=now, max_age=self._rules.roles_max_age)
        if not fresh and visibility.needs_roles(work.membership, channels):
            return dataclasses.replace(unit, state=model.UnitState.RUNNING, step=model.Step.ROLES)
        return _ended(unit, model.UnitState.SUCCEEDED)

    async def _roles(self, work: Work, purpose: ports.Purpose) -> model.Unit:
        user, guild = work.membership.user_id, work.membership.guild_id
        try:
            roles = await self._world.discord.member_roles(user, guild, work.credential, purpose)
        except errors.Gone:
            await self._world.users.left(user, guild, self._world.clock())
            return _ended(dataclasses.replace(work.unit, channel_count=0), model.UnitState.SKIPPED, "USER_LEFT")
        except errors.NoAccess:
            return _ended(work.unit, model.UnitState.SUCCEEDED, "ROLES_UNKNOWN")
        await self._world.users.store_roles(user, guild, roles, self._world.clock())
        channels = await self._world.guilds.channels([guild])
        count = len(visibility.visible(work.membership, channels, roles))
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


def _ended(unit: model.Unit, state: model.UnitState, error: str = "") -> model.Unit:
    return dataclasses.replace(unit, state=state, error=error, retry_at=0.0)
