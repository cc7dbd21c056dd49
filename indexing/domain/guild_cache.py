"""Values by guild that a process keeps, with a bound on the bytes that they take."""

import collections
from typing import Generic, TypeVar

Value = TypeVar("Value")


class GuildCache(Generic[Value]):
    """
    The least recently used guild is dropped first.

    Args:
        max_bytes: What all values may take together, by the sizes that `put` is told.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self.bytes = 0
        self._values: collections.OrderedDict[int, tuple[Value, int]] = collections.OrderedDict()

    def get(self, guild_id: int) -> Value | None:
        """Return what was put last; None when it is not here any more."""
        found = self._values.get(guild_id)
        if found is None:
            return None
        self._values.move_to_end(guild_id)
        return found[0]

    def put(self, guild_id: int, value: Value, *, size: int) -> None:
        """Keep a value in place of the one that was kept, and drop others if there are too many."""
        self.drop(guild_id)
        self._values[guild_id] = value, size
        self.bytes += size
        while self.bytes > self._max_bytes and len(self._values) > 1:
            self.drop(next(iter(self._values)))

    def drop(self, guild_id: int) -> None:
        """Forget a guild."""
        found = self._values.pop(guild_id, None)
        if found is not None:
            self.bytes -= found[1]
