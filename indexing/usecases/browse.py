"""
What a user is shown of the index: his guilds and channels as stored, never more than he may see.

No call to Discord is made. Round trips to MongoDB, however many guilds: up to 6 for a page of guilds, 7 for one of
channels.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence

from indexing import errors, settings
from indexing.domain import freshness, model, permissions, ports, ranking, reasons

PAGE_BYTES = 3 << 20
"""Largest page of channels: gRPC's callers take 4 MiB by default, and 500 topics of forums may be 8."""
ROW_BYTES = 200
"""More than a row takes besides its texts."""


@dataclasses.dataclass(frozen=True, slots=True)
class GuildView:
    """
    One of a user's guilds.

    Attributes:
        position: 0 is the most important one.
        channel_count: Channels that he may see, None when the guild was never indexed.
        reason: Why there are no channels, not all, or no news; empty when all is there.
        rank: Why it stands where it stands.
        install_url: Where our bot can be installed, empty when it is there.
    """

    guild: model.Guild
    owner: bool
    position: int
    channel_count: int | None
    stale: bool
    reason: str
    rank: ranking.RankedGuild
    install_url: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class ChannelFilter:
    """Which channels, in which order; an empty value does not filter."""

    guild_id: int = 0
    name_prefix: str = ""
    kinds: tuple[int, ...] = ()
    by_activity: bool = False


class Browse:
    """Reads what a user may see."""

    def __init__(self, deps: ports.Dependencies, config: settings.IndexingSettings) -> None:
        self._deps = deps
        self._config = config

    async def list_guilds(self, user_id: int, *, after: int, size: int) -> tuple[list[GuildView], int | None]:
        """
        Return a page of the user's guilds by rank, and where the next page begins, None on the last.

        Args:
            user_id: The user.
            after: Guilds to skip; what the page before returned.
            size: Most guilds to return.

        Raises:
            errors.UserNotFound: Nothing is known of the user.
        """
        memberships = await self._memberships(user_id)
        stored = await self._deps.guilds.get(memberships)
        preferences = await self._deps.users.get_preferences(user_id)
        now, weights = self._deps.clock(), self._config.rank_weights
        ranked = ranking.rank_guilds(memberships, stored, preferences, now=now, weights=weights)
        page = ranked[after : after + size]
        shown = [row.inputs.guild_id for row in page]
        believed = await self._is_list_trusted(user_id)
        channels = _by_guild(await self._deps.guilds.list_channels(shown if believed else []))
        views = [
            self._view(memberships[row.inputs.guild_id], stored[row.inputs.guild_id], channels, row, after + index)
            for index, row in enumerate(page)
        ]
        if not believed:
            views = [dataclasses.replace(view, reason=view.reason or reasons.LIST_TOO_OLD) for view in views]
        await self._schedule_refresh([stored[guild_id] for guild_id in shown])
        return views, after + size if after + size < len(ranked) else None

    async def list_channels(
        self, user_id: int, wanted: ChannelFilter, *, after: tuple[int, ...] | None, size: int
    ) -> tuple[list[model.Channel], tuple[int, ...] | None]:
        """
        Return a page of channels that the user may see, and the key of its last one, None on the last page.

        A page with very long topics has fewer rows, so that it can be sent.

        Args:
            user_id: The user.
            wanted: Filter and order.
            after: Key of the last channel of the page before.
            size: Most channels to return.

        Raises:
            errors.UserNotFound: Nothing is known of the user.
        """
        memberships = await self._memberships(user_id)
        if wanted.guild_id:
            memberships = {key: row for key, row in memberships.items() if key == wanted.guild_id}
        if not await self._is_list_trusted(user_id):
            memberships = {}
        stored = _by_guild(await self._deps.guilds.list_channels(memberships))
        seen = [
            channel
            for guild_id, rows in stored.items()
            for channel in permissions.visible_channels(
                memberships[guild_id], rows, self._trusted_roles(memberships[guild_id])
            )
            if _matches(channel, wanted)
        ]
        key = _activity if wanted.by_activity else _position
        ordered = sorted((key(channel), channel) for channel in seen) if seen else []
        rest = [pair for pair in ordered if after is None or pair[0] > after]
        page = rest[: _fitting([channel for _, channel in rest[:size]])]
        return [channel for _, channel in page], page[-1][0] if len(rest) > len(page) else None

    async def mark_viewed(self, user_id: int, wanted: ChannelFilter, rows: Iterable[model.Channel]) -> list[int]:
        """Note that the user was shown *rows*; returns the guilds among them that are old and will be read again."""
        now = self._deps.clock()
        shown = {row.guild_id for row in rows}
        guilds = await self._deps.guilds.get(shown)
        await self._deps.guilds.mark_viewed(shown, now)
        if wanted.guild_id in shown:
            await self._deps.users.mark_viewed(user_id, wanted.guild_id, now)
        return await self._schedule_refresh(guilds.values())

    async def _schedule_refresh(self, guilds: Iterable[model.Guild]) -> list[int]:
        """Have those read again that are old; one that is due already stays as it is."""
        now = self._deps.clock()
        old = [
            guild.guild_id
            for guild in guilds
            if guild.fetched_at is not None and not freshness.is_fresh(guild, now=now, max_age=self._config.max_age)
        ]
        await self._deps.guilds.schedule_soon(old, now)
        return sorted(old)

    async def _memberships(self, user_id: int) -> dict[int, model.Membership]:
        rows = {row.guild_id: row for row in await self._deps.users.memberships(user_id)}
        if not rows and not await self._deps.users.exists(user_id):
            raise errors.UserNotFound(user_id)
        return rows

    async def _is_list_trusted(self, user_id: int) -> bool:
        """Return whether the user's guild list is young enough to say where he is a member, with which permissions."""
        listed_at = await self._deps.users.guild_list_time(user_id)
        return listed_at is None or self._deps.clock() - listed_at < self._config.roles_hard_age

    def _trusted_roles(self, membership: model.Membership) -> tuple[int, ...] | None:
        hard = self._config.roles_hard_age
        return (
            membership.role_ids if freshness.roles_are_fresh(membership, now=self._deps.clock(), max_age=hard) else None
        )

    def _view(
        self,
        membership: model.Membership,
        guild: model.Guild,
        stored: Mapping[int, Sequence[model.Channel]],
        ranked: ranking.RankedGuild,
        position: int,
    ) -> GuildView:
        roles, channels = self._trusted_roles(membership), stored.get(guild.guild_id, [])
        indexed = guild.fetched_at is not None and guild.access is not model.Access.NOT_INSTALLED
        count = len(permissions.visible_channels(membership, channels, roles)) if indexed else None
        hidden = roles is None and permissions.needs_roles(membership, channels)
        stale = not freshness.is_fresh(guild, now=self._deps.clock(), max_age=self._config.max_age)
        return GuildView(
            guild=guild,
            owner=membership.owner,
            position=position,
            channel_count=count,
            stale=stale,
            reason=_reason(guild, indexed=indexed, hidden=hidden, stale=stale),
            rank=ranked,
            install_url=_install_url(self._config.install_url, guild),
        )


