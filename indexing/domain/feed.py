"""
What the events of Discord's Gateway change in a stored guild: pure rules, without I/O.

Within a session events are numbered, and a replay keeps the order; yet an event may arrive none, one or several times
(developers/reference.mdx, Consistency, read 2026-08-06). So every event is idempotent: it carries whole objects, and
one that is not newer than what is stored changes nothing. Numbers of two sessions are never compared.

Discord announces when our bot gains sight of a channel, not when it loses it by a role
(developers/events/gateway-events.mdx and the change log of 2026-08-12). So what the bot may view is computed here after
every event, and a channel that it may no longer view is hidden until Discord sends it whole again.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from indexing.domain import model, permissions, reasons

KEPT_BITS = permissions.ADMINISTRATOR | permissions.MANAGE_CHANNELS | permissions.VIEW_CHANNEL
"""Permissions of roles that are kept: those that decide what our bot may view."""


def shard_key(guild_id: int, count: int) -> str:
    """Return which of *count* shards has a guild (developers/events/gateway.mdx, Sharding), such as "3/16"."""
    return f"{(guild_id >> 22) % count}/{count}"


@dataclasses.dataclass(frozen=True, slots=True)
class BotSight:
    """
    What decides which channels our bot may view.

    Attributes:
        roles: Permissions by role id, reduced to `KEPT_BITS`; the role with the guild's id is @everyone.
        bot_roles: The bot's role ids.
    """

    bot_id: int
    owner_id: int
    roles: Mapping[int, int]
    bot_roles: tuple[int, ...]

    def sees(self, guild_id: int, channels: Sequence[model.Channel]) -> list[model.Channel]:
        """Return those of the guild's channels that the bot may view, as a listing by REST has them."""
        granted = self.roles.get(guild_id, 0)
        for role_id in self.bot_roles:
            granted |= self.roles.get(role_id, 0)
        # A listing has the categories that the bot may view, also without a visible channel.
        granted |= permissions.MANAGE_CHANNELS
        owner = self.bot_id == self.owner_id
        bot = model.Membership(self.bot_id, guild_id, owner, granted, self.bot_roles, None)
        return permissions.visible_channels(bot, channels, self.bot_roles)


@dataclasses.dataclass(frozen=True, slots=True)
class GuildCreated:
    """
    The whole guild: at the start of a session, when it returns from an outage, or when our bot joins.

    Attributes:
        sight: None when it cannot be read; the guild's channels are then not fed.
        member_count: All members; None when unknown.
    """

    guild_id: int
    name: str
    icon: str | None
    member_count: int | None
    channels: tuple[model.Channel, ...]
    sight: BotSight | None


@dataclasses.dataclass(frozen=True, slots=True)
class GuildChanged:
    """Name, icon and owner, and all roles; None for roles that cannot be read."""

    guild_id: int
    name: str
    icon: str | None
    owner_id: int
    roles: Mapping[int, int] | None


@dataclasses.dataclass(frozen=True, slots=True)
class GuildUnavailable:
    """An outage of the guild began; what is stored stays."""

    guild_id: int


@dataclasses.dataclass(frozen=True, slots=True)
class BotRemoved:
    """Our bot is no longer in the guild."""

    guild_id: int


@dataclasses.dataclass(frozen=True, slots=True)
class RoleChanged:
    """A role's permissions; None for a deleted role."""

    guild_id: int
    role_id: int
    bits: int | None


