"""Discord's ids: 42 bits of milliseconds since 2015, then 22 bits that keep them apart.

Source: developers/reference.mdx, Snowflakes (read 2026-08-06).
"""

EPOCH_MS = 1_420_070_400_000
"""2015-01-01T00:00:00Z in milliseconds since 1970: the zero of Discord's ids."""

LOW_BITS = 22
MASK = (1 << LOW_BITS) - 1

OLDEST_MS = 1_441_065_600_000
"""2015-09-01: nothing of the world is older than that."""

NEWEST_MS = 1_780_272_000_000
"""2026-06-01: users and guilds are older than that, whatever day the simulator plays."""

_WORD = (1 << 64) - 1


def from_ms(unix_ms: int, low: int = 0) -> int:
    """Make the id of something that came into being at *unix_ms*, told apart by *low*."""
    return ((unix_ms - EPOCH_MS) << LOW_BITS) | (low & MASK)


def created_ms(snowflake: int) -> int:
    """Read when the bearer of *snowflake* came into being, in milliseconds since 1970."""
    return (snowflake >> LOW_BITS) + EPOCH_MS


def mix(seed: int, salt: int) -> int:
    """Scramble two numbers into 64 bits that look random (the finaliser of splitmix64)."""
    word = (seed * 0x9E3779B97F4A7C15 + salt * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) & _WORD
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & _WORD
    return word ^ (word >> 31)


def nth_id(seed: int, index: int) -> int:
    """Make the id of the *index*-th thing of a kind: its own for each index below four million."""
    return from_ms(OLDEST_MS + mix(seed, index) % (NEWEST_MS - OLDEST_MS), index)
