"""The token endpoint over HTTP: a form is sent under a permit; the response is bounded and translated."""

import base64
import urllib.parse

import pytest

from indexing import errors
from indexing.discord import bounds
from indexing.domain import ports
from tests import values
from tests.unit.discord import conftest, wire

NOW = 1_700_000_000.0
PAIR = {
    "token_type": "Bearer",
    "access_token": "new-access",
    "expires_in": 604800,
    "refresh_token": "new-refresh",
    "scope": "guilds identify",
}
"""A documented response (developers/topics/oauth2.mdx, Refresh Token Exchange, read 2026-08-06)."""


async def test_renew_returns_a_new_pair_when_the_refresh_token_is_valid(bench: conftest.Bench) -> None:
    """The application authenticates by Basic, the token is a form field, and the response has the pair's lifetime."""
    bench.server.answer(wire.reply(200, PAIR))

    pair = await bench.oauth.renew(values.credential(), conftest.PURPOSE, NOW)

    (request,) = bench.server.requests
    assert (pair.access_token, pair.refresh_token) == ("new-access", "new-refresh")
    assert (pair.expires_at, pair.scopes) == (NOW + 604800, ("guilds", "identify"))
    assert request.path == "/api/v10/oauth2/token"
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert dict(urllib.parse.parse_qsl(request.body.decode())) == {
        "grant_type": "refresh_token",
        "refresh_token": "refresh",
    }
    named = base64.b64decode(request.headers["authorization"].removeprefix("Basic ")).decode()
    assert named == f"the-client:{conftest.CLIENT_SECRET}"
    (charge,) = bench.permits.charges
    assert (charge.route, charge.identity, charge.user_id) == ("POST /oauth2/token", "client", values.USER)
    assert bench.permits.balanced


async def test_revoke_sends_the_refresh_token_when_there_is_one(bench: conftest.Bench) -> None:
    """It revokes every token of the grant; without a refresh token, the access token is sent."""
    await bench.oauth.revoke(values.credential(), conftest.PURPOSE)
    await bench.oauth.revoke(values.credential(refresh_token=""), conftest.PURPOSE)

    assert [(each.path, each.body) for each in bench.server.requests] == [
        ("/api/v10/oauth2/token/revoke", b"token=refresh"),
        ("/api/v10/oauth2/token/revoke", b"token=access"),
    ]


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        pytest.param(wire.reply(400, {"error": "invalid_grant"}), errors.GrantRefused, id="dead grant"),
        pytest.param(wire.reply(401, {"error": "invalid_client"}), errors.ClientRefused, id="client secret"),
        pytest.param(wire.reply(400, {"error": "invalid_request"}), errors.DiscordRefused, id="invalid request"),
        pytest.param(wire.reply(400, b"<html>"), errors.DiscordTransient, id="400 without JSON"),
        pytest.param(wire.reply(401, b"<html>"), errors.DiscordTransient, id="401 without JSON"),
        pytest.param(wire.reply(401, {"message": "401: Unauthorized", "code": 0}), errors.ClientRefused, id="401"),
        pytest.param(wire.reply(403, b"<html>"), errors.EgressBlocked, id="the edge"),
        pytest.param(
            wire.reply(429, {"message": "slow", "retry_after": 3.0, "global": False}), errors.RateLimited, id="429"
        ),
        pytest.param(wire.reply(503, b""), errors.DiscordTransient, id="503"),
        pytest.param(wire.reply(200, b"[" * 50_000), errors.DiscordTransient, id="deep"),
        pytest.param(wire.reply(200, b" " * 70_000), errors.DiscordTransient, id="long"),
        pytest.param(wire.reply(200, {**PAIR, "access_token": ""}), errors.DiscordTransient, id="no token"),
        pytest.param(wire.reply(200, {**PAIR, "access_token": "a\r\nb"}), errors.DiscordTransient, id="control"),
        pytest.param(wire.reply(200, {**PAIR, "access_token": "x" * 2049}), errors.DiscordTransient, id="long token"),
        pytest.param(wire.reply(200, {"refresh_token": "new-refresh"}), errors.DiscordTransient, id="half a pair"),
        pytest.param(wire.reply(200, [PAIR]), errors.DiscordTransient, id="a list"),
        pytest.param(wire.DROP, errors.DiscordTransient, id="lost"),
        pytest.param(wire.HANG, errors.DiscordTransient, id="slow"),
    ],
)
async def test_renew_is_not_retried_when_it_fails(
    bench: conftest.Bench, answer: bytes, problem: type[errors.IndexerError]
) -> None:
    """Every failure is an IndexerError, shows no token, and costs one request."""
    bench.server.answer(answer)

    with pytest.raises(errors.IndexerError) as failed:
        await bench.oauth.renew(values.credential(), conftest.PURPOSE, NOW)

    assert type(failed.value) is problem
    assert len(bench.server.requests) == 1
    assert bench.permits.balanced
    assert "new-" not in repr(failed.value) + repr(failed.value.__cause__)


