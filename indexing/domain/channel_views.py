"""
Visible channels of one version of a guild, computed once for each group of users who see the same channels.

Two users see the same channels when they agree in VIEW_CHANNEL and MANAGE_CHANNELS of their base permissions, in the
roles that overwrites name, and in whether an overwrite names them. Views are cached by these, and a page is cut from a
view by bisection.
"""

import dataclasses
import functools
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from indexing.domain import id_sets, model, name_index, permissions, shown_channels

MOST_NAMED = 2_000
"""Most ids that overwrites may name for views by group; a guild with more, which is rare, has views by user."""
MOST_VIEWS = 256
"""Most cached views of a guild; beyond that all are dropped."""
BYTES_PER_GUILD = 13_000
BYTES_PER_CHANNEL = 1_000
"""Memory of a decoded guild, rounded up."""
ROW_BYTES = 200
"""Upper bound of a row's bytes in a response besides its texts."""


VOICE = frozenset({2, 13})
"""Types of voice and stage channels."""


def client_order(channels: Collection[model.Channel]) -> list[tuple[tuple[int, ...], model.Channel]]:
    """
    Return channels with their sort keys, in the order in which Discord's clients show them.

    First those without a category, then each category with its channels; inside, text before voice; then by position,
    then by id. Reported by Discord's staff in discord-api-docs issues 4613 and 5792; the
    documentation says only that equal positions are ordered by id.
    """
    categories = {channel.channel_id: channel for channel in channels if channel.kind == permissions.CATEGORY}

    def key(channel: model.Channel) -> tuple[int, ...]:
        itself = channel.kind == permissions.CATEGORY
        category = channel if itself else categories.get(channel.parent_id or 0)
        group = (0, 0, 0) if category is None else (1, category.position, category.channel_id)
        return *group, int(not itself), int(channel.kind in VOICE), channel.position, channel.channel_id

    return sorted(((key(channel), channel) for channel in channels), key=lambda pair: pair[0])


class View(NamedTuple):
    """
    The channels of a guild that a group of users sees.

    Attributes:
        places: Their indexes, in order.
        shown: For each index 1 when it is among them, else 0.
        rows: Their encoded rows.
        sizes: The sizes of these.
    """

    places: list[int]
    shown: bytes
    rows: list[Any]
    sizes: list[int]


