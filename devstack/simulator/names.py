"""Random names, some of them unusual."""

import random
from typing import Final

_ADJECTIVES: Final = (
    "quiet", "amber", "northern", "tiny", "electric", "salty", "lunar", "brave", "rusty", "velvet", "hollow", "sunny",
    "wild", "old", "paper", "distant", "golden", "frozen", "crimson", "gentle",
)  # fmt: skip
_NOUNS: Final = (
    "foxes", "harbor", "forge", "library", "garden", "raiders", "engineers", "painters", "observatory", "kitchen",
    "guild", "arcade", "cyclists", "translators", "orchestra", "valley", "lanterns", "makers", "otters", "archive",
)  # fmt: skip
_TOPICS: Final = (
    "general", "announcements", "rules", "introductions", "memes", "help", "off-topic", "music", "events", "art",
    "screenshots", "feedback", "bugs", "releases", "jobs", "looking-for-group", "trading", "photos", "books", "random",
    "staff", "moderators", "logs", "ideas", "questions", "showcase", "language-exchange", "food", "pets", "sports",
)  # fmt: skip
_AWKWARD: Final = (
    "🎮・gaming", "🔥🔥🔥", "日本語チャット", "中文-频道", "한국어", "עברית-כללי", "عام-الدردشة", "русский-чат",
    "çay-sohbet", "\u202erevo-thgir\u202c", "zero\u200bwidth\u200djoiner", "line\nbreak", "bell\x07and\x1b[31mred",
    "tab\tstop", "nul\x00l", "e\u0301\u0323\u0489\u0489zalgo", "👩\u200d👩\u200d👧-family", "<b>bold</b>&amp;",
    "' OR 1=1 --", "${jndi:nothing}", "  padded  ", "\U0001d4ef\U0001d4ea\U0001d4f7\U0001d4ec\U0001d502", "║┃lobby┃║",
    "x" * 100, "é" * 100, "\ufeffbom", "%s%n{0}", "..\\..\\up", "null",
)  # fmt: skip


def guild_name(rng: random.Random) -> str:
    """Return a guild name of 2 to 100 characters."""
    if rng.random() < 0.08:
        return f"{rng.choice(_AWKWARD)} {rng.choice(_NOUNS)}"[:100]
    return f"{rng.choice(_ADJECTIVES)} {rng.choice(_NOUNS)}".title()


def channel_name(rng: random.Random, number: int) -> str:
    """Return a channel name of 1 to 100 characters; *number* makes repeated topics unique."""
    if rng.random() < 0.05:
        return rng.choice(_AWKWARD)
    topic = rng.choice(_TOPICS)
    return topic if number < len(_TOPICS) else f"{topic}-{number}"


def category_name(rng: random.Random) -> str:
    """Return a category name."""
    return f"{rng.choice(_ADJECTIVES)} {rng.choice(_TOPICS)}".upper()


def user_name(index: int) -> str:
    """Return the unique name of the *index*-th user."""
    return f"{_ADJECTIVES[index % 20]}_{_NOUNS[index // 20 % 20]}_{index}"
