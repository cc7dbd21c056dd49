"""
Faults on demand: rules say which calls go wrong, how, and how often.

Rules are tried in the order in which they were posted; the first that strikes answers the call. A fault is served
after the limits were charged: a client cannot know whether a broken call was counted, so here it always was. Only
`outage` strikes in front of everything else.
"""

import dataclasses
import random
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec

from devstack.simulator import calls, replies, routes

Snowflake = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,20}$")]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=3600)]


CONNECTION_FAULTS: Mapping[str, replies.ConnectionFault | None] = {
    "reset": "reset",
    "cut": "cut",
    "hang": "hang",
    "truncate": None,
}
"""Kinds of rules that spoil the right answer, and what happens to its connection."""


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One rule; a condition that is left out holds for every call."""

    kind: Literal["status", "rate_limit", "reset", "cut", "truncate", "hang", "html", "outage"]
    """`status` Discord's JSON error · `rate_limit` 429 · `reset` connection reset · `cut` connection closed in the
    middle of the right answer · `truncate` the right answer with half its JSON · `hang` no answer for `seconds` ·
    `html` a page of the edge · `outage` everything fails with `status` for `seconds`, counted from the post."""

    route: str | None = None
    """A name of routes.ROUTES, such as `GET /guilds/{guild.id}/channels`."""

    guild: Snowflake | None = None
    user: Snowflake | None = None
    """The user behind the token or in the path."""

    token: Literal["bot", "bearer", "basic", "none"] | None = None
    times: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """How often the rule strikes; None means without end."""

    after: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Matching calls that pass before the rule first strikes."""

    probability: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    status: Annotated[int, msgspec.Meta(ge=400, le=599)] = 503
    code: Annotated[int, msgspec.Meta(ge=0, le=999_999)] = 0
    message: Annotated[str, msgspec.Meta(max_length=200)] = ""
    scope: Literal["user", "global", "shared"] = "user"
    retry_after: Seconds = 1.0
    seconds: Seconds = 30.0

    def __post_init__(self) -> None:
        if self.route is not None and self.route not in routes.ROUTES:
            raise ValueError(f"route must be one of: {', '.join(routes.ROUTES)}")

    def matches(self, call: calls.Call) -> bool:
        """Tell whether the rule speaks of this call."""
        kind = None if call.identity is None else call.identity.kind
        return (
            self.route in {None, call.route}
            and self.guild in {None, str(call.guild_id)}
            and self.user in {None, str(call.user_id)}
            and self.token in {None, kind}
        )


@dataclasses.dataclass(slots=True)
class _ActiveRule:
    rule: Rule
    posted: float
    matched: int = 0
    served: int = 0

    def fires(self, rng: random.Random) -> bool:
        self.matched += 1
        spent = self.rule.times is not None and self.served >= self.rule.times
        if spent or self.matched <= self.rule.after or rng.random() >= self.rule.probability:
            return False
        self.served += 1
        return True


class Faults:
    """The rules in force, in the order of their posting."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(f"{seed}/faults")
        self._active: list[_ActiveRule] = []

    def add(self, rules: Sequence[Rule], now: float) -> None:
        """Put rules into force, after those that already are."""
        self._active += [_ActiveRule(rule, now) for rule in rules]

    def clear(self) -> None:
        """Let everything work again."""
        self._active.clear()

    def outage(self, call: calls.Call, now: float) -> Rule | None:
        """Find an outage that lasts at *now* and hits this call."""
        for active in self._active:
            lasts = active.rule.kind == "outage" and now < active.posted + active.rule.seconds
            if lasts and active.rule.matches(call) and active.fires(self._rng):
                return active.rule
        return None

    def next_fault(self, call: calls.Call) -> Rule | None:
        """Find the rule that breaks this call, if one does."""
        for active in self._active:
            if active.rule.kind != "outage" and active.rule.matches(call) and active.fires(self._rng):
                return active.rule
        return None

    def document(self) -> list[dict[str, object]]:
        """Show the rules in force with how often each matched and struck."""
        return [{"rule": active.rule, "matched": active.matched, "served": active.served} for active in self._active]


def parse(body: bytes) -> list[Rule]:
    """
    Read one rule or a list of rules.

    Raises:
        msgspec.ValidationError: A rule says something that it cannot; the text tells where.
        msgspec.DecodeError: It is not JSON.
    """
    if body.lstrip()[:1] == b"{":
        return [msgspec.json.decode(body, type=Rule)]
    return msgspec.json.decode(body, type=list[Rule])


def fault_reply(rule: Rule) -> replies.Reply:
    """Make the answer of a rule that does not need the right one."""
    if rule.kind == "status":
        return replies.error_reply(rule.status, rule.code, rule.message or f"{rule.status}: by demand")
    if rule.kind == "rate_limit":
        return replies.rate_limited(rule.scope, rule.retry_after, code=rule.code)
    return replies.edge_page(rule.status)


def broken_reply(rule: Rule, right: replies.Reply) -> replies.Reply:
    """Break the right answer, or the connection that would carry it."""
    if rule.kind == "truncate":
        right.body = right.body[: max(len(right.body) // 2, 1)]
    else:
        right.connection_fault = CONNECTION_FAULTS[rule.kind]
        right.seconds = rule.seconds
    return right
