"""
Fetches one guild's channels for all its users, under the guild's lease: the only way to a channel listing.

The lease is taken after the permit, so waiting for quota locks nothing and the request with the first permit fetches: a
request in a better lane overtakes one that waits in a worse lane, and both use its result. A late response whose lease
was lost changes nothing.

In one process, a request for a guild that another one already waits for queues for no permit of its own: it waits for
that one's result. A permit that arrives when the guild has just been fetched is returned, but its turn is lost.

Round trips for a fetch: 1 to Discord, 2 to Redis, 2 to MongoDB (lease, listing); 1 more when the structure changed.
"""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Sequence

from indexing import concurrency, errors, settings
from indexing.domain import channel_views, freshness, guild_cache, model, ports, reasons
from indexing.telemetry import logs, metrics
from indexing.usecases import bot_list

MOST_LOST = 0.5
"""Share of a guild's channels that a listing may lack without being fetched a second time."""
CACHE_BYTES = 32 << 20
"""Decoded guilds that a process keeps for the tasks of other users in the same guilds."""
IN_FLIGHT_WAIT = 3.0
"""Longest wait, in seconds, for another request of this process for the same guild: its permit and its call."""


@dataclasses.dataclass(frozen=True, slots=True)
class FetchRequest:
    """
    A stored guild, and how new its channels must be.

    Attributes:
        since: A fetch after this moment is recent enough.
        began: Called when the fetch begins.
        gives_up: Whether an unreadable answer is stored as a refusal: the attempts before it were unreadable too.
    """

    guild: model.Guild
    since: float
    began: Callable[[], Awaitable[None]]
    gives_up: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class FetchResult:
    """
    The result of a fetch: the channels, or the reason of a lasting refusal.

    Attributes:
        changed: Whether the structure differs from the previous fetch.
    """

    channels: Sequence[model.Channel]
    reason: str = ""
    changed: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class _Request:
    """A request for a guild that waits for its permit or its response."""

    lane: model.Lane
    done: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)

    def precedes(self, lane: model.Lane) -> bool:
        """Return whether it gets its permit before a new request in *lane*."""
        order = tuple(model.Lane)
        return order.index(self.lane) <= order.index(lane)


