"""
Search of channels by name, as in a quick switcher: tolerant of typing errors, accents, and emoji or bars before names.

Names and queries are folded to lower-case words without accents. Better matches come first: the whole name, its start,
the start of a word, any part, all words in any order (some of them may be in the guild's name), a similar name.
"""

import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from rapidfuzz import fuzz, process

WORD = re.compile(r"[^\W_]+")
LEAST_SIMILAR = 72.0
"""Least similarity, of 100, of a name that contains no part of the query; our guess: one error in a word of four."""
LEAST_LETTERS = 3
"""Shorter queries match parts only: they resemble almost everything."""
WORD_PENALTY = 5.0
"""What a similar word in a name counts less than a similar name, of 100."""
MOST_COMPARED = 20_000
"""Most different names compared by similarity; those of the user's less important guilds are left out."""

NO_WORD = 101.0
"""Difference of a name that lacks a word of the query."""

WHOLE, START, WORD_START, PART, WORDS, SIMILAR = range(6)


class Hit(NamedTuple):
    """
    A match; smaller is better.

    Attributes:
        kind: How the name matches, WHOLE to SIMILAR.
        distance: Tenths of the name that the query does not cover, or that differ.
        guild: Index of the guild.
        place: Index in the guild's names.
    """

    kind: int
    distance: int
    guild: int
    place: int


class GuildNames(NamedTuple):
    """The folded names of the channels of one guild that are searched, and of the guild itself."""

    guild: str
    channels: Sequence[str]


def fold(name: str) -> str:
    """Return the words of a name in lower case, without accents, emoji and punctuation; as it is if it has no word."""
    plain = unicodedata.normalize("NFKD", name)
    if not plain.isascii():
        plain = "".join(filter(_is_no_accent, plain))
    return " ".join(WORD.findall(plain.casefold())) or name.casefold()


def search(query: str, guilds: Sequence[GuildNames], limit: int) -> list[Hit]:
    """Return the best hits, best first. Guilds are in the order in which equal matches are returned."""
    wanted = fold(query)
    if not wanted:
        return []
    hits = sorted(_contained(wanted, guilds))
    if len(hits) < limit and len(wanted) >= LEAST_LETTERS:
        known = {(hit.guild, hit.place) for hit in hits}
        similar = sorted(hit for hit in _similar(wanted, guilds, limit + len(known)) if hit[2:] not in known)
        hits += similar
    return hits[:limit]


def _is_no_accent(character: str) -> bool:
    return not unicodedata.combining(character)


def _contained(wanted: str, guilds: Sequence[GuildNames]) -> Iterator[Hit]:
    """Yield the names that contain the query, or all of its words."""
    words = wanted.split()
    for number, guild in enumerate(guilds):
        left = [word for word in words if word not in guild.guild] if len(words) > 1 else []
        for place, name in enumerate(guild.channels):
            if wanted in name:
                yield Hit(_kind(wanted, name), _uncovered(len(wanted), name), number, place)
            elif left and all(word in name for word in left):
                yield Hit(WORDS, _uncovered(sum(map(len, left)), name), number, place)


def _kind(wanted: str, name: str) -> int:
    if name.startswith(wanted):
        return WHOLE if len(name) == len(wanted) else START
    return WORD_START if f" {wanted}" in name else PART


def _uncovered(length: int, name: str) -> int:
    return max(0, 10 - (10 * length) // len(name))


def _similar(wanted: str, guilds: Sequence[GuildNames], limit: int) -> Iterator[Hit]:
    """Yield names that resemble the query, or that have a word like each of its words."""
    places: dict[str, list[tuple[int, int]]] = {}
    for number, guild in enumerate(guilds):
        for place, name in enumerate(guild.channels):
            places.setdefault(name, []).append((number, place))
        if len(places) > MOST_COMPARED:
            break
    differences = _whole_names(wanted, list(places), limit)
    by_word = _similar_words(wanted.split(), {word for name in places for word in name.split()})
    similar = {word for words in by_word.values() for word in words}
    for name, where in places.items():
        whole, words = differences.get(name, NO_WORD), name.split()
        if whole == NO_WORD and similar.isdisjoint(words):
            continue
        for number, place in where:
            difference = min(whole, _difference(words, by_word, guilds[number].guild))
            if difference <= 100 - LEAST_SIMILAR:
                yield Hit(SIMILAR, round(difference), number, place)


def _whole_names(wanted: str, names: list[str], limit: int) -> dict[str, float]:
    """Return how much the names differ that resemble the whole query, of 100."""
    found = process.extract(wanted, names, scorer=fuzz.ratio, limit=limit, score_cutoff=LEAST_SIMILAR)
    return {name: 100 - score for name, score, _ in found}


def _similar_words(wanted: Sequence[str], known: Collection[str]) -> dict[str, dict[str, float]]:
    """Return for each word of the query how much similar words differ, or their starts."""
    similar: dict[str, dict[str, float]] = {}
    for word in wanted:
        starts: dict[str, list[str]] = {}
        for other in known:
            starts.setdefault(other[: len(word) + 1], []).append(other)
        found = process.extract(word, list(starts), scorer=fuzz.ratio, limit=None, score_cutoff=LEAST_SIMILAR)
        similar[word] = {other: 100 - score for start, score, _ in found for other in starts[start]}
    return similar


def _difference(words: Sequence[str], by_word: Mapping[str, Mapping[str, float]], guild: str) -> float:
    """Return how much a name differs from a query with these similar words; NO_WORD when it lacks one."""
    worst, own = 0.0, False
    for word, similar in by_word.items():
        least = min((similar[other] for other in words if other in similar), default=NO_WORD)
        if least == NO_WORD and word in guild:
            continue
        own = True
        worst = max(worst, least)
    return worst + WORD_PENALTY if own else NO_WORD
