"""Fault rules."""

import json

import msgspec
import pytest

from devstack.simulator import faults
from tests.unit.devstack.simulator import bench


def arm(sim: bench.Bench, **rule: object) -> None:
    """Add one rule."""
    sim.state.faults.add(faults.parse(json.dumps(rule).encode()), sim.clock.now)


def test_a_rule_fires_a_number_of_times_after_a_number_of_calls(sim: bench.Bench) -> None:
    """`after` lets calls pass first, and `times` ends the fault."""
    arm(sim, kind="status", status=502, after=1, times=2)

    statuses = [sim.call("/users/@me").status for _ in range(4)]

    assert statuses == [200, 502, 502, 200]
    assert sim.state.stats.faults == {"status": 2}


@pytest.mark.parametrize(
    "condition",
    [{"token": "bearer"}, {"route": "GET /users/@me/guilds"}, {"guild": "7"}, {"user": "7"}],
    ids=["token", "route", "guild", "user"],
)
def test_a_rule_does_not_fire_when_a_condition_does_not_match(sim: bench.Bench, condition: dict[str, str]) -> None:
    """Every condition must match."""
    arm(sim, kind="status", **condition)

    assert sim.call("/users/@me").status == 200


def test_a_rule_fires_when_all_its_conditions_match(sim: bench.Bench) -> None:
    """Route, guild, user and token can be combined; code and message are those of the rule."""
    guild = str(sim.guild(bot=True))
    route = "GET /guilds/{guild.id}/members/{user.id}"
    arm(
        sim,
        kind="status",
        status=403,
        code=50001,
        message="No",
        route=route,
        guild=guild,
        user=str(sim.user),
        token="bot",
    )

    reply = sim.call(f"/guilds/{guild}/members/{sim.user}")

    assert (reply.status, bench.document(reply)) == (403, {"message": "No", "code": 50001})


def test_some_calls_fail_when_the_rule_has_a_probability(sim: bench.Bench) -> None:
    """`probability` is the share of matching calls that fail."""
    arm(sim, kind="status", status=500, probability=0.5)

    statuses = [sim.call("/users/@me").status for _ in range(30)]

    assert 5 <= statuses.count(500) <= 25


@pytest.mark.parametrize("scope", ["user", "global", "shared"])
def test_a_429_is_answered_when_the_rule_says_so(sim: bench.Bench, scope: str) -> None:
    """An injected 429 has the headers of its scope; only a shared one does not count as invalid."""
    arm(sim, kind="rate_limit", scope=scope, retry_after=64.57)

    reply = sim.call("/users/@me")

    assert bench.document(reply)["retry_after"] == 64.57
    assert (reply.headers["Retry-After"], reply.headers["X-RateLimit-Scope"]) == ("65", scope)
    assert ("X-RateLimit-Global" in reply.headers) == (scope == "global")
    assert ("X-RateLimit-Bucket" in reply.headers) == (scope != "global")
    assert sim.state.invalid.most == (scope != "shared")


def test_the_json_is_incomplete_when_it_is_truncated(sim: bench.Bench) -> None:
    """A truncated response is complete HTTP with half a document."""
    arm(sim, kind="truncate")

    reply = sim.call("/users/@me")

    assert reply.status == 200
    with pytest.raises(json.JSONDecodeError):
        json.loads(reply.body)


@pytest.mark.parametrize("kind", ["reset", "hang", "cut"])
def test_a_call_has_its_effect_when_only_its_response_is_lost(sim: bench.Bench, kind: str) -> None:
    """A refresh with a lost response has rotated the token."""
    arm(sim, kind=kind)
    form = (
        f"grant_type=refresh_token&refresh_token=sim-refresh-{sim.user}-0&client_id=sim-client&client_secret=sim-secret"
    )

    reply = sim.post("/api/oauth2/token", form)

    assert reply.connection_fault == kind
    assert sim.state.tokens.newest_pair(sim.user).refresh.endswith("-1")


def test_a_call_has_no_effect_when_the_response_is_an_error(sim: bench.Bench) -> None:
    """A refresh that is answered 500 has not rotated the token."""
    arm(sim, kind="status", status=500)
    form = (
        f"grant_type=refresh_token&refresh_token=sim-refresh-{sim.user}-0&client_id=sim-client&client_secret=sim-secret"
    )

    sim.post("/api/oauth2/token", form)

    assert sim.state.tokens.newest_pair(sim.user).refresh.endswith("-0")


def test_everything_fails_when_there_is_an_outage(sim: bench.Bench) -> None:
    """An outage answers every call with the edge's page until it ends, and charges no limit."""
    arm(sim, kind="outage", seconds=20, status=502)

    during = [sim.call("/users/@me"), sim.as_user("/users/@me")]
    sim.clock.now += 20
    after = sim.call("/users/@me")

    assert [reply.status for reply in during] == [502, 502]
    assert "Via" not in during[0].headers
    assert (after.status, after.headers["X-RateLimit-Remaining"]) == (200, "29")


def test_a_failed_call_is_charged_to_the_limits(sim: bench.Bench) -> None:
    """A failed call is charged like a successful one."""
    arm(sim, kind="reset", times=5)

    for _ in range(5):
        sim.as_user("/users/@me")

    assert sim.as_user("/users/@me").status == 429


def test_calls_succeed_when_the_rules_are_cleared(sim: bench.Bench) -> None:
    """Without rules no call fails, and none is listed."""
    arm(sim, kind="html", status=403)
    broken = sim.call("/users/@me")

    sim.state.faults.clear()

    assert broken.content_type.startswith("text/html")
    assert sim.call("/users/@me").status == 200
    assert sim.state.faults.document() == []


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ({"kind": "flood"}, "flood"),
        ({}, "kind"),
        ({"kind": "status", "status": 200}, "400"),
        ({"kind": "status", "route": "GET /x"}, "GET /users/@me"),
        ({"kind": "status", "guild": "abc"}, "guild"),
        ({"kind": "status", "probability": 0}, "probability"),
        ({"kind": "status", "when": 1}, "when"),
        ({"kind": "hang", "seconds": -1}, "seconds"),
    ],
)
def test_a_rule_is_rejected_when_it_is_invalid(rule: dict[str, object], says: str) -> None:
    """The error names the problem."""
    with pytest.raises(msgspec.ValidationError, match=says):
        faults.parse(json.dumps([rule]).encode())


def test_a_response_is_as_given_when_the_rule_is_raw(sim: bench.Bench) -> None:
    """Status, headers and body that Discord does not document can be answered."""
    arm(sim, kind="raw", status=429, headers={"Retry-After": "0"}, body='{"retry_after": "soon"}')

    reply = sim.call("/users/@me")

    assert (reply.status, reply.body, reply.headers["Retry-After"]) == (429, b'{"retry_after": "soon"}', "0")
    assert reply.from_discord


def test_the_real_response_is_changed_when_the_rule_replaces_text(sim: bench.Bench) -> None:
    """Everything else of the response is real."""
    real = sim.call("/users/@me").body
    arm(sim, kind="replace", find='"username":"', body='"username":"\\ud83d')

    reply = sim.call("/users/@me")

    assert (reply.status, reply.body) == (200, real.replace(b'"username":"', b'"username":"\\ud83d'))
