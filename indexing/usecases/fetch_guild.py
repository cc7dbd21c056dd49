"""
Runs the steps of a guild task: one guild for one user.

A task has at most two steps: the guild's channels, shared by all its users, and the user's role ids, fetched only when
they can change what the user sees. Round trips for a guild that must be fetched: 1 to Discord, 2 to Redis, 3 to MongoDB
when nothing changed and up to 7 otherwise; for a fresh guild: 1 to MongoDB; for one that waits for quota: 1 to Redis.
"""

import dataclasses
from collections.abc import Awaitable, Callable, Collection, Sequence

from indexing import errors, settings
from indexing.domain import freshness, model, permissions, ports, reasons, trust
from indexing.telemetry import metrics
from indexing.usecases import read_channels

ELSEWHERE = 0.5
"""Seconds until a guild that another process fetches is checked again; a fetch takes about 0.2 s."""


@dataclasses.dataclass(frozen=True, slots=True)
class TaskContext:
    """A task with its stored guild and membership; `began` is called when its fetch begins."""

    job: model.Job
    task: model.GuildTask
    guild: model.Guild
    membership: model.Membership
    credential: ports.Credential
    began: Callable[[], Awaitable[None]]


@dataclasses.dataclass(frozen=True, slots=True)
class StepResult:
    """
    The task after the step.

    Attributes:
        throttled: The refusal that pauses the whole job; None when the job may continue.
    """

    task: model.GuildTask
    throttled: errors.RateLimited | None = None