class ChannelFetcher:
    """Fetches guilds, and caches those that this process decoded recently."""

    def __init__(
        self,
        deps: ports.Dependencies,
        config: settings.IndexingSettings,
        metrics: metrics.IndexingMetrics,
        bot: bot_list.BotGuilds,
    ) -> None:
        self._deps = deps
        self._config = config
        self._metrics = metrics
        self._bot = bot
        self._log = logs.get(__name__)
        self._cache: guild_cache.GuildCache[model.IndexedGuild] = guild_cache.GuildCache(CACHE_BYTES)
        self._in_flight: dict[int, asyncio.Event] = {}
        self._requests: dict[int, _Request] = {}
        self._loads = concurrency.Coalescer(self._load)

    def newest(self, guild: model.Guild, loaded_since: float) -> model.Guild:
        """
        Return the newest known version of the guild: as given, or as a later fetch of this process left it.

        *guild* was loaded after *loaded_since*. If it has no channels although this process fetched them before that,
        it was erased and stored anew.
        """
        cached = self._cache.get(guild.guild_id)
        if cached is None or not _at_least(cached.guild, guild):
            return guild
        is_anew = guild.fetched_at is None and (cached.guild.fetched_at or 0.0) < loaded_since
        return guild if is_anew else cached.guild

    async def channels(self, guild: model.Guild) -> Sequence[model.Channel]:
        """Return the channels of a fetched guild, as of *guild* or newer; 1 round trip unless cached."""
        cached = self._cache.get(guild.guild_id)
        if cached is None or not _at_least(cached.guild, guild):
            cached = (await self._loads.fetch([guild.guild_id])).get(guild.guild_id)
        return cached.channels if cached is not None else ()

    async def _load(self, guild_ids: list[int]) -> dict[int, model.IndexedGuild]:
        found = await self._deps.guilds.load(guild_ids)
        for guild_id, indexed in found.items():
            self._cache.put(guild_id, indexed, size=channel_views.size_of(indexed))
        return found

    def is_requested(self, guild_id: int, lane: model.Lane) -> bool:
        """Return whether a request of this process waits for the guild, in *lane* or a better one, or fetches it."""
        request = self._requests.get(guild_id)
        return request is not None and (guild_id in self._in_flight or request.precedes(lane))

    async def wait_for_other(self, guild_id: int) -> None:
        """Wait up to `IN_FLIGHT_WAIT` for another request of this process for the guild."""
        request = self._requests.get(guild_id)
        done = self._in_flight.get(guild_id) or (request.done if request else None)
        if done is not None:
            try:
                async with asyncio.timeout(IN_FLIGHT_WAIT):
                    await done.wait()
            except TimeoutError:
                return

    async def fetch(self, wanted: FetchRequest, purpose: ports.Purpose) -> FetchResult | None:
        """
        Fetch and store a guild's channels.

        Returns:
            None when another fetch is recent enough, when another request of this process, in the same lane or a
            better one, is first, or when the lease was lost.

        The lease is ended in every case, or expires.

        Raises:
            The errors of `ports.Discord`, except a lasting refusal of this guild.
        """
        guild_id = wanted.guild.guild_id
        other = self._requests.get(guild_id)
        if other is not None and other.precedes(purpose.lane):
            return None
        request = self._requests[guild_id] = _Request(purpose.lane)
        lease = _Lease(self._deps, wanted, self._config.guild_lease, self._in_flight)
        try:
            return await self._fetch_leased(wanted, purpose, lease)
        except errors.DiscordTransient as failure:
            if wanted.gives_up and isinstance(failure, errors.AnswerUnreadable):
                await lease.refused(reasons.ANSWER_UNREADABLE)
            else:
                await lease.failed()
            raise
        except errors.IndexerError:
            await lease.release()
            raise
        finally:
            lease.forget()
            request.done.set()
            if self._requests.get(guild_id) is request:
                del self._requests[guild_id]

    async def _fetch_leased(self, wanted: FetchRequest, purpose: ports.Purpose, lease: "_Lease") -> FetchResult | None:
        guild = wanted.guild
        try:
            channels = await self._list_unless_removed(guild, purpose, lease)
            stored = None
            if channels is not None and _needs_checking(channels, guild):
                stored = (await self._deps.guilds.load([guild.guild_id])).get(guild.guild_id)
                channels = await self._checked(guild, channels, stored, purpose, lease)
        except _BotRemoved:
            return FetchResult((), reasons.BOT_REMOVED)
        except (errors.NoAccess, errors.Gone, errors.AnswerTooLarge) as refusal:
            return FetchResult((), await self._record_refusal(guild, lease, refusal))
        if channels is None:
            return None
        schedule = freshness.schedule_after_fetch(guild, channels, self._deps.clock())
        gone = gone_after(stored, channels, lease.asked_at) if stored is not None else ()
        listing = model.Listing(lease.fence, channels, lease.asked_at, schedule, guild, gone)
        try:
            if not await self._deps.guilds.store_channels(guild.guild_id, listing):
                # What this process remembers may be of a guild that was erased and stored anew: it would be asked for
                # again and again, and never stored.
                self._cache.drop(guild.guild_id)
                await lease.release()
                return None
        except errors.DocumentTooLarge as problem:
            return FetchResult((), await self._record_refusal(guild, lease, problem))
        self._remember(listing, guild)
        return FetchResult(channels, changed=schedule.fingerprint != guild.schedule.fingerprint)

    async def _list_unless_removed(
        self, guild: model.Guild, purpose: ports.Purpose, lease: "_Lease"
    ) -> list[model.Channel] | None:
        """
        Return the listing as `_list` does; a guild that refuses although our bot is there is asked a second time.

        Our bot may have come back between the refusal and the answer that it is there. A refusal that is believed lasts
        an hour.

        Raises:
            _BotRemoved: Our bot is known to be removed; the stored channels are hidden.
            errors.DiscordTransient: Whether the bot is in the guild cannot be verified now; nothing is stored.
        """
        try:
            return await self._list(guild, purpose, lease)
        except (errors.NoAccess, errors.Gone):
            self._cache.drop(guild.guild_id)
            try:
                there = await self._bot.verify_installed(guild.guild_id, purpose)
            except errors.IndexerError as unknown:
                # Without this, a guild without the bot would be refused for an hour for want of a permission.
                raise errors.DiscordTransient("the bot's membership cannot be verified") from unknown
            if not there:
                raise _BotRemoved from None
        return await self._list(guild, purpose, lease)

    async def _list(self, guild: model.Guild, purpose: ports.Purpose, lease: "_Lease") -> list[model.Channel] | None:
        """
        Return the listing without redacted channels; None when the lease is not to be had.

        Discord redacts a channel that our bot may not view, usually because it has become private, so that a known one
        is hidden like one that is not listed.
        """
        channels = await self._deps.discord.guild_channels(guild.guild_id, purpose, lease.take)
        return None if channels is None else [channel for channel in channels if not channel.redacted]

    async def _checked(
        self,
        guild: model.Guild,
        channels: list[model.Channel],
        stored: model.IndexedGuild | None,
        purpose: ports.Purpose,
        lease: "_Lease",
    ) -> list[model.Channel] | None:
        """Return the listing to store; one that lacks many known channels is fetched a second time, seconds later."""
        before = [channel.channel_id for channel in stored.channels] if stored is not None else []
        if not freshness.needs_confirmation(before, [channel.channel_id for channel in channels], MOST_LOST):
            return channels
        self._metrics.lists_verified.inc()
        self._log.warning("channels_lack_many", guild_id=guild.guild_id, known=len(before), listed=len(channels))
        await asyncio.sleep(freshness.CONFIRMATION_PAUSE)
        return await self._list_unless_removed(guild, purpose, lease)

    def _remember(self, listing: model.Listing, guild: model.Guild) -> None:
        indexed = model.IndexedGuild(listing.applied_to(guild), 0, tuple(listing.channels))
        self._cache.put(guild.guild_id, indexed, size=channel_views.size_of(indexed))

    async def _record_refusal(
        self, guild: model.Guild, lease: "_Lease", refusal: errors.DiscordRefused | errors.DocumentTooLarge
    ) -> str:
        """Store a lasting refusal; returns its reason."""
        self._cache.drop(guild.guild_id)
        if isinstance(refusal, errors.AnswerTooLarge | errors.DocumentTooLarge):
            self._log.error("guild_too_large", guild_id=guild.guild_id, error=str(refusal))
            reason = reasons.GUILD_TOO_LARGE
        else:
            reason = reasons.NO_ACCESS if isinstance(refusal, errors.NoAccess) else reasons.GUILD_UNAVAILABLE
        await lease.refused(reason)
        return reason


