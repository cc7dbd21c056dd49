"""What a user may see, as a caller keeps it from the messages of WatchIndex."""

import dataclasses

from indexer_service.v1 import indexer_pb2 as pb


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """
    What one message changed.

    Attributes:
        guild: The guild's row after the change, before it if the guild is gone; without a name if there is none.
        before: Rows of the guild that are gone or have changed, by id.
        after: Rows of the guild that are new or have changed, by id.
        added: Whether the guild is new.
        removed: Whether the guild is gone.
    """

    guild: pb.Guild
    before: dict[str, pb.Channel]
    after: dict[str, pb.Channel]
    added: bool
    removed: bool


class IndexState:
    """
    A user's guilds and channels.

    Attributes:
        guilds: By id.
        channels: By guild id, then by channel id.
        resume_token: Where a new stream continues; empty before the first bookmark.
        complete: Whether everything was sent: false until the first bookmark and after a reset.
    """

    def __init__(self) -> None:
        self.guilds: dict[str, pb.Guild] = {}
        self.channels: dict[str, dict[str, pb.Channel]] = {}
        self.resume_token = ""
        self.complete = False

    @property
    def channel_count(self) -> int:
        """Number of channels."""
        return sum(map(len, self.channels.values()))

    def apply(self, message: pb.WatchIndexResponse) -> Change | None:
        """Apply a message; returns what it changed of a guild, None if it is about none."""
        self.resume_token = message.resume_token or self.resume_token
        if message.HasField("change"):
            return self._apply_change(message.change)
        if message.HasField("bookmark"):
            self.complete = True
        elif message.HasField("reset"):
            self.guilds, self.channels, self.complete = {}, {}, False
        return None

    def _apply_change(self, change: pb.GuildChange) -> Change:
        guild_id = change.guild_id
        known = self.guilds.get(guild_id)
        old = self.channels.pop(guild_id, {})
        if change.removed:
            return Change(self.guilds.pop(guild_id, pb.Guild(guild_id=guild_id)), old, {}, added=False, removed=True)
        if change.HasField("guild"):
            self.guilds[guild_id] = change.guild
        new = {} if change.replace else {key: row for key, row in old.items() if key not in change.removed_channel_ids}
        new |= {row.channel_id: row for row in change.channels}
        self.channels[guild_id] = new
        return Change(
            self.guilds.get(guild_id, pb.Guild(guild_id=guild_id)),
            {key: row for key, row in old.items() if new.get(key) != row},
            {key: row for key, row in new.items() if old.get(key) != row},
            added=known is None,
            removed=False,
        )
