"""
The limiter's budgets, their parameters and Redis keys, and the types that its callers use.

| budget | size | shared by |
|---|---|---|
| global | GLOBAL_BUDGET: 50 per 1 s, Discord's documented limit of a bot | all processes of one bot token |
| user | USER_BUDGET: 5 per 5 s, the product owner's figure | the calls made on behalf of one user |
| route | learned from the X-RateLimit headers (route_limits.py) | one token, one bucket, and one guild once proven |
| invalid requests | 10,000 per 10 min, documented | the IP address that Discord sees |

A permit is held until one window after its call's answer was read, minus a credit.

With a credit of 0, no window of any kind (fixed with any phase, started by its first call, sliding, or a refilling
bucket) contains more calls than the budget's capacity. This assumes only that Discord counts a call between its sending
and the reading of its answer.

A credit releases permits earlier, by a share of the shortest round trip: 0.8 of it for the global budget
(LIMITER_GLOBAL_CREDIT), 0.5 for user and route budgets (LIMITER_USER_CREDIT). The promise then also assumes, for every
call and every later call that reuses its permit: the time from Discord counting the first to the reading of its answer,
plus the time from sending the second to Discord counting it, is at least that share of the shortest round trip.
"Shortest" is over the current and the previous measuring period of the fleet; a period lasts at least 30 s and 200
answers, and there is no credit before the first 200. Discord promises nothing of the kind;
docs/decisions/0005-permit-ledger.md says when the assumption fails.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Self

from indexing import settings
from indexing.domain import model
from indexing.ratelimit import bounds, route_limits

LANES = tuple(model.Lane)
"""Most urgent first."""
PROOF = "proof"
"""Prefix of the identity of tokens that are not proven to be anybody's."""
SEND_DEADLINE = 2.0
"""Seconds from taking a permit within which its call must be sent; a process that was suspended longer gives it back.
Our guess: longer than a garbage collection and a write to the store take, and part of each lost permit's hold."""
INVALID_REQUEST_LIMIT = settings.Rate(capacity=10_000, window=600.0)
"""Answers 401, 403, 429 after which Discord bans the address (developers/topics/rate-limits.mdx, read 2026-08-06)."""

CALLERS_TO_STOP_ALL = 5
"""Callers with refused tokens that together stop all calls: one of them is stopped at that share of the limit."""


@dataclasses.dataclass(frozen=True, slots=True)
class Charge:
    """
    The budgets that one call to Discord is charged to, and its priority.

    Attributes:
        route: Template, such as `GET /guilds/{guild.id}/channels`.
        identity: "bot", "client" for the application itself, "user:<id>" when the call carries the user's own token, or
            "proof:<hash>" for a token that is not proven to be anybody's; route budgets belong to it.
        user_id: User on whose behalf the call is made, whichever token it carries; None for nobody's.
        major: Discord's major parameter, a guild id, which may have a bucket of its own; None when there is none.
        waiter: Name that keeps one queue position across several `take` calls; "" gives each call its own.
        charges_user: Whether the user's budget is charged; without it `user_id` only says who takes turns with whom.
        callers: Callers whose turn in the queue the call takes: of several, the one due first. Empty: the unnamed.
        shared: Whether calls of other jobs have the same waiter, so that one of them may use the position first.
        brought_by: Caller that brought the user's token which the call carries; empty for an unnamed one, and for the
            application's own tokens.
    """

    lane: model.Lane
    route: str
    identity: str
    user_id: int | None
    major: int | None
    waiter: str = ""
    charges_user: bool = True
    callers: tuple[str, ...] = ()
    shared: bool = False
    brought_by: str = ""

    @property
    def charged_user(self) -> int | None:
        """User whose budget is charged, None for nobody's."""
        return self.user_id if self.charges_user else None

    @property
    def route_key(self) -> str:
        """Name under which the route's limit is stored: one for the bot's calls, one for all users' calls."""
        return f"{self.identity.partition(':')[0]} {self.route}"

    @property
    def token_owner(self) -> str:
        """Id of the user whose token the call carries, "" for the bot's, a hash for a token of nobody proven."""
        return self.identity.partition(":")[2]

    @property
    def is_proof(self) -> bool:
        """Whether the call carries a token that is not proven to be anybody's."""
        return self.identity.startswith(f"{PROOF}:")


