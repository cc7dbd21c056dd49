"""The orders of a measured process, and its record of each call."""

import dataclasses

import msgspec

CHANNELS = "GET /guilds/{guild.id}/channels"
GUILDS = "GET /users/@me/guilds"


@dataclasses.dataclass(frozen=True, slots=True)
class Load:
    """
    Calls of one kind.

    Attributes:
        lane: interactive, background or refresh.
        users: Ids; each call is made on behalf of one of them.
        tokens: The users' own tokens, to list their guilds; without tokens, the bot lists the channels of any guild.
        rate: Calls a second, at random moments.
        callers: With rate 0: how many call again as soon as they read an answer.
    """

    lane: str
    users: list[int]
    tokens: list[str] = dataclasses.field(default_factory=list)
    rate: float = 0.0
    callers: int = 15


@dataclasses.dataclass(frozen=True, slots=True)
class Orders:
    """The input of one process; times are monotonic seconds of this machine."""

    redis_url: str
    base_url: str
    bot_token: str
    guilds: list[int]
    until: float
    loads: list[Load]
    log: str
    seed: int


class Record(msgspec.Struct, array_like=True):
    """One call; times are monotonic seconds of this machine. Status 0: no answer."""

    lane: str
    user: int
    own: bool
    asked: float
    sent: float
    read: float
    status: int
    scope: str
