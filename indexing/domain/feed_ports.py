"""Interfaces of the Gateway's feed to the store, as Protocols; store/ implements them."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from indexing.domain import feed


@dataclasses.dataclass(frozen=True, slots=True)
class Shard:
    """
    A shard as stored. It outlives the process that owns it, and Redis.

    Attributes:
        key: Its number and the number of shards, such as "3/16".
        owner: Process that owns it.
        epoch: Grows with each owner; every write names it, so that a former owner writes nothing.
        lease_until: When another process may take it.
        session, url, seq: What the session is resumed with; `session` is empty without one.
        synced_at: Moment up to which everything that the session was told is stored; None without a session.
    """

    key: str
    owner: str = ""
    epoch: int = 0
    lease_until: float = 0.0
    session: str = ""
    url: str = ""
    seq: int = 0
    synced_at: float | None = None
    bot_id: int = 0

    @property
    def number(self) -> tuple[int, int]:
        """The shard's number and the number of shards."""
        shard_id, _, count = self.key.partition("/")
        return int(shard_id), int(count)


class Shards(Protocol):
    """Shards with their leases and sessions. Every method may raise errors.StoreUnavailable."""

    async def add(self, keys: Collection[str]) -> None:
        """Store shards that are missing."""

    async def list(self) -> list[Shard]:
        """Return all shards."""

    async def acquire(self, key: str, owner: str, *, now: float, until: float) -> Shard | None:
        """Own a shard whose lease has ended; None when it has not."""

    async def begin_session(self, owned: Shard, began: Shard, cause: str) -> bool:
        """
        Store a session in place of the one before; returns False, and changes nothing, for a former owner.

        All guilds that the session before fed stop being proven with this write, and keep the moment up to which they
        were. With an empty `began.session` the shard is without a session.
        """

    async def checkpoint(self, owned: Shard, *, seq: int, synced_at: float | None, until: float) -> bool:
        """Store how far the session is stored, and extend the lease; False, and no change, for a former owner."""

    async def extend(self, owned: Shard, until: float) -> bool:
        """Extend the lease; False, and no change, for a former owner."""

    async def release(self, owned: Shard) -> None:
        """End the lease, so that another process owns the shard at once."""

    async def sign_in(self, owner: str, *, now: float, until: float) -> int:
        """Note that a process is there until then; returns how many are."""

    async def sign_out(self, owner: str) -> None:
        """Note that a process is leaving."""


class FedGuilds(Protocol):
    """Guilds as the feed writes them: one conditional update for each. May raise errors.StoreUnavailable."""

    async def load(self, guild_ids: Collection[int]) -> Mapping[int, feed.FedGuild]:
        """Return the stored guilds, by id."""

    async def add(self, guild_ids: Collection[int]) -> None:
        """Store guilds that are missing; they have not been fetched."""

    async def store(self, shard: Shard, changes: Sequence[tuple[feed.FedGuild, feed.FedGuild]], now: float) -> set[int]:
        """
        Store guilds, each from what it was to what it is; returns those that were stored.

        A guild is not stored when another process wrote it since it was loaded, or when a later owner feeds it.
        """

    async def mark_removed(self, shard: Shard, present: Collection[int], now: float) -> Sequence[int]:
        """Record that our bot is no longer in the guilds of a shard that are not *present*; returns them."""

    async def list_fed(self, shard: Shard) -> set[int]:
        """Return the guilds that the shard's session feeds."""

    async def pick_for_audit(self, shard: Shard, now: float, *, recent: bool) -> int | None:
        """
        Return the guild of the shard's session whose audit is the longest ago, and note that it is audited now.

        With *recent*, of the few guilds that have changed last.
        """
