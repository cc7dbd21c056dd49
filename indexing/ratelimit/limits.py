"""
What is charged, under which key, with which numbers, and where each number comes from.

| budget | size | whose |
|---|---|---|
| global | GLOBAL_BUDGET: 50 per 1 s, Discord's documented limit of a bot | the bot token, one for the fleet |
| user | USER_BUDGET: 5 per 5 s, the product owner's figure | the user on whose behalf a call is made |
| route | learned from the X-RateLimit headers (learned.py) | identity, bucket, and the guild where it has its own |
| invalid requests | 10,000 per 10 min, documented | the address that Discord sees |

What a caller gets from the limiter, and what it brings back.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Self

from indexing import settings
from indexing.domain import model
from indexing.ratelimit import route_limits

LANES = (model.Lane.INTERACTIVE, model.Lane.BACKGROUND, model.Lane.REFRESH)
"""Most urgent first."""
FENCE = 2.0
"""Seconds from taking a permit within which its call must be sent; a process that was stopped longer hands it back.
Our guess: longer than the garbage collector and a write to the store take, and part of each lost permit's hold."""
INVALID = settings.Rate(capacity=10_000, window=600.0)
"""Answers 401, 403, 429 after which Discord bans the address (developers/topics/rate-limits.mdx, read 2026-08-06)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Charge:
    """
    What one call to Discord costs, and who pays.

    Attributes:
        route: Template, such as `GET /guilds/{guild.id}/channels`.
        identity: "bot", or "user:<id>" when the call carries the user's own token; route budgets belong to it.
        user: On whose behalf: his budget is charged whichever token is used; None charges nobody's.
        major: Top-level resource that may split the route's bucket (a guild), None when there is none.
        waiter: One place in the line for each waiter; "" stands for this call alone.
    """

    lane: model.Lane
    route: str
    identity: str
    user: int | None
    major: int | None
    waiter: str = ""

    @property
    def field(self) -> str:
        """Name of what is learned about the route: of bots' calls and of users' calls apart."""
        return f"{self.identity.partition(':')[0]} {self.route}"

    @property
    def owner(self) -> str:
        """Id of the user whose token the call carries, "" for the bot's."""
        return self.identity.partition(":")[2]


@dataclasses.dataclass(frozen=True, slots=True)
class BudgetState:
    """
    One budget as it is now.

    Attributes:
        kind: global, user, route, or invalid_requests.
        key: Which one: a user id, a route and guild; "" for the global budget.
        window: In seconds.
        free: Permits that could be taken now.
        next_free_in: Seconds until one is free, 0 when one is free now.
        paused_for: Seconds for which nothing is granted, 0 when it is not paused.
        why: Cause of the pause, "" when there is none: hold, pause, shared, breaker.
    """

    kind: str
    key: str
    capacity: int
    window: float
    free: int
    next_free_in: float = 0.0
    paused_for: float = 0.0
    why: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Rules:
    """
    The numbers by which permits are given; times in seconds.

    Attributes:
        shares: Of the global budget, for each lane, when all want more than there is.
        inflight: Longest time from a permit to the end of its call: the call's timeout and the fence.
        hold: Wait after lost state.
        stop_bulk, stop_all: Invalid answers at which background and refresh stop, and at which all do.
        margin: Taken off a credit that is anchored in the server's clock.
        grace: How late a waiter may come before its place is given up.
        ahead: A permit may be promised this long before it is free.
        probe: When to ask again while the first call of an unseen route is on its way: about a round trip.
        unseen: Window presumed of a route whose first answer is lost.
        unproven: Longest wait for a budget that guilds share only until it is proven that each has its own.
        burst: Bulk calls that may go at once before they are paced.
        ramp: Time from half to full speed after a pause of the whole token.
        forget: Time after which one permit is taken back from another user of our token.
        agree: Answers that must agree before a learned limit is raised.
        stretch, enough: Time and answers from which the shortest round trip is taken.
        longest: No window longer than this is believed.
    """

    global_budget: settings.Rate
    user_budget: settings.Rate
    shares: tuple[float, float, float]
    inflight: float
    hold: float
    reserve: int
    global_credit: float
    user_credit: float
    stop_bulk: int
    stop_all: int
    egress: str = "default"
    margin: float = 0.03
    grace: float = 0.5
    ahead: float = 0.015
    probe: float = 0.15
    unseen: float = 5.0
    unproven: float = 1.0
    burst: int = 3
    ramp: float = 5.0
    forget: float = 30.0
    agree: int = 50
    stretch: float = 30.0
    enough: int = 200
    longest: float = 3600.0

    @classmethod
    def of(cls, config: settings.LimiterSettings, call_timeout: float) -> Self:
        """Take the numbers from the settings; *call_timeout* is the longest time of one call, in seconds."""
        inflight = call_timeout + FENCE
        window = max(config.global_budget.window, config.user_budget.window)
        bulk = config.limiter_background_share, config.limiter_refresh_share
        return cls(
            global_budget=config.global_budget,
            user_budget=config.user_budget,
            shares=(max(0.01, 1 - sum(bulk)), *bulk),
            inflight=inflight,
            hold=window + inflight if config.limiter_hold is None else config.limiter_hold,
            reserve=config.limiter_reserve,
            global_credit=config.limiter_global_credit,
            user_credit=config.limiter_user_credit,
            stop_bulk=math.ceil(INVALID.capacity * config.limiter_stop_bulk),
            stop_all=math.ceil(INVALID.capacity * config.limiter_stop_all),
        )


