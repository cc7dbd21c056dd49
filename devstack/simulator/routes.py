"""
The simulated routes, their accepted tokens and their limits.

Discord publishes no route limits (developers/topics/rate-limits.mdx, read 2026-08-06). The limits here are our
guesses, so large that normally the global and the user budget decide.
"""

import hashlib
import re
from typing import Final, NamedTuple

from devstack.simulator import models, replies

PREFIX: Final = "/api/v10"

USER = "GET /users/@me"
AUTHORIZATION = "GET /oauth2/@me"
USER_GUILDS = "GET /users/@me/guilds"
OWN_MEMBER = "GET /users/@me/guilds/{guild.id}/member"
GUILD_CHANNELS = "GET /guilds/{guild.id}/channels"
GUILD_MEMBER = "GET /guilds/{guild.id}/members/{user.id}"
TOKEN = "POST /oauth2/token"
REVOKE = "POST /oauth2/token/revoke"
GATEWAY = "GET /gateway/bot"
UNKNOWN = "unknown"


class Route(NamedTuple):
    """
    One method and path.

    Attributes:
        per_guild: Whether each guild in the path has its own bucket.
        scope: Scope that a user's token needs: None accepts no user's token, "" accepts each.
    """

    name: str
    pattern: re.Pattern[str]
    bucket: str
    limit: models.Limit
    per_guild: bool = False
    bot: bool = True
    scope: str | None = None
    oauth: bool = False


class Match(NamedTuple):
    """A route and the ids in its path; 0 where there is none."""

    route: Route
    guild_id: int = 0
    user_id: int = 0


def _route(name: str, capacity: int, window: float, **more: bool | str) -> Route:
    method, path = name.split(" ")
    expression = path.replace("{guild.id}", r"(?P<guild>[^/]+)").replace("{user.id}", r"(?P<user>[^/]+)")
    digest = hashlib.blake2s(name.encode(), digest_size=16).hexdigest()
    pattern = re.compile(f"{method} {expression}")
    return Route(name, pattern, digest, models.Limit(capacity, window), **more)  # type: ignore[arg-type]  # by keyword


# Accepted tokens: the `security` lists of discord-api-spec (2026-07-18), and the documentation where it says more.
ROUTES: Final = {
    route.name: route
    for route in (
        _route(USER, 30, 30.0, scope="identify"),
        _route(AUTHORIZATION, 30, 30.0, bot=False, scope=""),
        _route(USER_GUILDS, 10, 10.0, scope="guilds"),
        _route(OWN_MEMBER, 10, 10.0, bot=False, scope="guilds.members.read"),
        _route(GUILD_CHANNELS, 10, 10.0, per_guild=True),
        _route(GUILD_MEMBER, 20, 10.0, per_guild=True),
        _route(GATEWAY, 2, 5.0),
        _route(TOKEN, 50, 1.0, bot=False, oauth=True),
        _route(REVOKE, 50, 1.0, bot=False, oauth=True),
    )
}


def match_route(method: str, path: str) -> Match:
    """
    Find the route of a request.

    Raises:
        replies.Refused: No such route (404), another method (405), or an id that is no snowflake (50035).
    """
    # The documented token URL has no version in its path (developers/topics/oauth2.mdx, read 2026-08-06).
    short = path.removeprefix(PREFIX) if path.startswith(PREFIX) else path.removeprefix("/api")
    if path.startswith(PREFIX) or short.startswith("/oauth2/"):
        for route in ROUTES.values():
            found = route.pattern.fullmatch(f"{method} {short}")
            if found is not None:
                ids = found.groupdict()
                return Match(route, _snowflake(ids, "guild"), _snowflake(ids, "user"))
        if any(route.pattern.fullmatch(f"{other} {short}") for other in ("GET", "POST") for route in ROUTES.values()):
            raise replies.Refused(replies.error_reply(405, 0, "405: Method Not Allowed"))
    raise replies.Refused(replies.error_reply(404, 0, "404: Not Found"))


def _snowflake(ids: dict[str, str], name: str) -> int:
    text = ids.get(name)
    if text is None:
        return 0
    if not text.isascii() or not text.isdecimal() or len(text) > 20:
        message = f'Value "{text[:40]}" is not snowflake.'
        raise replies.Refused(replies.invalid_form_body(f"{name}_id", "NUMBER_TYPE_COERCE", message))
    return int(text)
