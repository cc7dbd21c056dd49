"""
What one stream has sent of a user's index, guild by guild, and what it has to send next.

For each guild a stream keeps a hash of the guild's row and the value of its channels (`shown_channels`), not the rows.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping

from indexing import settings
from indexing.domain import channel_views, freshness, model, shown_channels, trust
from indexing.usecases import guild_views

MESSAGE_BYTES = 448 << 10
"""About the most bytes of one change: a message stays below 512 KiB."""
MARGIN = 0.001
"""Seconds by which an age is exceeded before it is looked at again, so that rounding does not hide the moment."""
FOREVER = float("inf")


@dataclasses.dataclass(frozen=True, slots=True)
class GuildChange:
    """
    One guild changed.

    Attributes:
        guild: Encoded guild; None when it is unchanged.
        replace: Whether what was sent of the guild's channels before is void.
        channels: Encoded channels that are new or have changed.
        removed_channels: Channels that the user may see no more.
        removed: Whether the user has the guild no more.
    """

    guild_id: int
    guild: bytes | None = None
    replace: bool = False
    channels: tuple[bytes, ...] = ()
    removed_channels: tuple[int, ...] = ()
    removed: bool = False

    @property
    def empty(self) -> bool:
        """Whether there is nothing to send."""
        return self.guild is None and not self.channels and not self.removed_channels and not self.removed


@dataclasses.dataclass(frozen=True, slots=True)
class _Shown:
    """What is to be shown of a guild now. `indexes` are the positions of the visible channels."""

    row: bytes
    views: channel_views.ChannelViews | None
    indexes: list[int]
    packed: bytes
    stale: bool
    expires_at: float


class IndexRules:
    """
    Decides what a user is shown of a guild, by the same rules and ages as pages of guilds and channels.

    Args:
        encode_guild: Encodes a guild, without what changes with time alone (position, age).
    """

    def __init__(
        self, config: settings.IndexingSettings, encode_guild: Callable[[guild_views.GuildView], bytes]
    ) -> None:
        self.trust = trust.Trust(config)
        self._max_age = config.max_age
        self._viewer = guild_views.GuildViewer(config, self.trust)
        self._encode = encode_guild

    def shown(
        self, user: model.User, guild_id: int, views: channel_views.ChannelViews | None, now: float
    ) -> _Shown | None:
        """Return what the user is shown; None when that is nothing, not even the guild."""
        membership = user.shown_memberships(now).get(guild_id)
        if membership is None:
            return None
        if not self.trust.trusts_list(user, now):
            row = self._encode(self._viewer.view_without_news(membership, None, 0))
            return _Shown(row, None, [], shown_channels.NOTHING, stale=False, expires_at=user.shown_until)
        if views is None:
            return None
        guild, indexes, packed = views.guild, list[int](), shown_channels.NOTHING
        if not self.trust.hides_channels(guild, membership, now):
            roles = self.trust.trusted_roles(membership, now)
            indexes, packed = views.view(membership, roles), views.packed(membership, roles)
        row = self._encode(self._viewer.view(membership, views, None, 0, now))
        stale = guild.fetched_at is not None and not freshness.is_fresh(guild, now=now, max_age=self._max_age)
        return _Shown(row, views, indexes, packed, stale, self._expiry(user, membership, guild, now))

    def _expiry(self, user: model.User, membership: model.Membership, guild: model.Guild, now: float) -> float:
        """Return when an age alone may change what is shown."""
        moments = (
            user.shown_until,
            self.trust.list_expiry(user),
            self.trust.roles_expiry(membership),
            self.trust.channels_expiry(guild),
            # Of the reasons, only one after failures depends on whether the channels are fresh.
            freshness.fresh_until(guild, max_age=self._max_age) if guild.schedule.failures else 0.0,
        )
        return min((at + MARGIN for at in moments if at + MARGIN > now), default=FOREVER)


@dataclasses.dataclass(frozen=True, slots=True)
class _Sent:
    """What was sent of a guild. Of a guild of an earlier stream only the `position` is known."""

    position: bytes
    row_hash: bytes = b""
    packed: bytes = shown_channels.NOTHING
    stale: bool = False
    expires_at: float = FOREVER

    @property
    def known(self) -> bool:
        return bool(self.row_hash)


def _sent(shown: _Shown, row_hash: bytes, packed: bytes) -> _Sent:
    return _Sent(shown_channels.hash_of(row_hash + packed), row_hash, packed, shown.stale, shown.expires_at)


class SentIndex:
    """What one stream has sent. *position* is what an earlier stream had sent, by guild; empty for a snapshot."""

    def __init__(self, rules: IndexRules, position: Mapping[int, bytes]) -> None:
        self._rules = rules
        self._sent = {guild_id: _Sent(value) for guild_id, value in position.items()}

    @property
    def guild_ids(self) -> Collection[int]:
        """The guilds of which anything was sent."""
        return self._sent.keys()

    @property
    def expires_at(self) -> float:
        """When an age alone may change what is shown, in epoch seconds."""
        return min((sent.expires_at for sent in self._sent.values()), default=FOREVER)

    def list_expired(self, now: float) -> list[int]:
        """Return the guilds of which something shown may be too old now."""
        return [guild_id for guild_id, sent in self._sent.items() if sent.expires_at <= now]

    def list_viewed(self) -> tuple[list[int], list[int]]:
        """Return the guilds with channels, and those whose channels are due for a fetch."""
        with_channels = [guild_id for guild_id, sent in self._sent.items() if sent.packed]
        return with_channels, [guild_id for guild_id, sent in self._sent.items() if sent.stale]

    def position(self) -> dict[int, bytes]:
        """Return the position after what was sent so far."""
        return {guild_id: sent.position for guild_id, sent in self._sent.items()}

    def next_change(
        self, user: model.User, guild_id: int, views: channel_views.ChannelViews | None, now: float
    ) -> tuple[GuildChange, bool]:
        """Return the next message of a guild, which counts as sent, and whether it is the last one for this state."""
        shown = self._rules.shown(user, guild_id, views, now)
        sent = self._sent.get(guild_id)
        if shown is None:
            self._sent.pop(guild_id, None)
            return GuildChange(guild_id, removed=sent is not None), True
        row_hash = shown_channels.hash_of(shown.row)
        if sent is not None and not sent.known:
            complete = _sent(shown, row_hash, shown.packed)
            if sent.position == complete.position:
                self._sent[guild_id] = complete
                return GuildChange(guild_id), True
            sent = None
        every = shown.views.shown_rows if shown.views is not None else []
        found = shown_channels.difference(
            sent.packed if sent is not None else shown_channels.NOTHING,
            [every[index] for index in shown.indexes],
            shown.packed,
            most_bytes=MESSAGE_BYTES,
        )
        self._sent[guild_id] = _sent(shown, row_hash, found.after)
        encoded = shown.views.rows if shown.views is not None else []
        change = GuildChange(
            guild_id,
            guild=shown.row if sent is None or sent.row_hash != row_hash else None,
            replace=sent is None,
            channels=tuple(encoded[shown.indexes[place]] for place in found.rows),
            removed_channels=tuple(found.removed),
        )
        return change, found.after == shown.packed

    def remove(self, guild_id: int) -> GuildChange:
        """Return the removal of a guild, which counts as sent."""
        del self._sent[guild_id]
        return GuildChange(guild_id, removed=True)