async def test_nothing_is_sent_when_the_limiter_refuses(bench: conftest.Bench) -> None:
    """A pause of the address applies to the token endpoint like to every route."""
    bench.permits.refusal = errors.RateLimited("egress", retry_after=60.0, why="breaker")

    with pytest.raises(errors.RateLimited):
        await bench.oauth.renew(values.credential(), conftest.PURPOSE, NOW)

    assert bench.server.requests == []


WEEK = bounds.DEFAULT_TOKEN_LIFETIME


@pytest.mark.parametrize(
    ("expires_in", "lifetime"),
    [
        *[(3_600, 3_600.0), (604_800.5, 604_800.5), ("86400", 86_400.0), (1e12, 366 * 86_400.0)],
        *[(300, bounds.MIN_TOKEN_LIFETIME), (0, WEEK), (-5, WEEK), (None, WEEK), ("soon", WEEK), ("nan", WEEK)],
        *[([], WEEK), (True, WEEK), (10**40, 366 * 86_400.0)],
    ],
)
async def test_lifetime_is_bounded_when_discords_is_absurd(
    bench: conftest.Bench, expires_in: object, lifetime: float
) -> None:
    """At most a year, and long enough that not every turn renews; scopes that are omitted stay as they were."""
    bench.server.answer(wire.reply(200, {**PAIR, "expires_in": expires_in, "scope": ""}))

    pair = await bench.oauth.renew(values.credential(), conftest.PURPOSE, NOW)

    assert (pair.expires_at, pair.scopes) == (NOW + lifetime, values.credential().scopes)


@pytest.mark.parametrize("refresh", [None, "", 7, "x" * 2049, "a\r\nb", ["new"]], ids=repr)
async def test_the_old_refresh_token_is_kept_when_no_new_one_arrives(bench: conftest.Bench, refresh: object) -> None:
    """The access token is good, and is used; everything else may be missing."""
    bench.server.answer(
        wire.reply(200, {"access_token": "new-access", "refresh_token": refresh}),
        wire.reply(200, {"access_token": "new-access"}),
    )

    for _ in range(2):
        pair = await bench.oauth.renew(values.credential(), conftest.PURPOSE, NOW)

        assert (pair.access_token, pair.refresh_token) == ("new-access", "refresh")
        assert (pair.expires_at, pair.scopes) == (NOW + WEEK, values.credential().scopes)


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 422])
@pytest.mark.parametrize(
    "body",
    [
        {"error": "invalid_grant"},
        {"error": "Invalid_Grant", "error_description": "x"},
        {"error": "invalid_request", "error_description": 'Invalid "refresh_token" in request.'},
        {"error": {"message": "invalid refresh token"}},
        {"error": {"type": "OAuthException", "message": "The refresh token has already been used."}},
        {"error": {"code": "invalid_grant"}},
        {"error": "invalid-grant"},
        {"error": "invalid_token"},
        {"error": "expired_token"},
    ],
    ids=str,
)
async def test_the_grant_is_refused_when_the_refresh_token_is_used_up(
    bench: conftest.Bench, status: int, body: object
) -> None:
    """However it is worded, with whatever status."""
    bench.server.answer(wire.reply(status, body))

    with pytest.raises(errors.GrantRefused):
        await bench.oauth.renew(values.credential(), conftest.PURPOSE, NOW)

    assert [answer.is_discord for answer in bench.permits.settled] == [True]


@pytest.mark.parametrize("status", [400, 401, 404])
@pytest.mark.parametrize(
    "body",
    [
        {"error_description": "Token has been expired or revoked."},
        {"message": "invalid_grant", "code": 0},
        {"message": "Unknown token", "code": 0},
        {"code": 50035, "message": "Invalid Form Body", "errors": {"refresh_token": {"_errors": [{"code": "BAD"}]}}},
        {"refresh_token": ["is not valid"]},
        {"errors": [{"message": "the grant was revoked"}]},
        ["invalid_grant"],
        b"invalid_grant",
        b"error=invalid_grant&error_description=used",
    ],
    ids=str,
)
async def test_the_grant_is_refused_when_an_error_has_no_code_of_oauth2(
    bench: conftest.Bench, status: int, body: object
) -> None:
    """The text names the token or the grant."""
    bench.server.answer(wire.reply(status, body))

    with pytest.raises(errors.GrantRefused):
        await bench.oauth.renew(values.credential(), conftest.PURPOSE, NOW)


