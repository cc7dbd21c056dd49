"""
Discord's token endpoint: renews and revokes the pairs that users granted our application.

Form fields in, JSON out, the application by HTTP Basic (developers/topics/oauth2.mdx, read 2026-08-06). Each renewal
brings a new refresh token and kills the one that was used (discord-api-docs issue 5942, staff; the documents are
silent), so a call is made once and never repeated by itself. A dead refresh token is 400 `invalid_grant`, whatever
killed it (developers/discord-social-sdk/development-guides/account-linking-with-discord.mdx:249, read 2026-08-06).

Its rate limits are not documented. Each call takes a permit of the global and the user's budget like any other, so it
stops with them when the address is paused, and its 401s count towards the ban line.
"""

import aiohttp
import msgspec

from indexing import errors, settings
from indexing.discord import client, routes
from indexing.domain import ports

DEAD_GRANT = "invalid_grant"
LONGEST_TOKEN = 2048
"""Characters of a token that are believed, as in PutCredential."""
LONGEST_LIFE = 366 * 86_400.0
"""Seconds for which a token is believed to live; Discord's live a week (same page as above, :199)."""


class _Pair(msgspec.Struct):
    access_token: str
    refresh_token: str
    expires_in: float
    scope: str = ""


class _Problem(msgspec.Struct):
    error: str = ""


class OAuth:
    """Port `ports.OAuth`, over the client's permits, timeout and bounds."""

    def __init__(self, calls: client.DiscordClient, config: settings.OAuthSettings) -> None:
        secret = config.client_secret.get_secret_value()
        self.enabled = bool(config.client_id and secret)
        self.max_call_time = calls.longest
        self._calls = calls
        self._authorization = aiohttp.encode_basic_auth(config.client_id, secret)

    async def renew(self, credential: ports.Credential, purpose: ports.Purpose, now: float) -> ports.Credential:
        """Trade the refresh token for a new pair. Raises what the port says."""
        form = {"grant_type": "refresh_token", "refresh_token": credential.refresh_token}
        reply = await self._calls.attempt(self._call(routes.token(), form, purpose))
        if reply.status != 200:  # noqa: PLR2004 -- HTTP OK
            raise _failure(reply)
        return _pair(reply.body, credential, now)

    async def revoke(self, credential: ports.Credential, purpose: ports.Purpose) -> None:
        """End the grant of either token. Raises what the port says."""
        form = {"token": credential.refresh_token or credential.access_token}
        reply = await self._calls.attempt(self._call(routes.revoke(), form, purpose))
        if reply.status != 200:  # noqa: PLR2004 -- HTTP OK
            raise _failure(reply)

    def _call(self, route: routes.Route, form: dict[str, str], purpose: ports.Purpose) -> client.Call:
        return client.Call(route, self._authorization, "client", purpose, form=form)


def _pair(body: bytes, before: ports.Credential, now: float) -> ports.Credential:
    try:
        pair = msgspec.json.decode(body, type=_Pair)
    except (ValueError, RecursionError):
        # Not chained: nothing of an answer with tokens may reach a log.
        raise errors.DiscordTransient("the token endpoint's answer is not the JSON it should be") from None
    tokens = pair.access_token, pair.refresh_token
    if not all(0 < len(token) <= LONGEST_TOKEN and token.isascii() and token.isprintable() for token in tokens):
        raise errors.DiscordTransient("the token endpoint's answer has no tokens that could be used")
    life = min(max(pair.expires_in, 0.0), LONGEST_LIFE)
    return ports.Credential(*tokens, now + life, tuple(pair.scope.split()) or before.scopes)


def _failure(reply: client.Reply) -> errors.IndexerError:
    """Translate OAuth2's errors (RFC 6749, section 5.2); whatever is none of them is like any other answer."""
    try:
        problem = msgspec.json.decode(reply.body, type=_Problem).error
    except (ValueError, RecursionError):
        problem = ""
    if reply.status == 400 and problem == DEAD_GRANT:  # noqa: PLR2004 -- HTTP Bad Request
        return errors.GrantRefused(reply.status, 0)
    if reply.status == 401:  # noqa: PLR2004 -- HTTP Unauthorized: the only credentials in the header are ours
        return errors.ClientRefused(reply.status, 0)
    return client.failure(reply)
