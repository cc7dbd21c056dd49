"""
Search of channels by name, as in a quick switcher: tolerant of typing errors, accents, and emoji or bars before names.

Names and queries are folded to lower-case words without accents. Better matches come first: the whole name, its start,
the start of a word, any part, all words in any order (some of them may be in the guild's name), a similar name.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

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
    made = _Search(wanted, index, range(len(index.guilds)) if ranks is None else ranks)
    hits = made.contained(limit)
    if len(hits) < limit and len(wanted) >= LEAST_LETTERS:
        known = {hit[3:] for hit in hits}
        hits += sorted(hit for hit in made.similar() if hit[3:] not in known)[: limit - len(hits)]
    return hits


class _Search:
    """One search."""

    def __init__(self, wanted: str, index: name_index.NameIndex, ranks: Sequence[int]) -> None:
        self._wanted = wanted
        self._words = wanted.split()
        self._index = index
        self._ranks = ranks

    def contained(self, limit: int) -> list[Hit]:
        """Return the names that contain the query, or all of its words: the best ones, best first."""
        matches = dict.fromkeys(self._index.containing(self._wanted))
        kinds: dict[tuple[int, int], list[int]] = {}
        for number in matches:
            name = self._index.names[number]
            kinds.setdefault((_kind(self._wanted, name), _uncovered(len(self._wanted), name)), []).append(number)
        hits: list[Hit] = []
        for kind, distance in sorted(kinds):
            hits += sorted(hit for number in kinds[kind, distance] for hit in self._hits(kind, distance, number))
            if len(hits) >= limit:
                return hits[:limit]
        if len(self._words) > 1:
            hits += sorted(self._with_all_words(matches))
        return hits[:limit]

    def _hits(self, kind: int, distance: int, number: int) -> Iterator[Hit]:
        """Yield a hit for each channel with a name."""
        for guild, place in self._index.occurrences(number):
            if (rank := self._ranks[guild]) != UNRANKED:
                yield Hit(kind, distance, rank, guild, place)

    def _with_all_words(self, known: dict[int, None]) -> Iterator[Hit]:
        """Yield the names that have all words of the query that are not in their guild's name."""
        having = {word: set(self._index.containing(word)) for word in dict.fromkeys(self._words)}
        lacking = [frozenset(word for word in self._words if word not in guild) for guild in self._index.guilds]
        letters = [sum(len(word) for word in self._words if word in words) for words in lacking]
        for number in set[int]().union(*having.values()).difference(known):
            present = frozenset(word for word, names in having.items() if number in names)
            for hit in self._hits(WORDS, 0, number):
                if lacking[hit.guild] and lacking[hit.guild] <= present:
                    yield hit._replace(distance=_uncovered(letters[hit.guild], self._index.names[number]))

    def similar(self) -> Iterator[Hit]:
        """Yield names that resemble the query, or that have a word like each of its words."""
        whole = self._similar_names()
        by_word = self._similar_words()
        names = {number for words in by_word.values() for word in words for number in self._index.words[word]}
        for number in sorted(names | whole.keys()):
            words = self._index.names[number].split()
            least = {
                word: min((found[other] for other in words if other in found), default=None)
                for word, found in by_word.items()
            }
            similar = [difference for difference in least.values() if difference is not None]
            absent = [word for word, difference in least.items() if difference is None]
            by_words = max(similar) + WORD_PENALTY if similar else 100.0
            for hit in self._hits(SIMILAR, 0, number):
                in_guild = all(word in self._index.guilds[hit.guild] for word in absent)
                difference = min(whole.get(number, 100.0), by_words if in_guild else 100.0)
                if difference <= 100 - LEAST_SIMILAR:
                    yield hit._replace(distance=round(difference))

    def _similar_names(self) -> dict[int, float]:
        """Return how much the names differ that resemble the whole query, of 100."""
        names = self._index.names[:MOST_COMPARED]
        found = process.extract(self._wanted, names, scorer=fuzz.ratio, limit=None, score_cutoff=LEAST_SIMILAR)
        return {number: 100 - score for _, score, number in found}

    def _similar_words(self) -> dict[str, dict[str, float]]:
        """Return for each word of the query how much similar words differ, or their starts."""
        known = list(itertools.islice(self._index.words, MOST_COMPARED))
        similar: dict[str, dict[str, float]] = {}
        for word in self._words:
            starts = [other[: len(word) + 1] for other in known]
            found = process.extract(word, starts, scorer=fuzz.ratio, limit=None, score_cutoff=LEAST_SIMILAR)
            similar[word] = {known[at]: 100 - score for _, score, at in found}
        return similar


def _kind(wanted: str, name: str) -> int:
    if name.startswith(wanted):
        return WHOLE if len(name) == len(wanted) else START
    return WORD_START if f" {wanted}" in name else PART


def _uncovered(length: int, name: str) -> int:
    return max(0, 10 - (10 * length) // len(name))
