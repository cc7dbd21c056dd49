"""
Search of channels by name, as in a quick switcher: tolerant of typing errors, accents, and emoji or bars before names.

Names and queries are folded to lower-case words without accents. Better matches come first: the whole name, its start,
the start of a word, any part, all words in any order (some of them may be in the guild's name), a similar name.
"""

import heapq
import itertools
from collections.abc import Collection, Container, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from rapidfuzz import fuzz, process

from indexing.domain import name_index

LEAST_SIMILAR = 72.0
"""Least similarity, of 100, of a name that contains no part of the query; our guess: one error in a word of four."""
LEAST_LETTERS = 3
"""Shorter queries match parts only: they resemble almost everything."""
WORD_PENALTY = 5.0
"""What a similar word in a name counts less than a similar name, of 100."""
MOST_COMPARED = 20_000
"""Most different names compared by similarity, the first ones of the index."""

WHOLE, START, WORD_START, PART, WORDS, SIMILAR = range(6)
UNRANKED = -1
"""Rank of a guild whose channels are not returned."""


class Hit(NamedTuple):
    """
    A match; smaller is better.

    Attributes:
        kind: How the name matches, WHOLE to SIMILAR.
        distance: Tenths of the name that the query does not cover, or that differ.
        rank: The guild's, as given to `search`.
        guild: Index of the guild.
        place: Index in the guild's names.
    """

    kind: int
    distance: int
    rank: int
    guild: int
    place: int


def search(query: str, index: name_index.NameIndex, limit: int, ranks: Sequence[int] | None = None) -> list[Hit]:
    """
    Return the best hits, best first.

    Args:
        query: As typed.
        index: The names.
        limit: Most hits to return.
        ranks: For each guild its place among equal matches, UNRANKED to leave it out; by default the index's order.
    """
    wanted = name_index.fold(query)
    if not wanted:
        return []
    made = _Search(wanted, index, range(len(index.guilds)) if ranks is None else ranks, limit)
    made.add(made.containing())
    if made.lacks and " " in wanted:
        made.add(made.with_all_words())
    if made.lacks and len(wanted) >= LEAST_LETTERS:
        made.add(made.similar())
    return made.hits


Matches: TypeAlias = dict[tuple[int, int], list[tuple[int, Container[int] | None]]]
"""By kind and distance: names, and the guilds in which they match; None for all."""


class _Search:
    """
    One search.

    Attributes:
        hits: The best ones so far, best first.
    """

    def __init__(self, wanted: str, index: name_index.NameIndex, ranks: Sequence[int], limit: int) -> None:
        self._wanted = wanted
        self._words = list(dict.fromkeys(wanted.split()))
        self._index = index
        self._ranks = ranks
        self._limit = limit
        self._known: set[tuple[int, int]] = set()
        self.hits: list[Hit] = []

    @property
    def lacks(self) -> int:
        """How many hits may still be added."""
        return self._limit - len(self.hits)

    def add(self, matches: Matches) -> None:
        """Add the hits of the best matches, which come after all earlier ones, as far as there is room."""
        for kind, distance in sorted(matches):
            found = {
                (self._ranks[guild], guild, place)
                for name, guilds in matches[kind, distance]
                for guild, place in self._index.occurrences(name)
                if (guilds is None or guild in guilds) and (guild, place) not in self._known
            }
            ranked = (each for each in found if each[0] != UNRANKED)
            for rank, guild, place in heapq.nsmallest(self.lacks, ranked):
                self._known.add((guild, place))
                self.hits.append(Hit(kind, distance, rank, guild, place))
            if not self.lacks:
                return

    def containing(self) -> Matches:
        """Return the names that contain the query."""
        matches: Matches = {}
        for number in self._index.containing(self._wanted):
            name = self._index.names[number]
            key = _kind(self._wanted, name), _uncovered(len(self._wanted), name)
            matches.setdefault(key, []).append((number, None))
        return matches

    def with_all_words(self) -> Matches:
        """Return the names that have all words of the query that are not in their guild's name."""
        having = {word: set(self._index.containing(word)) for word in self._words}
        named = {word: guilds for word in self._words if (guilds := self._index.guilds_containing(word))}
        groups: dict[tuple[str, ...], set[int]] = {}
        for guild in set[int]().union(*named.values()):
            groups.setdefault(tuple(word for word in self._words if guild not in named.get(word, ())), set()).add(guild)
        others = set(range(len(self._index.guilds))).difference(*named.values())
        groups.setdefault(tuple(self._words), set()).update(others)
        matches: Matches = {}
        for lacking, guilds in groups.items():
            letters = sum(len(word) for word in self._wanted.split() if word in lacking)
            for number in set.intersection(*(having[word] for word in lacking)) if lacking else ():
                distance = _uncovered(letters, self._index.names[number])
                matches.setdefault((WORDS, distance), []).append((number, guilds))
        return matches

    def similar(self) -> Matches:
        """Return names that resemble the query, or that have a word like each of its words."""
        whole, by_word = self._similar_names(), self._similar_words()
        named = {word: self._index.guilds_containing(word) for word in self._words}
        matches: Matches = {}
        for number in whole.keys() | _with_words(by_word, named):
            least = [found[number] for found in by_word.values() if number in found]
            absent = [word for word, found in by_word.items() if number not in found]
            by_words = max(least) + WORD_PENALTY if least else 100.0
            everywhere = whole.get(number, 100.0) if absent else min(whole.get(number, 100.0), by_words)
            if everywhere <= 100 - LEAST_SIMILAR:
                matches.setdefault((SIMILAR, round(everywhere)), []).append((number, None))
            if absent and by_words <= 100 - LEAST_SIMILAR and by_words < everywhere:
                guilds = set.intersection(*(named[word] for word in absent))
                matches.setdefault((SIMILAR, round(by_words)), []).append((number, guilds))
        return matches

    def _similar_names(self) -> dict[int, float]:
        """Return how much the names differ that resemble the whole query, of 100."""
        names = self._index.names[:MOST_COMPARED]
        found = process.extract(self._wanted, names, scorer=fuzz.ratio, limit=None, score_cutoff=LEAST_SIMILAR)
        return {number: 100 - score for _, score, number in found}

    def _similar_words(self) -> dict[str, dict[int, float]]:
        """Return for each word of the query how much it differs from the most similar word, or its start, of names."""
        known = list(itertools.islice(self._index.words, MOST_COMPARED))
        similar: dict[str, dict[int, float]] = {}
        for word in self._words:
            starts = [other[: len(word) + 1] for other in known]
            found = process.extract(word, starts, scorer=fuzz.ratio, limit=None, score_cutoff=LEAST_SIMILAR)
            names = similar[word] = {}
            for _, score, at in found:  # the most similar word first
                for number in self._index.words[known[at]]:
                    names.setdefault(number, 100 - score)
        return similar


def _with_words(by_word: Mapping[str, Mapping[int, float]], named: Mapping[str, Collection[int]]) -> set[int]:
    """Return the names that have a word like each word of the query, except those that some guild's name contains."""
    needed = [found.keys() for word, found in by_word.items() if not named[word]]
    return set.intersection(*map(set, needed)) if needed else set[int]().union(*by_word.values())


def _kind(wanted: str, name: str) -> int:
    if name.startswith(wanted):
        return WHOLE if len(name) == len(wanted) else START
    return WORD_START if f" {wanted}" in name else PART


def _uncovered(length: int, name: str) -> int:
    return max(0, 10 - (10 * length) // len(name))
