"""The token endpoint."""

import base64

import pytest

from tests.unit.devstack.simulator import bench

CLIENT = "&client_id=sim-client&client_secret=sim-secret"
URL = "/api/v10/oauth2/token"


def refresh(sim: bench.Bench, generation: int, url: str = URL) -> tuple[int, dict[str, object]]:
    """Use the first user's n-th refresh token."""
    token = f"sim-refresh-{sim.user}-{generation}"
    reply = sim.post(url, f"grant_type=refresh_token&refresh_token={token}{CLIENT}")
    return reply.status, bench.document(reply)


@pytest.mark.parametrize("url", [URL, "/api/oauth2/token"])
def test_a_valid_refresh_token_returns_a_new_pair(sim: bench.Bench, url: str) -> None:
    """The response has all documented fields, and its tokens work."""
    status, pair = refresh(sim, 0, url)

    assert status == 200
    assert pair == {
        "token_type": "Bearer",
        "access_token": f"sim-user-{sim.user}-1",
        "expires_in": 604800,
        "refresh_token": f"sim-refresh-{sim.user}-1",
        "scope": "guilds guilds.members.read identify",
    }
    assert sim.as_user("/users/@me", f"sim-user-{sim.user}-1").status == 200


def test_a_refresh_token_is_invalid_after_its_use(sim: bench.Bench) -> None:
    """A refresh token works once; then it is answered invalid_grant, and the new one works."""
    refresh(sim, 0)

    assert refresh(sim, 0)[0] == 400
    assert refresh(sim, 0)[1]["error"] == "invalid_grant"
    assert refresh(sim, 1)[0] == 200


def test_only_the_newest_access_tokens_are_valid_after_refreshes(sim: bench.Bench) -> None:
    """The previous access token stays valid, older ones do not."""
    refresh(sim, 0)
    refresh(sim, 1)

    statuses = [sim.as_user("/users/@me", f"sim-user-{sim.user}{end}").status for end in ("", "-1", "-2")]

    assert statuses == [401, 200, 200]


def test_access_tokens_expire() -> None:
    """An access token works for `expires_in` seconds."""
    sim = bench.Bench("--token-lifetime", "150")

    before = sim.as_user("/users/@me").status
    sim.clock.now += 60
    after = sim.as_user("/users/@me").status

    assert (before, after) == (200, 401)
    assert refresh(sim, 0)[1]["expires_in"] == 150


def test_the_client_can_authenticate_with_http_basic(sim: bench.Bench) -> None:
    """HTTP Basic replaces id and secret in the form; a wrong secret is answered invalid_client."""
    form = f"grant_type=refresh_token&refresh_token=sim-refresh-{sim.user}-0"
    good = base64.b64encode(b"sim-client:sim-secret").decode()
    bad = base64.b64encode(b"sim-client:guess").decode()

    refused = sim.post(URL, form, Authorization=f"Basic {bad}")
    nameless = sim.post(URL, form)
    accepted = sim.post(URL, form, Authorization=f"Basic {good}")

    assert (refused.status, bench.document(refused)["error"]) == (401, "invalid_client")
    assert (nameless.status, bench.document(nameless)["error"]) == (401, "invalid_client")
    assert accepted.status == 200


@pytest.mark.parametrize(
    ("form", "headers", "error"),
    [
        (f"grant_type=password{CLIENT}", {}, "unsupported_grant_type"),
        (f"grant_type=refresh_token{CLIENT}", {}, "invalid_request"),
        (f"grant_type=refresh_token&refresh_token=x{CLIENT}", {}, "invalid_grant"),
        ('{"grant_type": "refresh_token"}', {"Content_Type": "application/json"}, "invalid_request"),
    ],
    ids=["other grant", "no token", "unknown token", "JSON"],
)
def test_a_malformed_token_request_is_rejected(
    sim: bench.Bench, form: str, headers: dict[str, str], error: str
) -> None:
    """Errors are 400 in OAuth2's format."""
    reply = sim.post(URL, form, **headers)

    assert (reply.status, bench.document(reply)["error"]) == (400, error)


def test_revoking_one_token_revokes_the_grant(sim: bench.Bench) -> None:
    """Revoking the access token revokes the refresh token too; only new consent helps."""
    revoked = sim.post(f"{URL}/revoke", f"token=sim-user-{sim.user}{CLIENT}")
    statuses = sim.as_user("/users/@me").status, refresh(sim, 0)[0]
    pair = sim.state.tokens.consent(sim.user, frozenset({"identify"}))

    assert revoked.status == 200
    assert statuses == (401, 400)
    assert sim.as_user("/users/@me", pair.access).status == 200
