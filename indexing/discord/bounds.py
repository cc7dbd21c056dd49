"""
The bounds of every number and text that Discord sends; those of waits and limits are in ratelimit/bounds.py.

A value of the wrong type, or outside its bounds, counts as missing. Waits and lifetimes are clipped to their bounds.
Documented maxima are from developers/resources and developers/topics, read 2026-08-06.
"""

from typing import Annotated

import msgspec

from indexing.ratelimit import bounds as rate_bounds
from indexing.ratelimit.bounds import MAX_WAIT as MAX_WAIT
from indexing.ratelimit.bounds import header_wait as header_wait
from indexing.ratelimit.bounds import wait as wait

INT64 = (1 << 63) - 1
Int32 = Annotated[int, msgspec.Meta(ge=-(1 << 31), le=(1 << 31) - 1)]
"""A channel's type, its position and an overwrite's type; larger numbers do not fit into a message of the API."""
Count = Annotated[int, msgspec.Meta(ge=0, le=INT64)]
"""Approximate members of a guild; larger numbers do not fit into the store."""
MAX_CODE = (1 << 31) - 1
"""Largest JSON error code; Discord's have up to six digits."""
MAX_NAME_LENGTH = 100
MAX_TOPIC_LENGTH = 4_096
"""Characters that are kept; the rest is cut."""
MAX_ICON_LENGTH = 128
"""Characters of an icon's hash, which has 32, or 34 when it is animated."""
MAX_OVERWRITES = 5_000
"""Permission overwrites of one channel. Discord allows 1,000 (error 30060)."""
MAX_ROW_BYTES = 1 << 20
"""Largest row of a list. A channel with 1,000 overwrites and a topic of 4,096 emoji takes about 130 KiB."""
MAX_COMMAS = 5_000_000
"""Commas in a large list, a bound of the values that it can have. 500 channels with 1,000 overwrites each have 2 M,
their topics at most 2 M more."""
MAX_DIGITS = 1_000
"""Digits of an id or of permissions; Discord's have up to 20."""
DEFAULT_TOKEN_LIFETIME = 7 * 86_400.0
"""Lifetime of an access token whose answer names none, in seconds
(discord-social-sdk/development-guides/account-linking-with-discord.mdx:199)."""
MIN_TOKEN_LIFETIME = 1_200.0
"""Shortest lifetime that is accepted, in seconds: twice the time before its end at which a pair is renewed, so that no
answer makes every turn renew it. A token that ends sooner is refused by Discord, and renewed then."""
MAX_TOKEN_LIFETIME = 366 * 86_400.0
"""Longest lifetime that is accepted, in seconds."""
MIN_HEARTBEAT, DEFAULT_HEARTBEAT, MAX_HEARTBEAT = 1.0, 41.25, 300.0
"""Seconds between two heartbeats of a Gateway connection: half of what the limit of 120 events a minute allows,
what Discord sends (events/gateway.mdx, read 2026-08-06), and our guess of what still notices a dead connection."""
Shards = Annotated[int, msgspec.Meta(ge=1, le=100_000)]
Identifies = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
"""Numbers in the answer of GET /gateway/bot. Our guesses, far above what Discord sends."""
MAX_TOKEN_LENGTH = 2_048
"""Characters of a token, as in PutCredential."""


def error_code(value: object) -> int | None:
    """Return a JSON error code; None when *value* is none."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and 0 <= value <= MAX_CODE else None  # type: ignore[operator,return-value]  # it is an int


def token_lifetime(value: object) -> float:
    """Return a token's lifetime in seconds, within its bounds; text is read as a number, as some servers send it."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            value = None
    seconds = rate_bounds.number(value)
    if seconds is None or seconds <= 0:
        return DEFAULT_TOKEN_LIFETIME
    return min(max(seconds, MIN_TOKEN_LIFETIME), MAX_TOKEN_LIFETIME)


def heartbeat(milliseconds: object) -> float:
    """Return the seconds between two heartbeats, within their bounds."""
    number = rate_bounds.number(milliseconds)
    if number is None or number <= 0:
        return DEFAULT_HEARTBEAT
    return min(max(number / 1000, MIN_HEARTBEAT), MAX_HEARTBEAT)


def snowflake(text: str) -> int | None:
    """Return an id, a decimal number of 1 to 63 bits; None when *text* is none."""
    number = _decimal(text)
    return number if number is not None and 0 < number <= INT64 else None


def permissions(text: str) -> int | None:
    """
    Return permission bits; None when *text* is no decimal number.

    On the wire, permissions have any number of bits. The store keeps 63; Discord uses 53.
    """
    number = _decimal(text)
    return None if number is None else number & INT64


def _decimal(text: str) -> int | None:
    # int() also accepts signs, blanks, underscores and other digits, and -1 would have every permission bit set.
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS):
        return None
    return int(text)