class GuildStep:
    """Runs the steps of guild tasks."""

    def __init__(
        self,
        deps: ports.Dependencies,
        config: settings.IndexingSettings,
        metrics: metrics.IndexingMetrics,
        reader: read_channels.ChannelFetcher,
    ) -> None:
        self._deps = deps
        self._config = config
        self._metrics = metrics
        self._reader = reader
        self._trust = trust.Trust(config)

    def is_requested(self, guild_id: int, lane: model.Lane) -> bool:
        """Return whether this process already waits for the guild's channels, in *lane* or a better one."""
        return self._reader.is_requested(guild_id, lane)

    async def run_step(self, work: TaskContext, purpose: ports.Purpose) -> StepResult:
        """
        Run the task's next step.

        Raises:
            errors.TokenRefused: A token is refused: the bot's in the step CHANNELS, the user's in ROLES.
            errors.BotTokenRefused: The bot's token is refused in the step ROLES.
            errors.LimiterUnavailable, errors.StoreUnavailable: No step can run now.
        """
        try:
            if work.task.step is model.Step.ROLES:
                return StepResult(await self._roles(work, purpose))
            return StepResult(await self._channels(work, purpose))
        except errors.RateLimited as refusal:
            return self._wait(work.task, refusal)
        except errors.EgressBlocked as block:
            return self._wait(work.task, block.as_wait())
        except errors.DiscordTransient as failure:
            return StepResult(self._retry_later(work.task, failure.reason))
        except (errors.TokenRefused, errors.BotTokenRefused):
            raise
        except errors.DiscordRefused as refusal:
            return StepResult(_ended(work.task, model.TaskState.FAILED, refusal.reason))

    async def _channels(self, work: TaskContext, purpose: ports.Purpose) -> model.GuildTask:
        now = self._deps.clock()
        if reasons.is_negatively_cached(work.guild, now=now, force=work.job.force):
            return _ended(work.task, model.TaskState.SKIPPED, work.guild.reason or reasons.NO_ACCESS)
        guild = self._newest(work)
        if not self._is_served_by(work, guild):
            if freshness.is_held(guild.lease_until, now):
                return self._retry_when_fetched_elsewhere(work.task)
            since = work.job.created_at if work.job.force else now - self._config.max_age
            request = read_channels.FetchRequest(guild, since, work.began, gives_up=self._gives_up(work.task))
            read = await self._reader.fetch(request, purpose)
            if read is not None:
                return self._count_visible(work, read.channels) if not read.reason else _refused(work.task, read.reason)
            await self._reader.wait_for_other(guild.guild_id)
            guild = self._newest(work)
            if not self._is_served_by(work, guild):
                current = await self._deps.guilds.get([guild.guild_id])
                guild = current.get(guild.guild_id, guild)
            if not self._is_served_by(work, guild):
                return self._retry_when_fetched_elsewhere(work.task)
        self._metrics.saved.inc()
        return self._count_visible(work, await self._reader.channels(guild))

    def _newest(self, work: TaskContext) -> model.Guild:
        return self._reader.newest(work.guild, work.job.created_at)

    def _is_served_by(self, work: TaskContext, guild: model.Guild) -> bool:
        """Return whether the stored channels of the guild are fresh enough for the job."""
        if work.job.force:
            return freshness.was_fetched_since(guild, work.job.created_at)
        return freshness.is_fresh(guild, now=self._deps.clock(), max_age=self._config.max_age)

    def _gives_up(self, task: model.GuildTask) -> bool:
        """Return whether the task's next attempt is the last one if its answer is unreadable."""
        most = reasons.most_attempts(reasons.ANSWER_UNREADABLE, task.reason, self._config.max_attempts)
        return task.attempts + 1 >= most

    def _retry_when_fetched_elsewhere(self, task: model.GuildTask) -> model.GuildTask:
        return dataclasses.replace(requeued(task), retry_at=self._deps.clock() + ELSEWHERE)

    def _count_visible(self, work: TaskContext, channels: Sequence[model.Channel]) -> model.GuildTask:
        """Count the channels that the user may see by their known roles; fetch the roles next if they matter."""
        now = self._deps.clock()
        roles = self._trust.trusted_roles(work.membership, now)
        task = dataclasses.replace(
            work.task,
            channel_count=len(permissions.visible_channels(work.membership, channels, roles)),
            attempts=0,
            retry_at=0.0,
        )
        age = self._config.roles_max_age
        if self._is_fed(work):
            age = min(age, self._config.fed_roles_max_age)
        if not self._roles_are_fresh(work, now, age) and permissions.needs_roles(work.membership, channels):
            return dataclasses.replace(task, state=model.TaskState.RUNNING, step=model.Step.ROLES)
        return _ended(task, model.TaskState.SUCCEEDED)

    def _is_fed(self, work: TaskContext) -> bool:
        """Return whether role ids of the guild can be asked for over the Gateway."""
        return self._deps.fed_roles is not None and bool(work.guild.fed_by)

    @staticmethod
    def _roles_are_fresh(work: TaskContext, now: float, max_age: float) -> bool:
        age = now - work.job.created_at if work.job.force else max_age
        return freshness.roles_are_fresh(work.membership, now=now, max_age=age)

    async def _roles(self, work: TaskContext, purpose: ports.Purpose) -> model.GuildTask:
        member = work.membership
        asked_at = self._deps.clock()
        try:
            roles = await self._fetch_fed_roles(work)
            if roles is None:
                if member.role_ids is not None and self._roles_are_fresh(work, asked_at, self._config.roles_max_age):
                    return await self._count_with_roles(work, member, member.role_ids)
                roles = await self._fetch_roles(work, purpose)
        except (errors.NoAccess, errors.Gone) as refusal:
            if refusal.code != errors.UNKNOWN_MEMBER:
                return _ended(work.task, model.TaskState.SUCCEEDED, reasons.ROLES_UNKNOWN)
            if not await self._deps.users.mark_left(member):
                return await self._from_stored(work)
            return _left(work.task)
        if not await self._deps.users.store_roles(member, roles, asked_at):
            return await self._from_stored(work)
        return await self._count_with_roles(work, member, roles)

    async def _from_stored(self, work: TaskContext) -> model.GuildTask:
        """Complete a task whose response is older than the stored roles: from those, or by a later retry."""
        user = await self._deps.users.load(work.membership.user_id)
        member = user.memberships.get(work.membership.guild_id) if user else None
        if member is None:
            return _left(work.task)
        if member.role_ids is None:
            return self._retry_later(work.task, errors.DiscordTransient.reason)
        return await self._count_with_roles(work, member, member.role_ids)

    async def _count_with_roles(
        self, work: TaskContext, member: model.Membership, roles: Collection[int]
    ) -> model.GuildTask:
        guild = self._newest(work)
        count = 0
        if not self._trust.hides_channels(guild, member, self._deps.clock()):
            count = len(permissions.visible_channels(member, await self._reader.channels(guild), roles))
        return _ended(dataclasses.replace(work.task, channel_count=count), model.TaskState.SUCCEEDED)

    async def _fetch_fed_roles(self, work: TaskContext) -> tuple[int, ...] | None:
        """Fetch the user's role ids over the Gateway, without a permit; None when it does not answer in time."""
        if self._deps.fed_roles is None or not work.guild.fed_by:
            return None
        member = work.membership
        return await self._deps.fed_roles.fetch(work.guild.fed_by, member.guild_id, member.user_id)

    async def _fetch_roles(self, work: TaskContext, purpose: ports.Purpose) -> tuple[int, ...]:
        """Fetch the user's role ids by REST: with their own token, and with the bot's if that one is not permitted."""
        user_id, guild_id = work.membership.user_id, work.membership.guild_id
        fetch = self._deps.discord.member_roles
        try:
            return await fetch(user_id, guild_id, work.credential, purpose)
        except (errors.NoAccess, errors.Gone) as refusal:
            if refusal.code == errors.UNKNOWN_MEMBER or ports.MEMBER_SCOPE not in work.credential.scopes:
                raise
        return await fetch(user_id, guild_id, work.credential.without_member_scope(), purpose)

    def _wait(self, task: model.GuildTask, refusal: errors.RateLimited) -> StepResult:
        """Requeue the task. The job's other guilds continue only when the refusal concerns this guild alone."""
        waiting = requeued(task)
        if refusal.budget == "route":
            if refusal.is_answer:
                # A 429 from Discord, not a refusal of the limiter: attempts are counted, so that the task ends.
                waiting = self._retry_later(task, errors.DiscordTransient.reason)
                if waiting.state.terminal:
                    return StepResult(waiting)
            until = self._deps.clock() + refusal.retry_after
            return StepResult(dataclasses.replace(waiting, retry_at=max(waiting.retry_at, until)))
        return StepResult(waiting, throttled=refusal)

    def _retry_later(self, task: model.GuildTask, reason: str) -> model.GuildTask:
        attempts = task.attempts + 1
        if attempts >= reasons.most_attempts(reason, task.reason, self._config.max_attempts):
            return dataclasses.replace(_ended(task, model.TaskState.FAILED, reason), attempts=attempts)
        pause = freshness.backoff(attempts, base=self._config.retry_base)
        return dataclasses.replace(
            requeued(task), attempts=attempts, reason=reason, retry_at=self._deps.clock() + pause
        )


def requeued(task: model.GuildTask) -> model.GuildTask:
    """Return the task in its waiting state: RUNNING when only its roles are missing, else QUEUED."""
    state = model.TaskState.RUNNING if task.step is model.Step.ROLES else model.TaskState.QUEUED
    return dataclasses.replace(task, state=state)


def _refused(task: model.GuildTask, reason: str) -> model.GuildTask:
    """Return the task of a guild that refused: skipped when the bot was removed, else failed."""
    state = model.TaskState.SKIPPED if reason == reasons.BOT_REMOVED else model.TaskState.FAILED
    return _ended(task, state, reason)


def _left(task: model.GuildTask) -> model.GuildTask:
    return _ended(dataclasses.replace(task, channel_count=0), model.TaskState.SKIPPED, reasons.USER_LEFT)


def _ended(task: model.GuildTask, state: model.TaskState, error: str = "") -> model.GuildTask:
    return dataclasses.replace(task, state=state, reason=error, retry_at=0.0)