@dataclasses.dataclass(frozen=True, slots=True)
class BudgetState:
    """
    One budget as it is now.

    Attributes:
        kind: global, user, route, invalid_requests, or identifies.
        key: A user id, or a route with token and guild; "" for the global budget and for all invalid requests; the
            caller's name for the refused tokens of one caller.
        window: In seconds.
        free: Permits that can be taken now.
        next_free_in: Seconds until one is free, 0 when one is free now.
        paused_for: Seconds for which nothing is granted, 0 when it is not paused.
        reason: Reason of the pause, "" when there is none: hold, pause, shared, edge, breaker, caller.
    """

    kind: str
    key: str
    capacity: int
    window: float
    free: int
    next_free_in: float = 0.0
    paused_for: float = 0.0
    reason: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class LimiterParameters:
    """
    Parameters of the algorithm, the same in Python and Lua; times in seconds.

    Attributes:
        lane_shares: Shares of the global budget, by lane, while all lanes want more than there is.
        max_in_flight: Longest time from a permit to the end of its call: the send deadline plus the call's timeout.
        warmup_hold: Time without any call after the state was lost.
        global_credit, user_credit: Shares of the shortest round trip; see the module's docstring.
        stop_bulk, stop_all: Invalid answers at which the background and refresh lanes stop, and at which all stop.
        stop_caller: Refused tokens of one caller at which the calls with the tokens that it brought stop.
        probe_retry: Wait while the first call of an unknown route is in flight: about a round trip.
        probe_window: Window assumed for an unknown route whose first answer is lost.
        unproven_max_wait: Longest wait for a bucket that guilds share only until separate buckets are proven.
        bulk_burst: Background and refresh calls that may go at once before they are paced.
        ramp: Time from half to full capacity after a pause of the whole token.
        foreign_decay: Time after which one permit reserved for foreign usage of the token is returned.
        raise_after: Consecutive answers that must agree before a learned limit is raised.
        round_trip_period, round_trip_samples: Least time and answers over which the shortest round trip is measured.
        max_window: Longest window that is accepted from headers.
        first_pause, max_pause: Pause after a 429 that names no wait; longest pause, also after many in a row.
        repeat_memory: Time after a pause in which one more 429 counts as repeated.
        strict_memory: Time for which the limit that a 429 has shown holds against headers of other buckets.
        strict_window: Longest window that is assumed because of repeated 429s alone.
        user_tokens_global: Whether calls with a user's own token take a permit of the global budget.
    """

    global_budget: settings.Rate
    user_budget: settings.Rate
    lane_shares: tuple[float, float, float]
    max_in_flight: float
    warmup_hold: float
    global_credit: float
    user_credit: float
    stop_bulk: int
    stop_all: int
    stop_caller: int
    egress: str = "default"
    probe_retry: float = 0.15
    probe_window: float = 5.0
    unproven_max_wait: float = 1.0
    bulk_burst: int = 3
    ramp: float = 5.0
    foreign_decay: float = 30.0
    raise_after: int = 50
    round_trip_period: float = 30.0
    round_trip_samples: int = 200
    max_window: float = bounds.MAX_WAIT
    first_pause: float = 1.0
    max_pause: float = bounds.MAX_WAIT
    repeat_memory: float = 600.0
    strict_memory: float = 3600.0
    strict_window: float = 15.0
    user_tokens_global: bool = True

    @classmethod
    def from_settings(cls, config: settings.LimiterSettings, call_timeout: float) -> Self:
        """Derive the parameters from the settings; *call_timeout* is the longest time of one call, in seconds."""
        max_in_flight = call_timeout + SEND_DEADLINE
        window = max(config.global_budget.window, config.user_budget.window)
        bulk = config.limiter_background_share, config.limiter_refresh_share
        return cls(
            global_budget=config.global_budget,
            user_budget=config.user_budget,
            lane_shares=(max(0.01, 1 - sum(bulk)), *bulk),
            max_in_flight=max_in_flight,
            warmup_hold=window + max_in_flight if config.limiter_hold is None else config.limiter_hold,
            global_credit=config.limiter_global_credit,
            user_credit=config.limiter_user_credit,
            stop_bulk=math.ceil(INVALID_REQUEST_LIMIT.capacity * config.limiter_stop_bulk),
            stop_all=math.ceil(INVALID_REQUEST_LIMIT.capacity * config.limiter_stop_all),
            stop_caller=math.ceil(INVALID_REQUEST_LIMIT.capacity * config.limiter_stop_all / CALLERS_TO_STOP_ALL),
            user_tokens_global=config.global_budget_user_tokens,
        )

    @property
    def longest_window(self) -> float:
        """Longest window of the budgets, for which the warm-up hold lasts by default; a route's may be longer."""
        return max(self.global_budget.window, self.user_budget.window)

    def charges_global(self, charge: Charge) -> bool:
        """Return whether *charge* takes a permit of the global budget; docs/decisions/0027 says why it might not."""
        return self.user_tokens_global or charge.token_owner == ""


