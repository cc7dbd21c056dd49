"""
Fault injection: rules select calls, the kind of failure, and its frequency.

Rules are tried in the order in which they were added; the first that fires decides the reply. A failed call is always
charged to the limits, because a client cannot know whether Discord counted it. Only an `outage` comes before the
limits.
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
    "replace": None,
}
"""Rule kinds that break the connection or change the body of the real response, and the connection fault."""


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One fault rule; an omitted condition matches every call."""

    kind: Literal["status", "rate_limit", "reset", "cut", "truncate", "hang", "html", "outage", "raw", "replace"]
    """`status`: Discord's JSON error. `rate_limit`: 429. `reset`: connection reset. `cut`: connection closed in the
    middle of the real response. `truncate`: half of the real response's JSON. `hang`: no response for `seconds`.
    `html`: a page of the edge. `outage`: every call fails with `status` for `seconds` after the rule was added.
    `raw`: `status`, `headers` and `body`. `replace`: the real response with each `find` in its body replaced by
    `body`."""

    route: str | None = None
    """A name of routes.ROUTES, such as `GET /guilds/{guild.id}/channels`."""

    guild: Snowflake | None = None
    user: Snowflake | None = None
    """The user of the token or in the path."""

    token: Literal["bot", "bearer", "basic", "none"] | None = None
    times: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """How often the rule fires; None means always."""

    after: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Matching calls that pass before the rule first fires."""

    probability: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    status: Annotated[int, msgspec.Meta(ge=200, le=599)] = 503
    code: Annotated[int, msgspec.Meta(ge=0, le=999_999)] = 0
    message: Annotated[str, msgspec.Meta(max_length=200)] = ""
    scope: Literal["user", "global", "shared"] = "user"
    retry_after: Seconds = 1.0
    seconds: Seconds = 30.0
    headers: dict[str, str] = {}
    body: str = ""
    find: Annotated[str, msgspec.Meta(min_length=1)] = '"'

    def __post_init__(self) -> None:
        if self.kind != "raw" and self.status < 400:
            raise ValueError("status must be at least 400, except of kind raw")
        if self.route is not None and self.route not in routes.ROUTES:
            raise ValueError(f"route must be one of: {', '.join(routes.ROUTES)}")

    def matches(self, call: calls.Call) -> bool:
        """Return whether the rule's conditions match the call."""
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
    """The active rules, in the order in which they were added."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(f"{seed}/faults")
        self._active: list[_ActiveRule] = []

    def add(self, rules: Sequence[Rule], now: float) -> None:
        """Append rules."""
        self._active += [_ActiveRule(rule, now) for rule in rules]

    def clear(self) -> None:
        """Remove all rules."""
        self._active.clear()

    def outage(self, call: calls.Call, now: float) -> Rule | None:
        """Return an outage that is in effect at *now* for this call, or None."""
        for active in self._active:
            lasts = active.rule.kind == "outage" and now < active.posted + active.rule.seconds
            if lasts and active.rule.matches(call) and active.fires(self._rng):
                return active.rule
        return None

    def next_fault(self, call: calls.Call) -> Rule | None:
        """Return the first rule other than an outage that fires for this call, or None."""
        for active in self._active:
            if active.rule.kind != "outage" and active.rule.matches(call) and active.fires(self._rng):
                return active.rule
        return None

    def document(self) -> list[dict[str, object]]:
        """Return the active rules with their numbers of matches and fires."""
        return [{"rule": active.rule, "matched": active.matched, "served": active.served} for active in self._active]


def parse(body: bytes) -> list[Rule]:
    """
    Parse one rule or a list of rules.

    Raises:
        msgspec.ValidationError: A rule is invalid; the text names the field.
        msgspec.DecodeError: The body is not JSON.
    """
    if body.lstrip()[:1] == b"{":
        return [msgspec.json.decode(body, type=Rule)]
    return msgspec.json.decode(body, type=list[Rule])


def fault_reply(rule: Rule) -> replies.Reply:
    """Return the reply of a rule that replaces the real response."""
    if rule.kind == "status":
        return replies.error_reply(rule.status, rule.code, rule.message or f"{rule.status}: injected fault")
    if rule.kind == "rate_limit":
        return replies.rate_limited(rule.scope, rule.retry_after, code=rule.code)
    if rule.kind == "raw":
        return replies.Reply(rule.status, rule.body.encode(), headers=dict(rule.headers))
    return replies.edge_page(rule.status)


def broken_reply(rule: Rule, right: replies.Reply) -> replies.Reply:
    """Return the real response with a broken body or connection."""
    if rule.kind == "truncate":
        right.body = right.body[: max(len(right.body) // 2, 1)]
    elif rule.kind == "replace":
        right.body = right.body.replace(rule.find.encode(), rule.body.encode())
    else:
        right.connection_fault = CONNECTION_FAULTS[rule.kind]
        right.seconds = rule.seconds
    return right