@pytest.mark.parametrize(
    ("status", "body", "problem"),
    [
        (400, {"error": "unsupported_grant_type", "error_description": "refresh_token"}, errors.DiscordRefused),
        (400, {"error": "invalid_request", "error_description": "Missing refresh_token"}, errors.DiscordRefused),
        (
            400,
            {"error": "invalid_client", "error_description": "Invalid client or refresh token"},
            errors.ClientRefused,
        ),
        (401, {"error": "unauthorized_client", "error_description": "invalid grant type"}, errors.ClientRefused),
        (401, {"message": "Invalid authentication token provided", "code": 50014}, errors.ClientRefused),
        (503, {"message": "refresh token store is down", "code": 0}, errors.DiscordTransient),
        (400, {"error": "server_error", "error_description": "refresh token lookup failed"}, errors.DiscordTransient),
        (400, {"error": "temporarily_unavailable"}, errors.DiscordTransient),
        (400, b"<html>invalid_grant is explained here</html>", errors.DiscordTransient),
        (429, {"message": "token is rate limited, refresh_token", "retry_after": 1}, errors.RateLimited),
    ],
    ids=str,
)
async def test_the_grant_is_not_refused_when_an_error_concerns_something_else(
    bench: conftest.Bench, status: int, body: object, problem: type[errors.IndexerError]
) -> None:
    """A wrong request or secret, and an outage, say nothing about the user."""
    bench.server.answer(wire.reply(status, body))

    with pytest.raises(problem) as failed:
        await bench.oauth.renew(values.credential(), conftest.PURPOSE, NOW)

    assert type(failed.value) is problem


ABOUT = {
    "application": {"id": "the-client", "name": "indexer"},
    "scopes": ["identify", "guilds"],
    "expires": "2026-12-06T03:00:00.000000+00:00",
    "user": {"id": str(values.USER), "username": "someone"},
}
"""A documented response (developers/topics/oauth2.mdx, Get Current Authorization Information)."""


async def test_describe_returns_user_application_scopes_and_expiry(bench: conftest.Bench) -> None:
    """With the token itself, under a permit of the user, in the name of nobody proven."""
    bench.server.answer(wire.reply(200, ABOUT))

    found = await bench.oauth.describe(values.credential(), conftest.PURPOSE)

    (request,) = bench.server.requests
    (charge,) = bench.permits.charges
    assert found == ports.Authorization(values.USER, True, ("identify", "guilds"), 1_796_526_000.0)  # noqa: FBT003
    assert (request.path, request.headers["authorization"]) == ("/api/v10/oauth2/@me", "Bearer access")
    assert (charge.route, charge.user_id, charge.is_proof) == ("GET /oauth2/@me", values.USER, True)
    assert "access" not in charge.identity
    assert bench.permits.balanced


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({"user": None}, (None, True), id="no user"),
        pytest.param({"application": {"id": "other"}}, (values.USER, False), id="another application"),
        pytest.param({"user": {"id": "7"}}, (7, True), id="another user"),
    ],
)
async def test_describe_returns_what_discord_says_when_it_is_not_ours(
    bench: conftest.Bench, changes: dict[str, object], expected: tuple[int | None, bool]
) -> None:
    """The use case decides."""
    bench.server.answer(wire.reply(200, ABOUT | changes))

    found = await bench.oauth.describe(values.credential(), conftest.PURPOSE)

    assert (found.user_id, found.ours) == expected


