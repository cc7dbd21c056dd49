"""
The names of the channels of some guilds, prepared for `name_search`: each different name and word is kept once.

Some 50 bytes for each channel, 300 where all names differ, besides the names, which the guilds' views share.
"""

import array
import bisect
import itertools
import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import NamedTuple

WORD = re.compile(r"[^\W_]+")
SEPARATOR = "\n"


class GuildNames(NamedTuple):
    """The folded names of the channels of one guild that are searched, and of the guild itself."""

    guild: str
    channels: Sequence[str]


def fold(name: str) -> str:
    """Return the words of a name in lower case, without accents, emoji and punctuation; as it is if it has no word."""
    plain = unicodedata.normalize("NFKD", name)
    if not plain.isascii():
        plain = "".join(filter(_is_no_accent, plain))
    return " ".join(WORD.findall(plain.casefold())) or name.casefold().replace(SEPARATOR, " ")


def _is_no_accent(character: str) -> bool:
    return not unicodedata.combining(character)


class NameIndex:
    """
    The different names of the channels of guilds, where each occurs, and in which names each word occurs.

    Attributes:
        names: Each different name once, in the order in which they first occur.
        guilds: The name of each guild.
        words: For each word the indexes of the names that have it.
        size: How many channels there are.
    """

    def __init__(self, guilds: Sequence[GuildNames]) -> None:
        places: dict[str, list[tuple[int, int]]] = {}
        for number, guild in enumerate(guilds):
            for place, name in enumerate(guild.channels):
                places.setdefault(name, []).append((number, place))
        self.names = list(places)
        self.guilds = [guild.guild for guild in guilds]
        self.size = sum(map(len, places.values()))
        # Flat arrays: a tuple for each channel would take three times as much.
        self._first = array.array("I", itertools.accumulate(map(len, places.values()), initial=0))
        self._guild_of = array.array("I", (number for found in places.values() for number, _ in found))
        self._place_of = array.array("I", (place for found in places.values() for _, place in found))
        self._guild_text = SEPARATOR.join(self.guilds)
        self._text = SEPARATOR.join(self.names)
        self._starts = array.array("I", itertools.accumulate((len(name) + 1 for name in self.names), initial=0))
        self.words: dict[str, list[int]] = {}
        for index, name in enumerate(self.names):
            for word in dict.fromkeys(name.split()):
                self.words.setdefault(word, []).append(index)

    def guilds_containing(self, text: str) -> set[int]:
        """Return the indexes of the guilds whose names contain *text*. Fast when there are none."""
        if text not in self._guild_text:
            return set()
        return {number for number, guild in enumerate(self.guilds) if text in guild}

    def containing(self, text: str) -> Iterator[int]:
        """Yield the indexes of the names that contain *text*, in order."""
        at = self._text.find(text)
        while at >= 0:
            index = bisect.bisect_right(self._starts, at) - 1
            yield index
            at = self._text.find(text, self._starts[index + 1])

    def occurrences(self, index: int) -> Iterator[tuple[int, int]]:
        """Yield guild and place of each channel that has a name."""
        for at in range(self._first[index], self._first[index + 1]):
            yield self._guild_of[at], self._place_of[at]