@dataclasses.dataclass(frozen=True, slots=True)
class BotRolesChanged:
    """The role ids of our bot."""

    guild_id: int
    bot_roles: tuple[int, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class ChannelChanged:
    """A new or changed channel, whole; redacted if our bot may not view it."""

    guild_id: int
    channel: model.Channel


@dataclasses.dataclass(frozen=True, slots=True)
class ChannelDeleted:
    """A deleted channel. Its id is never used again."""

    guild_id: int
    channel_id: int
    kind: int


@dataclasses.dataclass(frozen=True, slots=True)
class Unreadable:
    """An event of a guild that cannot be read: from now on the guild is not fed."""

    guild_id: int


@dataclasses.dataclass(frozen=True, slots=True)
class MemberChanged:
    """A member's role ids, in ascending order; None for a user who left. It changes no guild."""

    guild_id: int
    user_id: int
    roles: tuple[int, ...] | None


Event: TypeAlias = (
    GuildCreated
    | GuildChanged
    | GuildUnavailable
    | BotRemoved
    | RoleChanged
    | BotRolesChanged
    | ChannelChanged
    | ChannelDeleted
    | Unreadable
)


@dataclasses.dataclass(frozen=True, slots=True)
class Numbered:
    """An event with its number in the session."""

    seq: int
    event: Event


@dataclasses.dataclass(frozen=True, slots=True)
class FedGuild:
    """
    A guild as the feed stores it.

    Attributes:
        session: Session of the latest event that was stored, empty for none.
        seq: Number of that event.
        live: Whether that session feeds the guild: its GUILD_CREATE is stored, and nothing ended that since.
        epoch: Of the owner of the shard that stored it; an older owner stores nothing.
        fence: Fencing token that a write requires; a fetch by REST that began before the write stores nothing.
        removed: Whether our bot is no longer in the guild.
        created: Whether the channels are a complete listing that is stored for the first time.
    """

    guild: model.Guild
    channels: tuple[model.Channel, ...]
    gone: tuple[model.GoneChannel, ...] = ()
    session: str = ""
    seq: int = 0
    live: bool = False
    epoch: int = 0
    fence: int = 0
    sight: BotSight | None = None
    removed: bool = False
    created: bool = False


def fold(before: FedGuild, events: Iterable[Numbered], session: str, now: float) -> FedGuild:
    """
    Return the guild after the events of one session, in order; *before* itself when all of them are known.

    Args:
        before: The guild as stored.
        events: Events of this guild.
        session: The session that they belong to.
        now: When channels that vanish count as gone.
    """
    after = before
    for one in events:
        if after.session == session and one.seq <= after.seq:
            continue
        if isinstance(one.event, GuildCreated):
            after = _created(after, one.event, now)
        elif isinstance(one.event, BotRemoved):
            after = dataclasses.replace(after, removed=True, live=False, channels=(), created=False)
        elif after.session != session or not after.live:
            # Without its GUILD_CREATE, nothing of this session says what else has changed.
            continue
        else:
            after = _changed(after, one.event, now)
        after = dataclasses.replace(after, session=session, seq=one.seq)
    return after


def _created(before: FedGuild, event: GuildCreated, now: float) -> FedGuild:
    guild = dataclasses.replace(before.guild, name=event.name, icon=event.icon)
    if before.guild.member_count is None:
        guild = dataclasses.replace(guild, member_count=event.member_count)
    made = dataclasses.replace(before, guild=guild, removed=False)
    if event.sight is None:
        return dataclasses.replace(made, live=False)
    shown = [channel for channel in event.channels if not channel.redacted]
    listed = tuple(event.sight.sees(guild.guild_id, shown))
    gone = _gone_after(before, listed, now, reasons.HIDDEN_OR_DELETED)
    return dataclasses.replace(made, channels=listed, gone=gone, sight=event.sight, live=True, created=True)


def _changed(before: FedGuild, event: Event, now: float) -> FedGuild:
    sight = before.sight
    if sight is None or isinstance(event, GuildUnavailable | Unreadable):
        return dataclasses.replace(before, live=False)
    if isinstance(event, ChannelChanged):
        return _with_channel(before, event.channel, now)
    if isinstance(event, ChannelDeleted):
        left = tuple(row for row in before.channels if row.channel_id != event.channel_id)
        others = [row for row in before.gone if row.channel_id != event.channel_id]
        gone = (*others, model.GoneChannel(event.channel_id, event.kind, now, reasons.CHANNEL_DELETED))
        return _seen(dataclasses.replace(before, channels=left, gone=gone), now)
    if isinstance(event, RoleChanged):
        roles = {role_id: bits for role_id, bits in sight.roles.items() if role_id != event.role_id}
        roles |= {} if event.bits is None else {event.role_id: event.bits & KEPT_BITS}
        sight = dataclasses.replace(sight, roles=roles)
    elif isinstance(event, BotRolesChanged):
        sight = dataclasses.replace(sight, bot_roles=event.bot_roles)
    elif isinstance(event, GuildChanged):
        if event.roles is None:
            return dataclasses.replace(before, live=False)
        sight = dataclasses.replace(sight, owner_id=event.owner_id, roles=event.roles)
        guild = dataclasses.replace(before.guild, name=event.name, icon=event.icon)
        before = dataclasses.replace(before, guild=guild)
    return _seen(dataclasses.replace(before, sight=sight), now)


def _with_channel(before: FedGuild, channel: model.Channel, now: float) -> FedGuild:
    deleted = reasons.CHANNEL_DELETED
    if any(row.channel_id == channel.channel_id and row.reason == deleted for row in before.gone):
        return before
    others = [row for row in before.channels if row.channel_id != channel.channel_id]
    if channel.redacted:
        gone = _gone_after(before, others, now, reasons.HIDDEN_OR_DELETED)
        return _seen(dataclasses.replace(before, channels=tuple(others), gone=gone), now)
    known = next((row for row in before.channels if row.channel_id == channel.channel_id), None)
    if known is not None and (known.last_message_id or 0) > (channel.last_message_id or 0):
        channel = dataclasses.replace(channel, last_message_id=known.last_message_id)
    rows = sorted((*others, channel), key=lambda row: (row.position, row.channel_id))
    gone = tuple(row for row in before.gone if row.channel_id != channel.channel_id)
    return _seen(dataclasses.replace(before, channels=tuple(rows), gone=gone), now)


def _seen(before: FedGuild, now: float) -> FedGuild:
    """Hide the channels that our bot may not view any more."""
    if before.sight is None:
        return before
    shown = tuple(before.sight.sees(before.guild.guild_id, before.channels))
    if len(shown) == len(before.channels):
        return before
    gone = _gone_after(before, shown, now, reasons.HIDDEN_OR_DELETED)
    return dataclasses.replace(before, channels=shown, gone=gone)


def _gone_after(
    before: FedGuild, channels: Sequence[model.Channel], now: float, reason: str
) -> tuple[model.GoneChannel, ...]:
    listed = {row.channel_id for row in channels}
    kept = [row for row in before.gone if row.channel_id not in listed]
    new = [
        model.GoneChannel(row.channel_id, row.kind, now, reason)
        for row in before.channels
        if row.channel_id not in listed
    ]
    return (*kept, *new)
