"""Search by name finds the channel that a person means."""

import pytest

from indexing.domain import name_index, name_search

NAMES = {
    "Rustaceans": [
        "📢│announcements",
        "👋・welcome",
        "📜-rules",
        "general",
        "beginners-help",
        "show-and-tell",
        "jobs-board",
        "off-topic",
        "async-await",
        "memes",
    ],
    "Café Société": ["général", "annonces", "règles", "musique", "jeux-vidéo", "photos-de-voyage"],
    "Studio Nord": ["general", "design-review", "Design System", "backend-dev", "deploy-log", "standup-notes", "GÄSTE"],
    "ゲーム部": ["雑談", "お知らせ", "スクリーンショット", "general"],
}
GUILDS = list(NAMES)


def best(query: str, limit: int = 5) -> list[str]:
    """Return the names of the best hits."""
    folded = [name_index.GuildNames(name_index.fold(guild), [*map(name_index.fold, NAMES[guild])]) for guild in NAMES]
    return [
        NAMES[GUILDS[hit.guild]][hit.place] for hit in name_search.search(query, name_index.NameIndex(folded), limit)
    ]


@pytest.mark.parametrize(
    ("query", "meant"),
    [
        ("general", "general"),
        ("gen", "general"),
        ("announcements", "📢│announcements"),
        ("annoucements", "📢│announcements"),
        ("anouncment", "📢│announcements"),
        ("welcom", "👋・welcome"),
        ("rules", "📜-rules"),
        ("regles", "règles"),
        ("Règles", "règles"),
        ("offtopic", "off-topic"),
        ("off topic", "off-topic"),
        ("topic", "off-topic"),
        ("help", "beginners-help"),
        ("begginer", "beginners-help"),
        ("await", "async-await"),
        ("design sys", "Design System"),
        ("review design", "design-review"),
        ("video", "jeux-vidéo"),
        ("gaste", "GÄSTE"),
        ("お知らせ", "お知らせ"),
        ("studio general", "general"),
        ("deply log", "deploy-log"),
    ],
)
def test_the_channel_that_a_person_means_is_first(query: str, meant: str) -> None:
    """With typing errors, without accents, whatever stands before the name."""
    assert best(query)[0] == meant


def test_a_guild_named_in_the_query_is_searched() -> None:
    """The word of the guild decides between channels of the same name."""
    folded = [name_index.GuildNames(guild, ["general"]) for guild in ("rust", "studio nord")]

    (hit,) = name_search.search("studio general", name_index.NameIndex(folded), 1)

    assert hit.guild == 1


def test_a_guild_named_in_the_query_is_searched_when_another_word_has_an_error() -> None:
    """A name that only resembles the other word is found in that guild alone; one that lacks it is not found."""
    folded = [name_index.GuildNames(guild, ["general", "lounge"]) for guild in ("rust", "studio nord")]

    hits = name_search.search("studio genral", name_index.NameIndex(folded), 9)

    assert [hit[3:] for hit in hits] == [(1, 0)]


def test_equal_matches_are_in_the_order_of_the_guilds() -> None:
    """That is the user's own ranking."""
    folded = [name_index.GuildNames("", ["other", "general"]), name_index.GuildNames("", ["general"])]

    assert [hit[3:] for hit in name_search.search("general", name_index.NameIndex(folded), 9)] == [(0, 1), (1, 0)]


def test_better_kinds_of_matches_are_first() -> None:
    """The whole name, its start, the start of a word, a part, all words, a similar name."""
    names = ["predev log", "log of dev", "my dev log", "dev log 2", "dev log", "dev lug"]
    folded = [name_index.GuildNames("", names)]

    found = [names[hit.place] for hit in name_search.search("dev log", name_index.NameIndex(folded), 9)]

    assert found == ["dev log", "dev log 2", "my dev log", "predev log", "log of dev", "dev lug"]


@pytest.mark.parametrize("query", ["zzzzzz", "z", "🎉", "   ", "--"])
def test_nothing_is_found_when_nothing_resembles_the_query(query: str) -> None:
    """Rather than anything at all."""
    assert best(query) == []


def test_a_limit_is_kept_when_more_match() -> None:
    """The best stay."""
    assert best("e", limit=3) == best("e", limit=9)[:3]


def hits(query: str, name: str, guild: str = "") -> list[name_search.Hit]:
    """Return the hits among one name of one guild."""
    return name_search.search(query, name_index.NameIndex([name_index.GuildNames(guild, [name])]), 9)


@pytest.mark.parametrize(
    ("query", "name", "guild", "hit"),
    [
        pytest.param("log", "my log", "", (name_search.WORD_START, 5), id="half of the name"),
        pytest.param("log dev", "dev x log", "", (name_search.WORDS, 4), id="6 of 9 letters, in another order"),
        pytest.param("ab general", "my general", "ab", (name_search.WORDS, 3), id="the guild's word does not count"),
        pytest.param("log", "lg", "", (name_search.SIMILAR, 20), id="1 of 5 letters differs"),
        pytest.param("studio genral", "general", "studio nord", (name_search.SIMILAR, 13), id="1 of 13, and 5"),
    ],
)
def test_a_match_tells_its_kind_and_how_much_the_query_does_not_cover(
    query: str, name: str, guild: str, hit: tuple[int, int]
) -> None:
    """In tenths; of similar names in hundredths, five more when a single word is similar."""
    assert [found[:2] for found in hits(query, name, guild)] == [hit]


@pytest.mark.parametrize(
    ("query", "name", "guild", "found"),
    [
        pytest.param("log", "lg", "", True, id="three letters"),
        pytest.param("lg", "log", "", False, id="two letters"),
        pytest.param("abcdefghijkl", "abcdefghiwxyz", "", True, id="7 of 25 letters differ"),
        pytest.param("abcdefghijkl", "abcdefgiwxyzv", "", False, id="9 of 25 letters differ"),
        pytest.param("g" * 60 + " " + "a" * 77 + "b" * 23, "a" * 77 + "c" * 23, "g" * 60, True, id="word: 23 of 100"),
        pytest.param("g" * 60 + " " + "a" * 76 + "b" * 24, "a" * 76 + "c" * 24, "g" * 60, False, id="word: 24 of 100"),
    ],
)
def test_a_name_is_similar_when_at_most_28_of_100_letters_differ(
    query: str, name: str, guild: str, *, found: bool
) -> None:
    """A word in a name, beside the guild's name: 23; a query of fewer than three letters is similar to nothing."""
    assert bool(hits(query, name, guild)) is found


@pytest.mark.parametrize(
    ("name", "folded"),
    [
        ("📢│announcements", "announcements"),
        ("Général_Chat", "general chat"),
        ("STRASSE-straße", "strasse strasse"),
        ("ﬁle", "file"),
        ("🎉🎉", "🎉🎉"),
        ("雑談・一般", "雑談 一般"),
    ],
)
def test_a_name_is_folded_to_its_words(name: str, folded: str) -> None:
    """A name without words stays as it is, so that it is found by itself."""
    assert name_index.fold(name) == folded
