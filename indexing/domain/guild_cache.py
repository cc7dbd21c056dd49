"""A process's cache of values by guild, bounded by their size in bytes."""

import collections
from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class GuildCache(Generic[Value]):
    """
    Cache that drops the least recently used guild first.

    Args:
        max_bytes: Bound on the sum of the sizes passed to `put`.
        on_drop: Called with each guild and value that is dropped or replaced.

    Attributes:
        evictions: How many guilds were dropped to keep the bound.
    """

    def __init__(self, max_bytes: int, on_drop: Callable[[int, Value], None] = lambda _guild_id, _value: None) -> None:
        self._max_bytes = max_bytes
        self._on_drop = on_drop
        self.bytes = 0
        self.evictions = 0
        self._values: collections.OrderedDict[int, tuple[Value, int]] = collections.OrderedDict()

    def get(self, guild_id: int) -> Value | None:
        """Return the cached value; None when there is none."""
        found = self._values.get(guild_id)
        if found is None:
            return None
        self._values.move_to_end(guild_id)
        return found[0]

    def put(self, guild_id: int, value: Value, *, size: int) -> None:
        """Cache a value instead of the guild's previous one, and drop others until the bound holds."""
        self.drop(guild_id)
        self._values[guild_id] = value, size
        self.bytes += size
        while self.bytes > self._max_bytes and len(self._values) > 1:
            self.evictions += 1
            self.drop(next(iter(self._values)))

    def drop(self, guild_id: int) -> None:
        """Drop a guild's value."""
        found = self._values.pop(guild_id, None)
        if found is not None:
            self.bytes -= found[1]
            self._on_drop(guild_id, found[0])
