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