@pytest.mark.parametrize("expires", [None, "soon", 5, "9" * 400])
async def test_describe_has_no_expiry_when_discord_names_none(bench: conftest.Bench, expires: object) -> None:
    """The caller's claim stays."""
    bench.server.answer(wire.reply(200, ABOUT | {"expires": expires}))

    assert (await bench.oauth.describe(values.credential(), conftest.PURPOSE)).expires_at is None


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        pytest.param(wire.reply(401, {"message": "401: Unauthorized", "code": 0}), errors.TokenRefused, id="401"),
        pytest.param(wire.reply(401, {"message": "no", "code": 50025}), errors.TokenRefused, id="401 with a code"),
        pytest.param(wire.reply(401, b"<html>"), errors.DiscordTransient, id="401 without JSON"),
        pytest.param(
            wire.reply(429, {"message": "slow", "retry_after": 3.0, "global": True}), errors.RateLimited, id="429"
        ),
        pytest.param(wire.reply(404, b"<html>"), errors.DiscordTransient, id="404 without JSON"),
        pytest.param(
            wire.reply(404, {"message": "no", "code": 10013}), errors.CredentialUnverifiable, id="another 404"
        ),
        pytest.param(wire.reply(403, {"message": "no", "code": 50001}), errors.CredentialUnverifiable, id="403"),
        pytest.param(wire.reply(400, {"message": "no", "code": 50035}), errors.CredentialUnverifiable, id="400"),
        pytest.param(wire.reply(503, b""), errors.DiscordTransient, id="503"),
        pytest.param(wire.reply(200, b"<html>"), errors.DiscordTransient, id="no JSON"),
        pytest.param(wire.reply(200, {**ABOUT, "application": None}), errors.DiscordTransient, id="no application"),
        pytest.param(wire.reply(200, {**ABOUT, "scopes": "identify"}), errors.DiscordTransient, id="no scopes"),
        pytest.param(wire.reply(200, {**ABOUT, "user": {"id": 7}}), errors.DiscordTransient, id="odd user"),
        pytest.param(wire.reply(200, {**ABOUT, "user": "7"}), errors.DiscordTransient, id="text for a user"),
        pytest.param(wire.DROP, errors.DiscordTransient, id="lost"),
    ],
)
async def test_describe_proves_nothing_when_the_answer_is_no_authorization(
    bench: conftest.Bench, answer: bytes, problem: type[Exception]
) -> None:
    """One call; only a 401 with Discord's JSON says something about the token."""
    bench.server.answer(answer)

    with pytest.raises(problem) as raised:
        await bench.oauth.describe(values.credential(), conftest.PURPOSE)

    assert type(raised.value) is problem
    assert len(bench.server.requests) == 1
    assert bench.permits.balanced


NOT_FOUND = {"message": "404: Not Found", "code": 0}
"""What Discord answers for a route that it does not know."""


@pytest.mark.parametrize(
    "unknown",
    [
        pytest.param(wire.reply(404, NOT_FOUND), id="route"),
        pytest.param(wire.reply(405, {"message": "405: Method Not Allowed", "code": 0}), id="method"),
    ],
)
async def test_describe_returns_the_user_alone_when_discord_does_not_know_the_route(
    bench: conftest.Bench, unknown: bytes
) -> None:
    """As behind a proxy that knows some routes; scopes and expiry are the caller's, each call is charged as a proof."""
    bench.server.answer(unknown, wire.reply(200, {"id": str(values.USER), "username": "someone"}))
    pair = values.credential(scopes=("guilds",), expires_at=5.0)

    found = await bench.oauth.describe(pair, conftest.PURPOSE)

    assert found == ports.Authorization(values.USER, True, ("guilds",), 5.0)  # noqa: FBT003
    assert [request.path for request in bench.server.requests] == ["/api/v10/oauth2/@me", "/api/v10/users/@me"]
    assert {request.headers["authorization"] for request in bench.server.requests} == {"Bearer access"}
    assert [charge.route for charge in bench.permits.charges] == ["GET /oauth2/@me", "GET /users/@me"]
    assert all(charge.is_proof and charge.user_id == values.USER for charge in bench.permits.charges)
    assert bench.permits.balanced


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        pytest.param(wire.reply(404, NOT_FOUND), errors.CredentialUnverifiable, id="unknown as well"),
        pytest.param(wire.reply(403, {"message": "no", "code": 50001}), errors.CredentialUnverifiable, id="403"),
        pytest.param(wire.reply(401, {"message": "no", "code": 0}), errors.TokenRefused, id="401"),
        pytest.param(wire.reply(200, {"username": "someone"}), errors.DiscordTransient, id="no id"),
        pytest.param(wire.reply(200, {"id": 7}), errors.DiscordTransient, id="odd id"),
        pytest.param(wire.reply(200, b"[]"), errors.DiscordTransient, id="no object"),
        pytest.param(wire.reply(404, b"<html>"), errors.DiscordTransient, id="404 without JSON"),
        pytest.param(wire.DROP, errors.DiscordTransient, id="lost"),
    ],
)
async def test_describe_proves_nothing_when_discord_does_not_name_the_user_either(
    bench: conftest.Bench, answer: bytes, problem: type[Exception]
) -> None:
    """No third call, and no guess."""
    bench.server.answer(wire.reply(404, NOT_FOUND), answer)

    with pytest.raises(problem) as raised:
        await bench.oauth.describe(values.credential(), conftest.PURPOSE)

    assert type(raised.value) is problem
    assert len(bench.server.requests) == 2
    assert bench.permits.balanced


async def test_a_renewed_pair_is_the_callers_when_the_old_one_was(bench: conftest.Bench) -> None:
    """The caller that brought the grant answers for it."""
    bench.server.answer(wire.reply(200, {"access_token": "new", "refresh_token": "newer", "expires_in": 60}))

    renewed = await bench.oauth.renew(values.credential(brought_by="shop"), conftest.PURPOSE, 0.0)

    assert (renewed.access_token, renewed.brought_by) == ("new", "shop")
