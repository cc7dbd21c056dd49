"""The token endpoint over HTTP: a form is sent under a permit; the response is bounded and translated."""

import base64
import urllib.parse

import pytest

from indexing import errors
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
        pytest.param(wire.reply(400, b"<html>"), errors.DiscordRefused, id="no JSON"),
        pytest.param(wire.reply(403, b"<html>"), errors.EgressBlocked, id="the edge"),
        pytest.param(
            wire.reply(429, {"message": "slow", "retry_after": 3.0, "global": False}), errors.RateLimited, id="429"
        ),
        pytest.param(wire.reply(503, b""), errors.DiscordTransient, id="503"),
        pytest.param(wire.reply(200, b"[" * 50_000), errors.DiscordTransient, id="deep"),
        pytest.param(wire.reply(200, b" " * 70_000), errors.DiscordTransient, id="long"),
        pytest.param(wire.reply(200, {**PAIR, "access_token": ""}), errors.DiscordTransient, id="no token"),
        pytest.param(wire.reply(200, {**PAIR, "access_token": "a\r\nb"}), errors.DiscordTransient, id="control"),
        pytest.param(wire.reply(200, {**PAIR, "refresh_token": "x" * 2049}), errors.DiscordTransient, id="long token"),
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


@pytest.mark.parametrize(("expires_in", "lifetime"), [(-5, 0.0), (1e12, 366 * 86_400.0), (0.5, 0.5)])
async def test_lifetime_is_bounded_when_discords_is_absurd(
    bench: conftest.Bench, expires_in: float, lifetime: float
) -> None:
    """Between now and a year from now; scopes that the response omits stay as they were."""
    bench.server.answer(wire.reply(200, {**PAIR, "expires_in": expires_in, "scope": ""}))

    pair = await bench.oauth.renew(values.credential(), conftest.PURPOSE, NOW)

    assert (pair.expires_at, pair.scopes) == (NOW + lifetime, values.credential().scopes)