class _BotRemoved(Exception):
    """Our bot is not in the guild any more."""


def _at_least(cached: model.Guild, guild: model.Guild) -> bool:
    """Return whether a cached guild is at least as new as *guild*, which may have been loaded earlier."""
    if guild.access is model.Access.NOT_INSTALLED:
        return False
    if guild.fetched_at is None:
        return cached.fetched_at is not None and cached.fetched_at >= guild.refused_at
    return cached.fetched_at is not None and cached.fetched_at >= guild.fetched_at


def _needs_checking(channels: list[model.Channel], guild: model.Guild) -> bool:
    """Return whether a listing may lack stored channels; an unchanged structure needs no check."""
    return bool(guild.channel_count) and freshness.fingerprint(channels) != guild.schedule.fingerprint


def gone_after(
    stored: model.IndexedGuild, channels: Sequence[model.Channel], now: float
) -> tuple[model.GoneChannel, ...]:
    """Return the gone channels once *channels* are stored; a channel that is listed again is not among them."""
    listed = {channel.channel_id for channel in channels}
    before = [one for one in stored.gone if one.channel_id not in listed]
    new = [
        model.GoneChannel(row.channel_id, row.kind, now, reasons.HIDDEN_OR_DELETED)
        for row in stored.channels
        if row.channel_id not in listed
    ]
    return (*before, *new)


class _Lease:
    """The right to fetch one guild."""

    def __init__(
        self, deps: ports.Dependencies, wanted: FetchRequest, seconds: float, in_flight: dict[int, asyncio.Event]
    ) -> None:
        self._deps = deps
        self._wanted = wanted
        self._guild = wanted.guild
        self._seconds = seconds
        self._in_flight = in_flight
        self._fence: int | None = None
        self._until = 0.0
        self.asked_at = 0.0

    @property
    def fence(self) -> int:
        """The fencing token; the lease must have been taken."""
        if self._fence is None:
            raise RuntimeError("the lease was not taken")
        return self._fence

    async def take(self) -> bool:
        """
        Take the lease, which reports that the fetch begins; returns False when another request holds it.

        A further call of the same fetch needs a lease that has not expired: another process may have taken it since.
        """
        if self._fence is None:
            if self._guild.guild_id in self._in_flight:
                return False
            done = self._in_flight[self._guild.guild_id] = asyncio.Event()
            now = self._deps.clock()
            self._until = now + self._seconds
            try:
                self._fence = await self._deps.guilds.acquire_lease(
                    self._guild.guild_id, now=now, until=self._until, fetched_before=self._wanted.since
                )
            finally:
                if self._fence is None:
                    del self._in_flight[self._guild.guild_id]
                    done.set()
            if self._fence is not None:
                await self._wanted.began()
        self.asked_at = self._deps.clock()
        return self._fence is not None and self.asked_at < self._until

    def forget(self) -> None:
        """Wake the requests that wait for this fetch."""
        if self._fence is not None:
            self._in_flight.pop(self._guild.guild_id).set()

    async def refused(self, reason: str) -> None:
        """Store a lasting refusal and end the lease."""
        if self._fence is not None:
            now = self._deps.clock()
            until = reasons.negative_cache_expiry(self._guild.refusals, now)
            await self._deps.guilds.mark_refused(
                self._guild.guild_id, fence=self._fence, error=reason, now=now, retry_at=until
            )

    async def failed(self) -> None:
        """Store a transient failure of a guild that was fetched before, and end the lease."""
        if self._guild.fetched_at is None:
            await self.release()
        elif self._fence is not None:
            later = freshness.schedule_after_failure(self._guild, self._deps.clock())
            await self._deps.guilds.release_lease(self._guild.guild_id, fence=self._fence, schedule=later)

    async def release(self) -> None:
        """End the lease without a result."""
        if self._fence is not None:
            await self._deps.guilds.release_lease(self._guild.guild_id, fence=self._fence)
