"""
Renews and revokes users' token pairs at Discord's token endpoint.

Requests are form fields, responses are JSON, and the application authenticates by HTTP Basic
(developers/topics/oauth2.mdx, read 2026-08-06). Each renewal returns a new refresh token and invalidates the used one
(discord-api-docs issue 5942, staff; the documents are silent), so a renewal is sent once and never retried here. An
invalid refresh token is 400 `invalid_grant`, whatever invalidated it
(developers/discord-social-sdk/development-guides/account-linking-with-discord.mdx:249, read 2026-08-06).

The endpoint's rate limits are not documented. Each call takes a permit of the global and the user's budget like any
other call: it stops when the address is paused, and its 401s count towards the invalid-request limit.
"""

import aiohttp
import msgspec

from indexing import errors, settings
from indexing.discord import client, routes
from indexing.domain import ports

INVALID_GRANT = "invalid_grant"
MAX_TOKEN_LENGTH = 2048
"""Characters of a token that are accepted, as in PutCredential."""
MAX_TOKEN_LIFETIME = 366 * 86_400.0
"""Longest accepted lifetime of a token, in seconds; Discord's tokens have a week (same page as above, :199)."""


class _TokenResponse(msgspec.Struct):
    access_token: str
    refresh_token: str
    expires_in: float
    scope: str = ""


class _ErrorResponse(msgspec.Struct):
    error: str = ""


class OAuth:
    """Discord's token endpoint as port `ports.OAuth`; permits, timeout and limits are the client's."""

    def __init__(self, discord: client.DiscordClient, config: settings.OAuthSettings) -> None:
        secret = config.client_secret.get_secret_value()
        self.enabled = bool(config.client_id and secret)
        self.max_call_time = discord.max_call_time
        self._discord = discord
        self._authorization = aiohttp.encode_basic_auth(config.client_id, secret)

    async def renew(self, credential: ports.Credential, purpose: ports.Purpose, now: float) -> ports.Credential:
        """Exchange the refresh token for a new pair. Raises what the port says."""
        form = {"grant_type": "refresh_token", "refresh_token": credential.refresh_token}
        response = await self._post(routes.oauth_token(), form, purpose)
        return _decode_credential(response.body, credential, now)

    async def revoke(self, credential: ports.Credential, purpose: ports.Purpose) -> None:
        """Revoke the grant that the pair belongs to. Raises what the port says."""
        form = {"token": credential.refresh_token or credential.access_token}
        await self._post(routes.oauth_revoke(), form, purpose)

    async def _post(self, route: routes.Route, form: dict[str, str], purpose: ports.Purpose) -> client.Response:
        response = await self._discord.send_once(client.Call(route, self._authorization, "client", purpose, form=form))
        if response.status != 200:  # noqa: PLR2004 -- HTTP OK
            raise _translate_error(response)
        return response


def _decode_credential(body: bytes, before: ports.Credential, now: float) -> ports.Credential:
    try:
        pair = msgspec.json.decode(body, type=_TokenResponse)
    except (ValueError, RecursionError):
        # Not chained: no part of a response with tokens may reach a log.
        raise errors.DiscordTransient("the token endpoint's response is not the expected JSON") from None
    tokens = pair.access_token, pair.refresh_token
    if not all(0 < len(token) <= MAX_TOKEN_LENGTH and token.isascii() and token.isprintable() for token in tokens):
        raise errors.DiscordTransient("the token endpoint's response has no usable tokens")
    lifetime = min(max(pair.expires_in, 0.0), MAX_TOKEN_LIFETIME)
    return ports.Credential(*tokens, now + lifetime, tuple(pair.scope.split()) or before.scopes)


def _translate_error(response: client.Response) -> errors.IndexerError:
    """Return the error for an OAuth2 error code (RFC 6749, section 5.2), or that of `client.translate_error`."""
    try:
        code = msgspec.json.decode(response.body, type=_ErrorResponse).error
    except (ValueError, RecursionError):
        code = ""
    if response.status == 400 and code == INVALID_GRANT:  # noqa: PLR2004 -- HTTP Bad Request
        return errors.GrantRefused(response.status, 0)
    if response.status == 401:  # noqa: PLR2004 -- HTTP Unauthorized: the header holds only the application's credentials
        return errors.ClientRefused(response.status, 0)
    return client.translate_error(response)
