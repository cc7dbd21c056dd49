"""One API call."""

import dataclasses
import urllib.parse
from collections.abc import Mapping

from devstack.simulator import routes, tokens


@dataclasses.dataclass(slots=True)
class Call:
    """A request, with the route and the identity once they are resolved."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""
    origin: str = "127.0.0.1"
    match: routes.Match | None = None
    identity: tokens.Identity | None = None

    @property
    def route(self) -> str:
        """The name of the route, or UNKNOWN."""
        return routes.UNKNOWN if self.match is None else self.match.route.name

    @property
    def guild_id(self) -> int:
        """The guild id in the path; 0 if there is none."""
        return 0 if self.match is None else self.match.guild_id

    @property
    def user_id(self) -> int:
        """The user id in the path or of the token; 0 if there is none."""
        in_path = 0 if self.match is None else self.match.user_id
        return in_path or (0 if self.identity is None else self.identity.user_id)

    def form(self) -> dict[str, str]:
        """Parse the body as a form; the last value of a key wins."""
        return dict(urllib.parse.parse_qsl(self.body.decode(errors="replace")))