class Keys:
    """Names of the keys of one application; they share a hash tag, so that one script may touch them in a cluster."""

    def __init__(self, application: str) -> None:
        self.tag = f"{{dl:{application}}}:"

    def shared(self, egress: str) -> list[str]:
        """Return the keys that every exchange names first, in the script's order."""
        names = ("m", "p:g", "w:1", "w:2", "w:3", "w:deadlines", "tags", "learned", f"egress:{egress}", "active")
        return [self.tag + name for name in names]

    def user(self, user: int | None) -> str:
        """Return the key of a user's ledger; None has one that is never written."""
        return f"{self.tag}p:u:{'-' if user is None else user}"

    def route(self, charge: Charge, limit: route_limits.RouteLimit) -> str:
        """Return the key of the route ledger that a call under this *limit* is charged to."""
        if not limit.known:
            # One probe for all: the first answer teaches everybody.
            return f"{self.tag}p:r:?:{charge.field}"
        major = charge.major if limit.split else None
        return self.bucket(charge, limit.bucket, major)

    def part(self, charge: Charge, limit: route_limits.RouteLimit) -> str:
        """Return the key of the guild's own ledger, kept also while guilds still share the bucket's; else `route`."""
        return self.bucket(charge, limit.bucket, charge.major) if limit.known else self.route(charge, limit)

    def bucket(self, charge: Charge, bucket: str, major: int | None) -> str:
        """Return the key of a bucket's ledger: of one guild, or with None of all guilds together."""
        name = bucket if bucket != route_limits.NO_HEADERS else f"-{charge.route}"
        return f"{self.tag}p:r:{charge.identity}:{name}:{'*' if major is None else major}"

    def line(self, ledger: str) -> str:
        """Return the key of the line of who sleeps for a permit of *ledger*."""
        return ledger.replace(self.tag + "p:", self.tag + "l:", 1)


def label(charge: Charge) -> str:
    """Return the name under which a route budget is listed while it is in use."""
    return f"{charge.route}|{charge.identity}|{'' if charge.major is None else charge.major}"


def charge_of(name: str) -> Charge:
    """Return a charge that a `label` stands for."""
    route, identity, major = name.rsplit("|", 2)
    return Charge(model.Lane.REFRESH, route, identity, None, int(major) if major else None)


@dataclasses.dataclass(frozen=True, slots=True)
class Permit:
    """
    The right to make one call to Discord, once, soon.

    Attributes:
        taken_at: When it was asked for, on the monotonic clock that the limiter was given.
        fence: Seconds from then within which the call may be sent.
        moment: When its budgets were charged, in milliseconds of the fleet's clock.
        limit: What was known of the route.
        held: Permits of the route's budget that were held when this one was taken, this one included.
    """

    id: str
    charge: Charge
    taken_at: float
    fence: float = FENCE
    moment: int = 0
    limit: route_limits.RouteLimit = route_limits.UNKNOWN
    held: int = 1

    def expired(self, now: float) -> bool:
        """Return whether it is too late to send at *now*, of the same monotonic clock: then give the permit back."""
        return now - self.taken_at > self.fence


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """
    What came back for a call that was sent.

    Attributes:
        status: None when no whole answer came; the permit's full hold stays.
        headers: Names in lower case: x-ratelimit-*, retry-after.
        round_trip: Seconds from sending to having read the answer.
        body_retry_after: Seconds, from a 429's JSON.
        body_global: `global` of a 429's JSON.
        is_discord: False for a 403 or 429 that is not Discord's JSON: the edge in front of it blocks us.
    """

    status: int | None
    headers: Mapping[str, str]
    round_trip: float
    body_retry_after: float | None = None
    body_global: bool = False
    is_discord: bool = True
