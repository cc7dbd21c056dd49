"""
Renews, revokes and describes users' token pairs at Discord's OAuth2 endpoints.

Requests are form fields, responses are JSON, and the application authenticates by HTTP Basic
(developers/topics/oauth2.mdx, read 2026-08-06). Each renewal returns a new refresh token and invalidates the used one
(discord-api-docs issue 5942, staff; the documents are silent), so a renewal is sent once and never retried here. An
invalid refresh token is 400 `invalid_grant`, whatever invalidated it
(developers/discord-social-sdk/development-guides/account-linking-with-discord.mdx:249, read 2026-08-06).

`GET /oauth2/@me` names the application, the scopes and the expiry of a token, and its user if the scope `identify` was
granted (same page, Get Current Authorization Information). A wrong token gets 401. Where that route does not exist, as
behind a proxy that knows some routes only, `GET /users/@me` names the user, and nothing is known of the application.

The endpoints' rate limits are not documented. Each call takes a permit of the global and the user's budget like any
other call: it stops when the address is paused, and its 401s count towards the invalid-request limit.
"""

import datetime
import hashlib
import re
from collections.abc import Callable, Iterator

import aiohttp
from typing_extensions import TypeIs

from indexing import errors, settings
from indexing.discord import bounds, client, http_errors, payloads, routes
from indexing.domain import ports
from indexing.ratelimit import limits
from indexing.telemetry import logs

GRANT_CODES = frozenset({"invalid_grant", "invalid_token", "expired_token", "invalid_refresh_token"})
"""Codes that concern the refresh token, the only token in the request; the first is RFC 6749's, others are seen."""
GRANT_TEXT = re.compile(rb"[^<]{0,200}\binvalid_grant\b[^<]{0,200}")
"""The same code as a short text that is no JSON object and no page."""
PASSING_CODES = frozenset({"server_error", "temporarily_unavailable"})
CLIENT_CODES = frozenset({"invalid_client", "unauthorized_client"})
OTHER_CODES = frozenset({*CLIENT_CODES, *PASSING_CODES, "unsupported_grant_type", "invalid_scope"})
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


NO_SUCH_ROUTE = frozenset({(404, 0), (405, 0)})
"""Statuses and codes of Discord's JSON for a route or method that it does not know."""


class OAuth:
    """Discord's OAuth2 endpoints as port `ports.OAuth`; permits, timeout and limits are the client's."""

    def __init__(self, discord: client.DiscordClient, config: settings.OAuthSettings) -> None:
        secret = config.client_secret.get_secret_value()
        self.enabled = bool(config.client_id and secret)
        self.max_call_time = discord.max_call_time
        self._discord = discord
        self._client_id = config.client_id
        self._authorization = aiohttp.encode_basic_auth(config.client_id, secret)
        self._met: set[str] = set()
        self._log = logs.get(__name__)

    async def renew(self, credential: ports.Credential, purpose: ports.Purpose, now: float) -> ports.Credential:
        """Exchange the refresh token for a new pair. Raises what the port says."""
        form = {"grant_type": "refresh_token", "refresh_token": credential.refresh_token}
        response = await self._post(routes.oauth_token(), form, purpose)
        return _decode_credential(response.body or b"", credential, now)

    async def revoke(self, credential: ports.Credential, purpose: ports.Purpose) -> None:
        """Revoke the grant that the pair belongs to. Raises what the port says."""
        form = {"token": credential.refresh_token or credential.access_token}
        await self._post(routes.oauth_revoke(), form, purpose)

    async def describe(self, credential: ports.Credential, purpose: ports.Purpose) -> ports.Authorization:
        """Return what Discord says about the access token. Raises what the port says."""
        try:
            response = await self._get(routes.oauth_authorization(), credential, purpose)
        except errors.CredentialUnverifiable as refusal:
            if (refusal.status, refusal.code) not in NO_SUCH_ROUTE:
                raise
        else:
            return _decode_authorization(response.body or b"", self._client_id)
        response = await self._get(routes.own_user(), credential, purpose)
        if self._is_first("no application"):
            self._log.warning("application_not_compared", route=routes.oauth_authorization().template)
        named = _user_id(payloads.decode_object(response.body or b""))
        return ports.Authorization(named, True, credential.scopes, credential.expires_at)  # noqa: FBT003 -- as unknown

    async def _get(
        self, route: routes.Route, credential: ports.Credential, purpose: ports.Purpose
    ) -> http_errors.Response:
        """Call a route that describes the token, with the token itself."""
        token = credential.access_token
        brought_by = credential.brought_by
        call = client.Call(route, f"Bearer {token}", proof_identity(token), purpose, brought_by=brought_by)
        try:
            return await self._send(call, _refusal)
        except errors.CredentialUnverifiable as refusal:
            falls_back = route != routes.own_user() and (refusal.status, refusal.code) in NO_SUCH_ROUTE
            if not falls_back and self._is_first("unverifiable"):
                self._log.warning("token_unverifiable", route=route.template, status=refusal.status, code=refusal.code)
            raise

    def _is_first(self, trouble: str) -> bool:
        """Return whether this process meets *trouble* for the first time, so that it is logged once."""
        is_first = trouble not in self._met
        self._met.add(trouble)
        return is_first

    async def _post(self, route: routes.Route, form: dict[str, str], purpose: ports.Purpose) -> http_errors.Response:
        call = client.Call(route, self._authorization, "client", purpose, form=form)
        return await self._send(call, _translate_error)

    async def _send(
        self, call: client.Call, translate: Callable[[http_errors.Response], errors.IndexerError | None]
    ) -> http_errors.Response:
        outage = self._discord.outage
        await outage.check(call.purpose)
        try:
            response = await self._discord.send_once(call)
            failure = translate(response)
            if failure is not None:
                raise failure
        except errors.DiscordTransient:
            await outage.note_failure(call.purpose)
            raise
        except errors.DiscordRefused:
            outage.note_answer()
            raise
        outage.note_answer()
        return response


