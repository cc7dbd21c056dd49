"""
Identities of callers (bot, user or client) and the validity of tokens.

Tokens are predictable: a user's first access token is `sim-user-<id>`, the one after the n-th refresh
`sim-user-<id>-<n>`; refresh tokens are `sim-refresh-<id>-<n>`, with n from 0. A refresh invalidates the used refresh
token (discord-api-docs issue 5942, staff). The previous access token stays valid until it expires, which the
documentation leaves open. `sim-foreign-<id>` is a token of the user that another application holds.
"""

import base64
import binascii
import dataclasses
from typing import Literal, NamedTuple

from devstack.simulator import clock

Kind = Literal["bot", "bearer", "basic", "none"]

ALL_SCOPES = frozenset({"identify", "guilds", "guilds.members.read"})

OTHER_APPLICATION = "other-client"
"""Id of the application that holds the tokens `sim-foreign-<id>`."""

LIVE_GENERATIONS = 2
"""Number of access tokens of a user that may be valid at once: the newest and the previous one."""


class Identity(NamedTuple):
    """The identity of a caller; the other fields are set if `kind` is bearer. `expires` is in monotonic seconds."""

    kind: Kind
    user_id: int = 0
    scopes: frozenset[str] = frozenset()
    application: str = ""
    expires: float = 0.0


class TokenPair(NamedTuple):
    """The tokens of a grant."""

    access: str
    refresh: str
    scopes: frozenset[str]


@dataclasses.dataclass(slots=True)
class _Grant:
    generation: int
    expires: dict[int, float]
    revoked: bool = False
    scopes: frozenset[str] = ALL_SCOPES


class Tokens:
    """All credentials; a user's grant is created at its first use."""

    def __init__(
        self, known: frozenset[int], bot_token: str, client: tuple[str, str], time_source: clock.Clock
    ) -> None:
        self._known = known
        self._bot = f"Bot {bot_token}"
        self._client = client
        self._clock = time_source
        self._grants: dict[int, _Grant] = {}
        self.lifetime = 604_800.0

    def identify(self, authorization: str | None) -> Identity | None:
        """Return the identity of an Authorization header, or None if it is invalid."""
        if authorization is None:
            return Identity("none")
        if authorization == self._bot:
            return Identity("bot")
        scheme, _, value = authorization.partition(" ")
        if scheme == "Basic":
            return Identity("basic") if _basic(value) == self._client else None
        return self._bearer(value) if scheme == "Bearer" else None

    def is_bot(self, token: str) -> bool:
        """Return whether this is the bot's token, as the Gateway gets it: with or without the word Bot."""
        return self._bot in {token, f"Bot {token}"}

    def change_bot(self, token: str) -> None:
        """Replace the bot's token."""
        self._bot = f"Bot {token}"

    def is_client(self, client_id: str, secret: str) -> bool:
        """Return whether these are the application's id and secret."""
        return (client_id, secret) == self._client

    def newest_pair(self, user_id: int) -> TokenPair:
        """Return a user's newest token pair, valid or not."""
        grant = self._grant(user_id)
        suffix = f"-{grant.generation}" if grant.generation else ""
        return TokenPair(f"sim-user-{user_id}{suffix}", f"sim-refresh-{user_id}-{grant.generation}", grant.scopes)

    def refresh(self, refresh_token: str) -> TokenPair | None:
        """Return a new pair for a refresh token, or None if it is invalid."""
        parsed = self._parse(refresh_token, "sim-refresh-")
        if parsed is None:
            return None
        user_id, generation = parsed
        grant = self._grant(user_id)
        if grant.revoked or generation != grant.generation or refresh_token != self.newest_pair(user_id).refresh:
            return None
        return self._renew(user_id, grant)

    def expire(self, user_id: int) -> None:
        """Expire a user's access tokens now; the refresh token stays valid."""
        self._grant(user_id).expires.clear()

    def revoke(self, user_id: int) -> None:
        """Revoke a user's grant with all its tokens (developers/topics/oauth2.mdx, read 2026-08-06)."""
        grant = self._grant(user_id)
        grant.revoked = True
        grant.expires.clear()

    def revoke_token(self, token: str) -> None:
        """Revoke the grant that a token belongs to; unknown tokens are ignored (RFC 7009, section 2.2)."""
        parsed = self._parse(token, "sim-refresh-") or self._parse(token, "sim-user-")
        if parsed is not None:
            self.revoke(parsed[0])

    def consent(self, user_id: int, scopes: frozenset[str]) -> TokenPair:
        """Grant consent again, to *scopes*; returns the new pair."""
        grant = self._grant(user_id)
        grant.revoked = False
        grant.scopes = scopes
        return self._renew(user_id, grant)

    def _renew(self, user_id: int, grant: _Grant) -> TokenPair:
        grant.generation += 1
        grant.expires[grant.generation] = self._clock.monotonic() + self.lifetime
        while len(grant.expires) > LIVE_GENERATIONS:
            del grant.expires[min(grant.expires)]
        return self.newest_pair(user_id)

    def _grant(self, user_id: int) -> _Grant:
        grant = self._grants.get(user_id)
        if grant is None:
            grant = self._grants[user_id] = _Grant(0, {0: self.lifetime})
        return grant

    def _bearer(self, token: str) -> Identity | None:
        foreign = self._parse(token, "sim-foreign-")
        if foreign is not None:
            return Identity("bearer", foreign[0], ALL_SCOPES, OTHER_APPLICATION, self.lifetime)
        parsed = self._parse(token, "sim-user-")
        if parsed is None:
            return None
        user_id, generation = parsed
        grant = self._grant(user_id)
        expires = grant.expires.get(generation, 0.0)
        if expires <= self._clock.monotonic():
            return None
        return Identity("bearer", user_id, grant.scopes, self._client[0], expires)

    def _parse(self, token: str, prefix: str) -> tuple[int, int] | None:
        user, _, generation = token.removeprefix(prefix).partition("-")
        if not token.startswith(prefix) or not user.isdecimal() or int(user) not in self._known:
            return None
        if generation and not generation.isdecimal():
            return None
        return int(user), int(generation or 0)


def _basic(value: str) -> tuple[str, str] | None:
    try:
        client_id, _, secret = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return client_id, secret