class Keys:
    """Redis keys of one application; they share a hash tag, so that one script can access them all in a cluster."""

    def __init__(self, application: str) -> None:
        self.tag = f"{{dl:{application}}}:"

    def common(self, egress: str) -> list[str]:
        """Return the keys that every exchange names first, in the script's order."""
        names = (
            "m",
            "p:g",
            "w:1",
            "w:2",
            "w:3",
            "w:deadlines",
            "tags",
            "learned",
            f"egress:{egress}",
            "active",
            "repeats",
            "callers",
            "w:caller_deadlines",
        )
        return [self.tag + name for name in names]

    def user_ledger(self, user_id: int | None) -> str:
        """Return the key of a user's ledger; None has one that is never written."""
        return f"{self.tag}p:u:{'-' if user_id is None else user_id}"

    def route_ledger(self, charge: Charge, limit: route_limits.RouteLimit) -> str:
        """Return the key of the route ledger that a call under this *limit* is charged to."""
        if not limit.known:
            # One probe for the whole fleet: its answer teaches all processes.
            return f"{self.tag}p:r:?:{charge.route_key}"
        major = charge.major if limit.per_guild else None
        return self.bucket_ledger(charge, limit.bucket, major)

    def guild_ledger(self, charge: Charge, limit: route_limits.RouteLimit) -> str:
        """Return the key of the guild's own ledger, also kept while guilds share the bucket's ledger."""
        return (
            self.bucket_ledger(charge, limit.bucket, charge.major) if limit.known else self.route_ledger(charge, limit)
        )

    def bucket_ledger(self, charge: Charge, bucket: str, major: int | None) -> str:
        """Return the key of a bucket's ledger: one guild's, or with None the one of all guilds together."""
        name = bucket if bucket != route_limits.NO_HEADERS else f"-{charge.route}"
        return f"{self.tag}p:r:{charge.identity}:{name}:{'*' if major is None else major}"

    def queue(self, ledger: str) -> str:
        """Return the key of the queue of waiters for a permit of *ledger*."""
        return ledger.replace(self.tag + "p:", self.tag + "l:", 1)


IDENTIFY_DAY = 86_400.0
"""Seconds in which the Gateway's identifies are counted."""


def identifies_key(tag: str) -> str:
    """Return the key of the day's identifies, below the tag of `Keys`."""
    return f"{tag}identify:day"


def route_label(charge: Charge) -> str:
    """Return the name under which a route budget is listed while it is in use."""
    return f"{charge.route}|{charge.identity}|{'' if charge.major is None else charge.major}"


def is_route_label(repeated: str) -> bool:
    """Return whether an entry of the key `repeats` is a route's, not a token's or an address's."""
    return repeated.count("|") == 2  # noqa: PLR2004 -- as `route_label` writes it


def names_user(repeated: str, user_id: int) -> bool:
    """Return whether an entry of the key `repeats` carries the user's id."""
    return repeated == f"user {user_id}" or f"|user:{user_id}|" in repeated


def parse_route_label(label: str) -> Charge:
    """Return a charge to the route budget that *label* names."""
    route, identity, major = label.rsplit("|", 2)
    return Charge(model.Lane.REFRESH, route, identity, None, int(major) if major else None)


@dataclasses.dataclass(frozen=True, slots=True)
class Permit:
    """
    The right to make one call to Discord, once, within the send deadline.

    Attributes:
        taken_at: When it was requested, plus `delay`; on the limiter's monotonic clock.
        send_deadline: Seconds from then within which the call may be sent.
        charged_at_ms: When its budgets were charged, in milliseconds of the fleet's clock.
        limit: What was known of the route.
        held: Permits of the route's budget that were held when this one was taken, including this one.
        delay: Seconds from the store's decision until the permit is free; `Limiter.take` returns after them.
        shares_left: Free share of each budget after this permit, by kind; 0..1.
    """

    id: str
    charge: Charge
    taken_at: float
    send_deadline: float = SEND_DEADLINE
    charged_at_ms: int = 0
    limit: route_limits.RouteLimit = route_limits.UNKNOWN
    held: int = 1
    delay: float = 0.0
    shares_left: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def expired(self, now: float) -> bool:
        """Return whether it is too late to send at *now*, on the same monotonic clock; then give the permit back."""
        return now - self.taken_at > self.send_deadline


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """
    Discord's answer to a call that was sent.

    Attributes:
        status: None when no complete answer was read; the permit then stays held for its full time.
        headers: Names in lower case: x-ratelimit-*, retry-after.
        round_trip: Seconds from sending the call to having read the answer.
        body_retry_after: Seconds, from a 429's JSON.
        body_global: `global` of a 429's JSON.
        is_discord: False for a 403 or 429 without Discord's JSON: the edge in front of Discord blocks this address.
    """

    status: int | None
    headers: Mapping[str, str]
    round_trip: float
    body_retry_after: float | None = None
    body_global: bool = False
    is_discord: bool = True
