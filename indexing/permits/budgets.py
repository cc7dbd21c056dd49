"""
What a call to Discord is charged to: which budgets, under which keys, how large, and where each number comes from.

| budget  | size            | shared by                        | source |
|---------|-----------------|----------------------------------|--------|
| global  | 50 per 1 s      | all processes of one bot token   | developers/topics/rate-limits.mdx:122 |
| user    | 5 per 5 s       | all calls made for one user      | the owner's figure; Discord documents none |
| route   | learned         | identity, bucket id, guild       | X-RateLimit-* headers of the answers |
| invalid | 10,000 / 10 min | everything behind one address    | developers/topics/rate-limits.mdx:130-140 |

The pages were read on 2026-08-06. All keys of one application share a hash tag, so that one script may touch them in
a Redis Cluster.
"""

import dataclasses

from indexing import model, settings

LANES = {model.Lane.INTERACTIVE: 1, model.Lane.BACKGROUND: 2, model.Lane.REFRESH: 3}
UNKNOWN = "?"
"""Bucket of a route that has not answered yet: one call at a time, whichever the guild."""
UNLIMITED = "-"
"""Bucket of a route whose answers carry no limit; a 429 still pauses it."""
INVALID_LINE = 10_000
"""401, 403 and 429 answers in 10 minutes after which Discord bans the address."""
SHARED_KEYS = ("m", "w", "w:dl", "ft", "learn", "inv", "p:g")


@dataclasses.dataclass(frozen=True, slots=True)
class Charge:
    """
    One call, as the budgets see it.

    Attributes:
        lane: How urgent it is.
        route: Template with its method, e.g. "GET /guilds/{guild.id}/channels".
        identity: "bot", or "user:<id>" for a call with the user's own token; route budgets belong to it.
        user: On whose behalf, whichever token is used; None for nobody's.
        major: Top-level guild that may split the route's bucket.
        waiter: Who waits: one place in the line for each; "" is a place for this call alone.
    """

    lane: model.Lane
    route: str
    identity: str
    user: int | None
    major: int | None
    waiter: str = ""

    @property
    def learned_as(self) -> str:
        """Name under which the route's limit is learned: by kind of identity, since users and bots differ."""
        return f"{self.identity.partition(':')[0]} {self.route}"


@dataclasses.dataclass(frozen=True, slots=True)
class Budget:
    """
    One budget of a charge.

    Attributes:
        kind: global, user or route.
        key: Name below the application's hash tag.
        rate: Size, None for a route: the script knows what is learned.
    """

    kind: str
    key: str
    rate: settings.Rate | None


def of_charge(charge: Charge, bucket: str, config: settings.LimiterSettings) -> list[Budget]:
    """Return the budgets of a call, the global one first; *bucket* is what is learned of its route."""
    found = [Budget("global", "p:g", config.global_budget)]
    if charge.user is not None:
        found.append(Budget("user", user_key(charge.user), config.user_budget))
    found.append(Budget("route", route_key(charge, bucket), None))
    return found


def route_key(charge: Charge, bucket: str) -> str:
    """Return the key of a route's budget under what is learned of its bucket."""
    if bucket == UNKNOWN:
        return f"p:r:{UNKNOWN}:{charge.learned_as}"
    return f"p:r:{charge.identity}:{charge.route if bucket == UNLIMITED else bucket}:{charge.major or ''}"


def user_key(user: int) -> str:
    """Return the key of a user's budget."""
    return f"p:u:{user}"


def full_key(application: str, key: str) -> str:
    """Return the key in Redis."""
    return f"{{dl:{application}}}:{key}"
