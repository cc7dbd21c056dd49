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

import re
from collections.abc import Iterator

import aiohttp
from typing_extensions import TypeIs

from indexing import errors, settings
from indexing.discord import bounds, client, payloads, routes
from indexing.domain import ports

INVALID_GRANT = "invalid_grant"
CLIENT_CODES = frozenset({"invalid_client", "unauthorized_client"})
OTHER_CODES = frozenset(
    {*CLIENT_CODES, "unsupported_grant_type", "invalid_scope", "server_error", "temporarily_unavailable"}
)
"""OAuth2 error codes (RFC 6749, sections 4.1.2.1 and 5.2) that say nothing about the refresh token."""
NAMES_THE_GRANT = re.compile(
    r"""refresh[ _-]?token | invalid[ _]grant | \bgrant\b[^.]{0,40}\b(expired|revoked|invalid)
    | \b(expired|revoked|invalid|used|unknown)\s["']?token
    | (?<!authentication\s)(?<!access\s)(?<!client\s)(?<!bot\s)
      \btoken\b[^.]{0,40}\b(expired|revoked|used|invalid|valid)""",
    re.IGNORECASE | re.VERBOSE,
)
NOT_SENT = re.compile(r"\bmissing\b(?! or)|\b(is|are) required|unsupported", re.IGNORECASE)
"""A text about a refresh token that was not sent concerns the request, not the token."""


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
        return _decode_credential(response.body or b"", credential, now)

    async def revoke(self, credential: ports.Credential, purpose: ports.Purpose) -> None:
        """Revoke the grant that the pair belongs to. Raises what the port says."""
        form = {"token": credential.refresh_token or credential.access_token}
        await self._post(routes.oauth_revoke(), form, purpose)

    async def _post(self, route: routes.Route, form: dict[str, str], purpose: ports.Purpose) -> client.Response:
        call = client.Call(route, self._authorization, "client", purpose, form=form)
        outage = self._discord.outage
        await outage.check(purpose)
        try:
            response = await self._discord.send_once(call)
            failure = _translate_error(response)
            if failure is not None:
                raise failure
        except errors.DiscordTransient:
            await outage.note_failure(purpose)
            raise
        outage.note_answer()
        return response


def _decode_credential(body: payloads.Body, before: ports.Credential, now: float) -> ports.Credential:
    """Return the new pair. A good access token counts, whatever else is missing: the old refresh token stays then."""
    fields = payloads.decode_object(body)
    access, refresh, scope = fields.get("access_token"), fields.get("refresh_token"), fields.get("scope")
    if not _is_token(access):
        # No part of a response with tokens may reach a log.
        raise errors.DiscordTransient("the token endpoint's response has no usable access token")
    return ports.Credential(
        access,
        refresh if _is_token(refresh) else before.refresh_token,
        now + bounds.token_lifetime(fields.get("expires_in")),
        (tuple(scope.split()) if isinstance(scope, str) else ()) or before.scopes,
    )


def _is_token(value: object) -> TypeIs[str]:
    if not isinstance(value, str) or not 0 < len(value) <= bounds.MAX_TOKEN_LENGTH:
        return False
    return value.isascii() and value.isprintable()


def _translate_error(response: client.Response) -> errors.IndexerError | None:
    """
    Return the error for a response of the token endpoint, None for a success.

    OAuth2's codes are in RFC 6749, section 5.2. A used-up refresh token is worded in several ways, with several
    statuses; all of them mean that the user must log in again.
    """
    fields = payloads.decode_object(response.body or b"")
    code = _error_code(fields)
    if response.status == 200 and not code:  # noqa: PLR2004 -- HTTP OK
        return None
    text = " ".join(_texts(fields))
    answered = response.status != 429 and response.status < 500  # noqa: PLR2004 -- HTTP
    if code == INVALID_GRANT or (answered and code not in OTHER_CODES and _names_the_grant(text)):
        return errors.GrantRefused(response.status, 0)
    if response.status < 400:  # noqa: PLR2004 -- HTTP
        return errors.DiscordTransient(f"the token endpoint answered an error with status {response.status}")
    if answered and (code in CLIENT_CODES or (response.status == 401 and (code or response.error is not None))):  # noqa: PLR2004 -- HTTP
        # The header holds only the application's credentials.
        return errors.ClientRefused(response.status, 0)
    if code and answered:
        return errors.DiscordRefused(response.status, 0)
    return client.translate_error(response)


def _error_code(fields: dict[str, object]) -> str:
    error = fields.get("error")
    if isinstance(error, dict):
        error = next((error[name] for name in ("code", "type", "error") if isinstance(error.get(name), str)), "error")
    return error.lower() if isinstance(error, str) else ""


def _texts(value: object, depth: int = 6) -> Iterator[str]:
    """Yield all names and texts of an error, whatever its shape; Discord nests them five deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict) and depth:
        for name, inner in value.items():
            yield str(name)
            yield from _texts(inner, depth - 1)
    elif isinstance(value, list) and depth:
        for inner in value:
            yield from _texts(inner, depth - 1)


def _names_the_grant(text: str) -> bool:
    return bool(NAMES_THE_GRANT.search(text)) and not NOT_SENT.search(text)
