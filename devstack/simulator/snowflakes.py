"""Discord's ids: 42 bits of milliseconds since 2015, then 22 bits that make them unique.

Source: developers/reference.mdx, Snowflakes (read 2026-08-06).
"""

EPOCH_MS = 1_420_070_400_000
"""2015-01-01T00:00:00Z in milliseconds since 1970: the epoch of Discord's ids."""

LOW_BITS = 22
MASK = (1 << LOW_BITS) - 1

OLDEST_MS = 1_441_065_600_000
"""2015-09-01: the oldest creation time in the world."""

NEWEST_MS = 1_780_272_000_000
"""2026-06-01: the newest creation time of users and guilds, for every simulated day."""

_WORD = (1 << 64) - 1


def from_ms(unix_ms: int, low: int = 0) -> int:
    """Return the id of something created at *unix_ms*; *low* makes it unique."""
    return ((unix_ms - EPOCH_MS) << LOW_BITS) | (low & MASK)


def created_ms(snowflake: int) -> int:
    """Return the creation time in *snowflake*, in milliseconds since 1970."""
    return (snowflake >> LOW_BITS) + EPOCH_MS


def mix(seed: int, salt: int) -> int:
    """Hash two numbers into 64 bits (the finalizer of splitmix64)."""
    word = (seed * 0x9E3779B97F4A7C15 + salt * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) & _WORD
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & _WORD
    return word ^ (word >> 31)


def nth_id(seed: int, index: int) -> int:
    """Return the *index*-th id of a kind; unique for indexes below four million."""
    return from_ms(OLDEST_MS + mix(seed, index) % (NEWEST_MS - OLDEST_MS), index)