def _reason(guild: model.Guild, *, indexed: bool, hidden: bool, stale: bool) -> str:
    if guild.access is model.Access.NOT_INSTALLED:
        return reasons.BOT_REMOVED if guild.reason == reasons.BOT_REMOVED else reasons.BOT_NOT_INSTALLED
    if guild.access is model.Access.DENIED:
        return guild.reason or reasons.NO_ACCESS
    if not indexed:
        return reasons.NOT_INDEXED_YET
    if stale and guild.schedule.failures:
        return reasons.GUILD_UNAVAILABLE
    return reasons.ROLES_UNKNOWN if hidden else ""


def _install_url(template: str, guild: model.Guild) -> str:
    """Return the link for one guild (developers/topics/oauth2.mdx, Bot Authorization Flow, read 2026-08-06)."""
    if not template or guild.access is not model.Access.NOT_INSTALLED:
        return ""
    return f"{template}&guild_id={guild.guild_id}&disable_guild_select=true"


def _by_guild(channels: Iterable[model.Channel]) -> dict[int, list[model.Channel]]:
    found: dict[int, list[model.Channel]] = {}
    for channel in channels:
        found.setdefault(channel.guild_id, []).append(channel)
    return found


def _matches(channel: model.Channel, wanted: ChannelFilter) -> bool:
    if wanted.kinds and channel.kind not in wanted.kinds:
        return False
    return channel.name.casefold().startswith(wanted.name_prefix.casefold())


def _fitting(rows: Sequence[model.Channel]) -> int:
    """Return how many of the rows fit into one answer; at least one does, as Discord's texts are cut when they come."""
    sizes = itertools.accumulate(ROW_BYTES + len(row.name.encode()) + len((row.topic or "").encode()) for row in rows)
    return sum(size <= PAGE_BYTES for size in sizes)


def _position(channel: model.Channel) -> tuple[int, ...]:
    return channel.guild_id, channel.position, channel.channel_id


def _activity(channel: model.Channel) -> tuple[int, ...]:
    return -(channel.last_message_id or 0), channel.channel_id
