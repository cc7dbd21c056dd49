"""
The token endpoint: refreshes and revokes tokens.

Bodies are forms, and the client authenticates by HTTP Basic or in the form (developers/topics/oauth2.mdx, read
2026-08-06). An invalid refresh token is always answered 400 `invalid_grant`
(developers/discord-social-sdk/development-guides/account-linking-with-discord.mdx, read 2026-08-06).
"""

from collections.abc import Callable, Mapping

from devstack.simulator import calls, replies, routes, tokens

FORM = "application/x-www-form-urlencoded"


class OAuth:
    """Handles the two token routes."""

    def __init__(self, issued: tokens.Tokens) -> None:
        self._tokens = issued
        self.handlers: Mapping[str, Callable[[calls.Call], replies.Reply]] = {
            routes.TOKEN: self.token,
            routes.REVOKE: self.revoke,
        }

    def token(self, call: calls.Call) -> replies.Reply:
        """`POST /oauth2/token` with `grant_type=refresh_token`."""
        form = self._form(call)
        if form.get("grant_type") != "refresh_token":
            return replies.oauth_error(400, "unsupported_grant_type", "Grant type None is not supported")
        if not form.get("refresh_token"):
            return replies.oauth_error(400, "invalid_request", 'Missing "refresh_token" in request.')
        pair = self._tokens.refresh(form["refresh_token"])
        if pair is None:
            return replies.oauth_error(400, "invalid_grant", 'Invalid "refresh_token" in request.')
        return replies.json_reply(
            {
                "token_type": "Bearer",
                "access_token": pair.access,
                "expires_in": int(self._tokens.lifetime),
                "refresh_token": pair.refresh,
                "scope": " ".join(sorted(pair.scopes)),
            }
        )

    def revoke(self, call: calls.Call) -> replies.Reply:
        """`POST /oauth2/token/revoke`: revoke the grant of a token."""
        form = self._form(call)
        if not form.get("token"):
            return replies.oauth_error(400, "invalid_request", 'Missing "token" in request.')
        self._tokens.revoke_token(form["token"])
        return replies.json_reply({})

    def _form(self, call: calls.Call) -> dict[str, str]:
        if call.headers.get("Content-Type", "").partition(";")[0].strip().lower() != FORM:
            raise replies.Refused(replies.oauth_error(400, "invalid_request", f"Content-Type must be {FORM}"))
        form = call.form()
        by_header = call.identity is not None and call.identity.kind == "basic"
        if not by_header and not self._tokens.is_client(form.get("client_id", ""), form.get("client_secret", "")):
            raise replies.Refused(replies.oauth_error(401, "invalid_client", "Client authentication failed"))
        return form
