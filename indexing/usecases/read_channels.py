"""
Reads one guild's channels for everybody, under its lease: the only way to a channel listing.

The lease is taken when the permit is there, so that waiting for quota locks nothing, and whoever gets his permit first
reads: a user who waits in the better lane overtakes a reading that is still in line in a worse one, and both use its
result. A late answer whose lease was lost changes nothing.
"""

import dataclasses
from collections.abc import Awaitable, Callable

from indexing import errors, settings
from indexing.domain import freshness, model, ports, reasons
from indexing.telemetry import logs, metrics
from indexing.usecases import guild_lists

MOST_LOST = 0.5
"""Share of a guild's channels that a listing may lack and be believed at once."""


@dataclasses.dataclass(frozen=True, slots=True)
class FetchRequest:
    """
    A guild as it is stored, and how new its channels must be.

    Attributes:
        since: A reading after this moment serves as well.
        began: Called when the reading begins.
    """

    guild: model.Guild
    since: float
    began: Callable[[], Awaitable[None]]


@dataclasses.dataclass(frozen=True, slots=True)
class FetchResult:
    """
    What a reading brought: the channels, or the cause of a lasting refusal.

    Attributes:
        changed: Whether the structure differs from that of the reading before.
    """

    channels: list[model.Channel]
    reason: str = ""
    changed: bool = False


class ChannelFetcher:
    """Reads guilds. Round trips: 1 to Discord, 2 to Redis, to MongoDB 3 when nothing changed and up to 7 else."""

    def __init__(
        self,
        deps: ports.Dependencies,
        config: settings.IndexingSettings,
        metrics: metrics.IndexingMetrics,
        bot: guild_lists.BotGuilds,
    ) -> None:
        self._deps = deps
        self._config = config
        self._metrics = metrics
        self._bot = bot
        self._log = logs.get(__name__)

    async def fetch(self, wanted: FetchRequest, purpose: ports.Purpose) -> FetchResult | None:
        """
        Read and store a guild's channels; None when somebody else reads or has read them, or the lease was lost.

        The lease ends, or runs out, whatever happens.

        Raises:
            What `ports.Discord` may raise, but for a lasting refusal of this guild.
        """
        lease = _Lease(self._deps, wanted, self._config.guild_lease)
        try:
            channels = await self._fetch_listing(wanted.guild, purpose, lease)
        except (errors.NoAccess, errors.Gone, errors.AnswerTooLarge) as refusal:
            return FetchResult([], await self._record_refusal(wanted.guild, lease, refusal, purpose))
        except errors.DiscordTransient:
            await lease.failed()
            raise
        except errors.IndexerError:
            await lease.release()
            raise
        if channels is None:
            return None
        schedule = freshness.schedule_after_fetch(wanted.guild, channels, self._deps.clock())
        if not await lease.store(channels, schedule):
            return None
        return FetchResult(channels, changed=schedule.fingerprint != wanted.guild.schedule.fingerprint)

    async def _fetch_listing(
        self, guild: model.Guild, purpose: ports.Purpose, lease: "_Lease"
    ) -> list[model.Channel] | None:
        """Return the guild's channels; a listing that lacks very much is believed when it comes twice."""
        channels = await self._deps.discord.guild_channels(guild.guild_id, purpose, lease.take)
        if channels is None or not _needs_checking(channels, guild):
            return channels
        stored = await self._deps.guilds.list_channels([guild.guild_id])
        before = [channel.channel_id for channel in stored]
        if freshness.needs_confirmation(before, [channel.channel_id for channel in channels], MOST_LOST):
            self._metrics.lists_verified.inc()
            channels = await self._deps.discord.guild_channels(guild.guild_id, purpose, lease.take)
        return channels and _restore_redacted(channels, stored)

    async def _record_refusal(
        self, guild: model.Guild, lease: "_Lease", refusal: errors.DiscordRefused, purpose: ports.Purpose
    ) -> str:
        """Remember why there is nothing to read; without certainty that our bot was removed, nothing is hidden."""
        if isinstance(refusal, errors.AnswerTooLarge):
            self._log.error("guild_too_large", guild_id=guild.guild_id, error=str(refusal))
            await lease.refused(reasons.GUILD_TOO_LARGE)
            return reasons.GUILD_TOO_LARGE
        try:
            there = await self._bot.verify_installed(guild.guild_id, purpose)
        except errors.IndexerError:
            there = True
        if not there:
            return reasons.BOT_REMOVED
        reason = reasons.NO_ACCESS if isinstance(refusal, errors.NoAccess) else reasons.GUILD_UNAVAILABLE
        await lease.refused(reason)
        return reason


def _needs_checking(channels: list[model.Channel], guild: model.Guild) -> bool:
    """Return whether a listing may lack something that is stored; most are as they were, and nobody need look."""
    if any(channel.redacted for channel in channels):
        return True
    return bool(guild.channel_count) and freshness.fingerprint(channels) != guild.schedule.fingerprint


def _restore_redacted(channels: list[model.Channel], stored: list[model.Channel]) -> list[model.Channel]:
    """Return a listing in which redacted channels are as they are stored; those not known are left out."""
    known = {channel.channel_id: channel for channel in stored}
    rows = [known.get(channel.channel_id) if channel.redacted else channel for channel in channels]
    return [row for row in rows if row is not None]


class _Lease:
    """The right to read one guild."""

    def __init__(self, deps: ports.Dependencies, wanted: FetchRequest, seconds: float) -> None:
        self._deps = deps
        self._wanted = wanted
        self._guild = wanted.guild
        self._seconds = seconds
        self._fence: int | None = None

    async def take(self) -> bool:
        """Take the lease, unless it is held; the watchers learn that the guild is being read."""
        if self._fence is None:
            now = self._deps.clock()
            self._fence = await self._deps.guilds.acquire_lease(
                self._guild.guild_id, now=now, until=now + self._seconds, fetched_before=self._wanted.since
            )
            if self._fence is not None:
                await self._wanted.began()
        return self._fence is not None

    async def store(self, channels: list[model.Channel], schedule: model.Schedule) -> bool:
        """Store the listing and end the lease; False when the lease was lost meanwhile."""
        return self._fence is not None and await self._deps.guilds.store_channels(
            self._guild.guild_id, fence=self._fence, channels=channels, now=self._deps.clock(), schedule=schedule
        )

    async def refused(self, reason: str) -> None:
        """Remember a lasting refusal and end the lease."""
        if self._fence is not None:
            now = self._deps.clock()
            until = reasons.negative_cache_expiry(self._guild.refusals, now)
            await self._deps.guilds.mark_refused(
                self._guild.guild_id, fence=self._fence, error=reason, now=now, retry_at=until
            )

    async def failed(self) -> None:
        """Remember a failure that may pass, if the guild is read regularly, and end the lease."""
        if self._guild.fetched_at is None:
            await self.release()
        elif self._fence is not None:
            later = freshness.schedule_after_failure(self._guild, self._deps.clock())
            await self._deps.guilds.release_lease(self._guild.guild_id, fence=self._fence, schedule=later)

    async def release(self) -> None:
        """End the lease without a result."""
        if self._fence is not None:
            await self._deps.guilds.release_lease(self._guild.guild_id, fence=self._fence)