def proof_identity(access_token: str) -> str:
    """
    Return the limiter's name of a token whose user is not proven.

    It is not the user's name: a caller who stores junk under a user's id must not pause that user's own calls.
    """
    return f"{limits.PROOF}:{hashlib.sha256(access_token.encode()).hexdigest()[:16]}"


def _refusal(response: http_errors.Response) -> errors.IndexerError | None:
    """Return the error for a response that does not describe a token, None for a success."""
    if response.status == 200:  # noqa: PLR2004 -- HTTP OK
        return None
    problem = http_errors.translate_error(response)
    if isinstance(problem, errors.DiscordRefused) and not isinstance(problem, errors.TokenRefused):
        return errors.CredentialUnverifiable(problem.status, problem.code)
    return problem


def _decode_authorization(body: payloads.Body, client_id: str) -> ports.Authorization:
    """Return the authorization; an answer without a readable application or scopes proves nothing."""
    fields = payloads.decode_object(body)
    application, scopes, user = fields.get("application"), fields.get("scopes"), fields.get("user")
    application_id = application.get("id") if isinstance(application, dict) else None
    if not isinstance(application_id, str) or not isinstance(scopes, list):
        raise errors.DiscordTransient("the response does not describe the token")
    return ports.Authorization(
        user_id=_user_id(user),
        ours=client_id in {"", application_id},
        scopes=tuple(scope for scope in scopes if isinstance(scope, str)),
        expires_at=_moment(fields.get("expires")),
    )


def _user_id(user: object) -> int | None:
    """Return the user's id, None when no user is named; a user that cannot be read proves nothing."""
    if user is None:
        return None
    named = user.get("id") if isinstance(user, dict) else None
    user_id = bounds.snowflake(named) if isinstance(named, str) else None
    if user_id is None:
        raise errors.DiscordTransient("the response names no readable user")
    return user_id


def _moment(value: object) -> float | None:
    """Return the epoch second of an ISO 8601 timestamp; None when it is none."""
    try:
        moment = datetime.datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    if moment is None:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()


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
        before.brought_by,
    )


def _is_token(value: object) -> TypeIs[str]:
    if not isinstance(value, str) or not 0 < len(value) <= bounds.MAX_TOKEN_LENGTH:
        return False
    return value.isascii() and value.isprintable()


def _translate_error(response: http_errors.Response) -> errors.IndexerError | None:
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
    named = code in GRANT_CODES or (not fields and GRANT_TEXT.fullmatch(response.body or b"") is not None)
    if named or (answered and code not in OTHER_CODES and _names_the_grant(text)):
        return errors.GrantRefused(response.status, 0)
    if code in PASSING_CODES or response.status < 400:  # noqa: PLR2004 -- HTTP
        return errors.DiscordTransient(f"the token endpoint answered an error with status {response.status}")
    if answered and (code in CLIENT_CODES or (response.status == 401 and (code or response.error is not None))):  # noqa: PLR2004 -- HTTP
        # The header holds only the application's credentials.
        return errors.ClientRefused(response.status, 0)
    if code and answered:
        return errors.DiscordRefused(response.status, 0)
    return http_errors.translate_error(response)


def _error_code(fields: dict[str, object]) -> str:
    error = fields.get("error")
    if isinstance(error, dict):
        error = next((error[name] for name in ("code", "type", "error") if isinstance(error.get(name), str)), "error")
    return re.sub("[ -]", "_", error.lower()) if isinstance(error, str) else ""


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
