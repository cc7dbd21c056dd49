"""A size-bounded LRU cache, so that a large world fits into little memory."""

import collections
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class LruCache(Generic[T]):
    """Keeps the most recently used values up to a total size."""

    def __init__(self, room: int, weigh: Callable[[T], int]) -> None:
        self._room = room
        self._weigh = weigh
        self._things: collections.OrderedDict[int, T] = collections.OrderedDict()
        self._load = 0

    def get(self, key: int, make: Callable[[], T]) -> T:
        """Return the value of *key*; make it if it is missing."""
        found = self._things.get(key)
        if found is not None:
            self._things.move_to_end(key)
            return found
        made = make()
        self._things[key] = made
        self._load += self._weigh(made)
        while self._load > self._room and len(self._things) > 1:
            _, forgotten = self._things.popitem(last=False)
            self._load -= self._weigh(forgotten)
        return made

    def drop(self, key: int) -> None:
        """Remove *key*, if present."""
        found = self._things.pop(key, None)
        if found is not None:
            self._load -= self._weigh(found)
