"""What a measured process is told to do, and what it writes down of each call."""

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
        tokens: The users' own tokens: then they list their guilds; without, the bot lists the channels of some guild.
        rate: Calls a second, at random moments.
        callers: With rate 0: how many ask again as soon as an answer is there.
    """

    lane: str
    users: list[int]
    tokens: list[str] = dataclasses.field(default_factory=list)
    rate: float = 0.0
    callers: int = 15


@dataclasses.dataclass(frozen=True, slots=True)
class Orders:
    """All that one process needs to know; times are monotonic seconds of this machine."""

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