class ChannelViews:
    """
    The channels of one version of a guild, encoded, and the views of its members.

    Args:
        indexed: The guild.
        encode: Encodes a channel for pages.

    Attributes:
        channels: The channels in the order of `client_order`.
        keys: The sort key of each channel.
        rows: Encoded channels.
        sizes: Approximate bytes of each row in a response.
        largest: The greatest of these, 0 without channels.
    """

    def __init__(self, indexed: model.IndexedGuild, encode: Callable[[model.Channel], Any]) -> None:
        self.guild = indexed.guild
        self.version = indexed.version
        ordered = client_order(indexed.channels)
        self.channels = [channel for _, channel in ordered]
        self.keys = [key for key, _ in ordered]
        self.rows = [encode(channel) for channel in self.channels]
        self.sizes = [
            ROW_BYTES + len(channel.name.encode()) + len((channel.topic or "").encode()) for channel in self.channels
        ]
        self.largest = max(self.sizes, default=0)
        self.bytes = size_of(indexed)
        self._views: dict[object, View] = {}
        self._shown_rows: list[shown_channels.Row] | None = None
        self._packed: dict[object, bytes] = {}
        self._needs_roles: dict[object, bool] = {}
        sets = {id(row.overwrites): row.overwrites for row in indexed.channels}.values()
        self._roles = _named(each.roles_allow + each.roles_deny for each in sets)
        self._members = _named(each.members_allow + each.members_deny for each in sets)

    @functools.cached_property
    def places(self) -> dict[str, int]:
        """The index of each channel by its id, as text."""
        return {str(channel.channel_id): index for index, channel in enumerate(self.channels)}

    @functools.cached_property
    def folded(self) -> list[str]:
        """The name of each channel as it is searched."""
        return [name_index.fold(channel.name) for channel in self.channels]

    @functools.cached_property
    def folded_guild(self) -> str:
        """The guild's name as it is searched."""
        return name_index.fold(self.guild.name)

    def note_fetch(self, head: model.GuildVersion) -> None:
        """Update the fetch times of the guild: a fetch without changes makes no new version."""
        if (self.guild.fetched_at, self.guild.schedule.next_at) != (head.fetched_at, head.next_refresh_at):
            schedule = dataclasses.replace(self.guild.schedule, next_at=head.next_refresh_at)
            self.guild = dataclasses.replace(self.guild, fetched_at=head.fetched_at, schedule=schedule)

    def view(self, membership: model.Membership, roles: Collection[int] | None) -> list[int]:
        """Return the indexes of the channels that a member may see, in order; *roles* None means unknown."""
        return self.look(membership, roles).places

    def look(self, membership: model.Membership, roles: Collection[int] | None) -> View:
        """Return what a member may see; one object for all who see the same, until this version is dropped."""
        key = self._key(membership, roles)
        found = self._views.get(key)
        if found is None:
            if len(self._views) >= MOST_VIEWS:
                self._views.clear()
            places = permissions.visible_places(membership, self.channels, roles)
            shown = bytearray(len(self.channels))
            for place in places:
                shown[place] = 1
            rows, sizes = self.rows, self.sizes
            if len(places) < len(rows):
                rows, sizes = [rows[place] for place in places], [sizes[place] for place in places]
            found = self._views[key] = View(places, bytes(shown), rows, sizes)
        return found

    @property
    def shown_rows(self) -> list[shown_channels.Row]:
        """The channels as streams compare them; computed when a stream first shows this version."""
        if self._shown_rows is None:
            rows = zip(self.channels, self.rows, self.sizes, strict=True)
            self._shown_rows = [
                shown_channels.Row(channel.channel_id, shown_channels.hash_of(row), size) for channel, row, size in rows
            ]
        return self._shown_rows

    def packed(self, membership: model.Membership, roles: Collection[int] | None) -> bytes:
        """Return `view` as a value of `shown_channels`, one object for all who see the same; rows must be bytes."""
        key = self._key(membership, roles)
        found = self._packed.get(key)
        if found is None:
            if len(self._packed) >= MOST_VIEWS:
                self._packed.clear()
            rows = [self.shown_rows[index] for index in self.view(membership, roles)]
            found = self._packed[key] = shown_channels.pack((row.channel_id, row.row_hash) for row in rows)
        return found

    def needs_roles(self, membership: model.Membership) -> bool:
        """Return whether the member's role ids can change what they see."""
        key = self._key(membership, None)
        found = self._needs_roles.get(key)
        if found is None:
            if len(self._needs_roles) >= MOST_VIEWS:
                self._needs_roles.clear()
            found = self._needs_roles[key] = permissions.needs_roles(membership, self.channels)
        return found

    def _key(self, membership: model.Membership, roles: Collection[int] | None) -> object:
        if permissions.bypasses_overwrites(membership):
            return None
        known: object = None
        if roles is not None:
            known = frozenset(roles) if self._roles is None else self._roles.intersection(roles)
        named = membership.user_id if self._members is None or membership.user_id in self._members else None
        bits = membership.permissions & (permissions.VIEW_CHANNEL | permissions.MANAGE_CHANNELS)
        return bits, known, named


def size_of(indexed: model.IndexedGuild) -> int:
    """Return the approximate memory of a decoded guild, in bytes."""
    sets = {id(row.overwrites): row.overwrites for row in indexed.channels}.values()
    packed = sum(
        len(each.roles_allow) + len(each.roles_deny) + len(each.members_allow) + len(each.members_deny) for each in sets
    )
    return BYTES_PER_GUILD + BYTES_PER_CHANNEL * len(indexed.channels) + packed


def _named(packed: Any) -> frozenset[int] | None:  # noqa: ANN401 -- an iterable of bytes
    """Return the ids in packed lists; None when there are too many to keep unpacked."""
    lists = list(packed)
    if sum(map(len, lists)) > 8 * MOST_NAMED:
        return None
    return frozenset(identifier for each in lists for identifier in id_sets.unpack_ids(each))
