"""
What a user is shown of the index: his guilds and channels as stored, never more than he may see.

No call to Discord is made. Round trips to MongoDB, however many guilds: 4 for a page of guilds, 2 for one of channels.
"""

import dataclasses
from collections.abc import Iterable, Sequence

from indexing import errors, freshness, model, ports, rank, settings, visibility


@dataclasses.dataclass(frozen=True, slots=True)
class GuildView:
    """
    One of a user's guilds.

    Attributes:
        position: 0 is the most important one.
        channel_count: Channels that he may see, None when the guild was never indexed.
        reason: Why there are no channels, or not all; empty when all is there.
    """

    guild: model.Guild
    owner: bool
    position: int
    channel_count: int | None
    stale: bool
    reason: str


@dataclasses.dataclass(frozen=True, slots=True)
class Filter:
    """Which channels, in which order; an empty value does not filter."""

    guild_id: int = 0
    name_prefix: str = ""
    kinds: tuple[int, ...] = ()
    by_activity: bool = False


class Browse:
    """Reads what a user may see."""

    def __init__(self, world: ports.World, rules: settings.IndexingSettings) -> None:
        self._world = world
        self._rules = rules

    async def guilds(self, user_id: int, *, after: int, size: int) -> tuple[list[GuildView], int | None]:
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
        stored = await self._world.guilds.get(memberships)
        wishes = await self._world.users.preferences(user_id)
        now, weights = self._world.clock(), self._rules.rank_weights
        ranked = rank.ordered(memberships, stored, wishes, now=now, weights=weights)
        order = [row.inputs.guild_id for row in ranked]
        page = order[after : after + size]
        channels = _by_guild(await self._world.guilds.channels(page))
        views = [
            self._view(memberships[guild_id], stored[guild_id], channels.get(guild_id, []), after + index)
            for index, guild_id in enumerate(page)
        ]
        return views, after + size if after + size < len(order) else None

    async def channels(
        self, user_id: int, wanted: Filter, *, after: tuple[int, ...] | None, size: int
    ) -> tuple[list[model.Channel], tuple[int, ...] | None]:
        """
        Return a page of channels that the user may see, and the key of its last one, None on the last page.

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
        stored = _by_guild(await self._world.guilds.channels(memberships))
        seen = [
            channel
            for guild_id, rows in stored.items()
            for channel in visibility.visible(memberships[guild_id], rows, self._roles(memberships[guild_id]))
            if _matches(channel, wanted)
        ]
        key = _activity if wanted.by_activity else _position
        ordered = sorted((key(channel), channel) for channel in seen) if seen else []
        rest = [pair for pair in ordered if after is None or pair[0] > after]
        page = rest[:size]
        return [channel for _, channel in page], page[-1][0] if len(rest) > size else None

    async def _memberships(self, user_id: int) -> dict[int, model.Membership]:
        rows = {row.guild_id: row for row in await self._world.users.memberships(user_id)}
        if not rows and not await self._world.users.known(user_id):
            raise errors.UserNotFound(user_id)
        return rows

    def _roles(self, membership: model.Membership) -> tuple[int, ...] | None:
        hard = self._rules.roles_hard_age
        return (
            membership.role_ids
            if freshness.roles_are_fresh(membership, now=self._world.clock(), max_age=hard)
            else None
        )

    def _view(
        self, membership: model.Membership, guild: model.Guild, channels: Sequence[model.Channel], position: int
    ) -> GuildView:
        roles = self._roles(membership)
        indexed = guild.fetched_at is not None and guild.access is not model.Access.NOT_INSTALLED
        count = len(visibility.visible(membership, channels, roles)) if indexed else None
        hidden = roles is None and visibility.needs_roles(membership, channels)
        return GuildView(
            guild=guild,
            owner=membership.owner,
            position=position,
            channel_count=count,
            stale=not freshness.fetched_since(guild, self._world.clock() - self._rules.max_age),
            reason=_reason(guild, indexed=indexed, hidden=hidden),
        )


def _reason(guild: model.Guild, *, indexed: bool, hidden: bool) -> str:
    if guild.access is model.Access.NOT_INSTALLED:
        return "BOT_NOT_INSTALLED"
    if guild.access is model.Access.DENIED:
        return guild.error or "NO_ACCESS"
    if not indexed:
        return "NOT_INDEXED_YET"
    return "ROLES_UNKNOWN" if hidden else ""


def _by_guild(channels: Iterable[model.Channel]) -> dict[int, list[model.Channel]]:
    found: dict[int, list[model.Channel]] = {}
    for channel in channels:
        found.setdefault(channel.guild_id, []).append(channel)
    return found


def _matches(channel: model.Channel, wanted: Filter) -> bool:
    if wanted.kinds and channel.kind not in wanted.kinds:
        return False
    return channel.name.casefold().startswith(wanted.name_prefix.casefold())


def _position(channel: model.Channel) -> tuple[int, ...]:
    return channel.guild_id, channel.position, channel.channel_id


def _activity(channel: model.Channel) -> tuple[int, ...]:
    return -(channel.last_message_id or 0), channel.channel_id
