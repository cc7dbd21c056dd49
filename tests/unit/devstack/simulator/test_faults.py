"""Faults on demand."""

import json

import msgspec
import pytest

from devstack.simulator import faults
from tests.unit.devstack.simulator import bench


def arm(sim: bench.Bench, **rule: object) -> None:
    """Put one rule into force."""
    sim.state.faults.add(faults.parse(json.dumps(rule).encode()), sim.clock.now)


def test_the_rule_strikes_in_turn_when_it_counts(sim: bench.Bench) -> None:
    """`after` lets calls pass first, `times` ends the fault."""
    arm(sim, kind="status", status=502, after=1, times=2)

    statuses = [sim.call("/users/@me").status for _ in range(4)]

    assert statuses == [200, 502, 502, 200]
    assert sim.state.stats.faults == {"status": 2}


@pytest.mark.parametrize(
    "condition",
    [{"token": "bearer"}, {"route": "GET /users/@me/guilds"}, {"guild": "7"}, {"user": "7"}],
    ids=["token", "route", "guild", "user"],
)
def test_the_rule_passes_when_a_condition_does_not_hold(sim: bench.Bench, condition: dict[str, str]) -> None:
    """Every condition has to hold."""
    arm(sim, kind="status", **condition)

    assert sim.call("/users/@me").status == 200


def test_the_rule_strikes_when_all_its_conditions_hold(sim: bench.Bench) -> None:
    """Route, guild, user and token may be combined; code and message are as demanded."""
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


def test_some_calls_fail_when_the_rule_is_by_chance(sim: bench.Bench) -> None:
    """`probability` is the share of matching calls that fail."""
    arm(sim, kind="status", status=500, probability=0.5)

    statuses = [sim.call("/users/@me").status for _ in range(30)]

    assert 5 <= statuses.count(500) <= 25


@pytest.mark.parametrize("scope", ["user", "global", "shared"])
def test_a_limit_is_pretended_when_the_rule_says_so(sim: bench.Bench, scope: str) -> None:
    """A demanded 429 has the headers of its scope; only a shared one is not counted as invalid."""
    arm(sim, kind="rate_limit", scope=scope, retry_after=64.57)

    reply = sim.call("/users/@me")

    assert bench.document(reply)["retry_after"] == 64.57
    assert (reply.headers["Retry-After"], reply.headers["X-RateLimit-Scope"]) == ("65", scope)
    assert ("X-RateLimit-Global" in reply.headers) == (scope == "global")
    assert ("X-RateLimit-Bucket" in reply.headers) == (scope != "global")
    assert sim.state.invalid.most == (scope != "shared")


def test_the_json_breaks_off_when_it_is_truncated(sim: bench.Bench) -> None:
    """A truncated answer is a whole HTTP answer with half a document."""
    arm(sim, kind="truncate")

    reply = sim.call("/users/@me")

    assert reply.status == 200
    with pytest.raises(json.JSONDecodeError):
        json.loads(reply.body)


@pytest.mark.parametrize("kind", ["reset", "hang", "cut"])
def test_the_deed_is_done_when_only_its_answer_is_lost(sim: bench.Bench, kind: str) -> None:
    """A refresh whose answer is lost has rotated the token all the same."""
    arm(sim, kind=kind)
    form = (
        f"grant_type=refresh_token&refresh_token=sim-refresh-{sim.user}-0&client_id=sim-client&client_secret=sim-secret"
    )

    reply = sim.post("/api/oauth2/token", form)

    assert reply.connection_fault == kind
    assert sim.state.tokens.newest_pair(sim.user).refresh.endswith("-1")


def test_nothing_is_done_when_the_answer_is_an_error(sim: bench.Bench) -> None:
    """A refresh that is answered with 500 has not rotated the token."""
    arm(sim, kind="status", status=500)
    form = (
        f"grant_type=refresh_token&refresh_token=sim-refresh-{sim.user}-0&client_id=sim-client&client_secret=sim-secret"
    )

    sim.post("/api/oauth2/token", form)

    assert sim.state.tokens.newest_pair(sim.user).refresh.endswith("-0")


def test_everything_fails_when_there_is_an_outage(sim: bench.Bench) -> None:
    """An outage is the edge's page for everybody until its time is over, and draws on no limit."""
    arm(sim, kind="outage", seconds=20, status=502)

    during = [sim.call("/users/@me"), sim.as_user("/users/@me")]
    sim.clock.now += 20
    after = sim.call("/users/@me")

    assert [reply.status for reply in during] == [502, 502]
    assert "Via" not in during[0].headers
    assert (after.status, after.headers["X-RateLimit-Remaining"]) == (200, "29")


def test_a_broken_call_is_counted_when_limits_are_looked_at(sim: bench.Bench) -> None:
    """Faults cost the client what the calls would have cost."""
    arm(sim, kind="reset", times=5)

    for _ in range(5):
        sim.as_user("/users/@me")

    assert sim.as_user("/users/@me").status == 429


def test_all_is_well_when_the_rules_are_cleared(sim: bench.Bench) -> None:
    """Without rules nothing fails, and nothing is listed."""
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
def test_the_rule_is_refused_when_it_makes_no_sense(rule: dict[str, object], says: str) -> None:
    """The error names what is wrong."""
    with pytest.raises(msgspec.ValidationError, match=says):
        faults.parse(json.dumps([rule]).encode())
