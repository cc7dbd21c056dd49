"""What Python and Lua tell each other, field by field: other releases run the same script beside this one."""

from typing import Any

import pytest

from indexing import settings
from indexing.domain import model
from indexing.ratelimit import codec, fleet_clock, limits, protocol, responses, route_limits

CHANNELS = "GET /guilds/{guild.id}/channels"
CHARGE = limits.Charge(
    model.Lane.BACKGROUND, CHANNELS, "user:5", 7, 9, waiter="w", callers=("a", "b"), shared=True, brought_by="web"
)
LIMIT = route_limits.RouteLimit.parse_stored("bucket 4 2500 1")
PARAMETERS = limits.LimiterParameters.from_settings(settings.LimiterSettings(), call_timeout=10.0)


def test_the_parameters_follow_from_the_settings() -> None:
    """Windows, holds and the shares of the invalid-request limit of 10,000."""
    assert PARAMETERS.lane_shares == pytest.approx((0.78, 0.2, 0.02))
    assert (PARAMETERS.max_in_flight, PARAMETERS.warmup_hold, PARAMETERS.longest_window) == (12.0, 17.0, 5.0)
    assert (PARAMETERS.stop_bulk, PARAMETERS.stop_all, PARAMETERS.stop_caller) == (500, 1000, 200)
    held = settings.LimiterSettings(limiter_hold=0.0, limiter_background_share=0.9, limiter_refresh_share=0.095)
    tight = limits.LimiterParameters.from_settings(held, call_timeout=10.0)
    assert (tight.warmup_hold, tight.lane_shares) == (0.0, (0.01, 0.9, 0.095))


def test_the_script_gets_all_parameters_in_milliseconds() -> None:
    """One line of Lua, which is part of the script's hash."""
    head = codec.script_parameters(PARAMETERS)

    assert head.startswith("local params = {") and head.endswith("}}")  # noqa: PT018 -- one line
    fields = head.removeprefix("local params = {").partition(", lane_shares")[0]
    assert dict(field.split(" = ") for field in fields.split(", ")) == {
        "global_capacity": "50",
        "global_window": "1000",
        "user_capacity": "5",
        "user_window": "5000",
        "max_in_flight": "12000",
        "warmup_hold": "17000",
        "longest_window": "5000",
        "global_credit": "0.8",
        "user_credit": "0.5",
        "invalid_minutes": "10",
        "stop_bulk": "500",
        "stop_all": "1000",
        "stop_caller": "200",
        "probe_retry": "150",
        "probe_window": "5000",
        "unproven_max_wait": "1000",
        "bulk_burst": "3",
        "ramp": "5000",
        "foreign_decay": "30000",
        "raise_after": "50",
        "round_trip_period": "30000",
        "round_trip_samples": "200",
        "max_window": "300000",
        "first_pause": "1000",
        "max_pause": "300000",
        "repeat_memory": "600000",
        "strict_memory": "3600000",
        "strict_window": "15000",
    }


def test_a_request_says_what_is_charged_and_what_is_known() -> None:
    """Lanes count from one, as Lua's lists do."""
    request = protocol.PermitRequest("id", CHARGE, 1.5, LIMIT, 3.0, returns=True, early=0.1)

    assert codec.encode_request(request, PARAMETERS) == {
        "id": "id",
        "lane": limits.LANES.index(model.Lane.BACKGROUND) + 1,
        "waiter": "w",
        "named": True,
        "returns": True,
        "early": 100,
        "grace": round(max(protocol.QUEUE_GRACE, 0.3) * 1000),
        "callers": ("a", "b"),
        "brought_by": "web",
        "user_id": "7",
        "charges_user": True,
        "charges_global": True,
        "max_wait": 1500,
        "route_key": f"user {CHANNELS}",
        "stored_limit": "bucket 4 2500 1",
        "capacity": 4,
        "window": 2500,
        "label": f"{CHANNELS}|user:5|9",
        "unproven": False,
    }


def test_a_request_of_nobody_has_a_position_for_itself() -> None:
    """It takes turns among the unnamed callers, and charges no user."""
    charge = limits.Charge(model.Lane.INTERACTIVE, CHANNELS, "bot", None, 9)
    request = protocol.PermitRequest("id", charge, 0.0, route_limits.RouteLimit.parse_stored("b 4 2500 0"), 3.0)

    found = codec.encode_request(request, PARAMETERS)

    expected: dict[str, Any] = {
        "lane": 1,
        "waiter": "id",
        "named": False,
        "returns": False,
        "callers": ("",),
        "user_id": "",
        "charges_user": False,
        "route_key": f"bot {CHANNELS}",
        "unproven": True,
    }
    assert {name: found[name] for name in expected} == expected


PERMIT = limits.Permit("id", CHARGE, 3.0, charged_at_ms=77, limit=LIMIT, held=3)


def test_a_permit_whose_call_was_never_sent_is_given_back_by_its_name() -> None:
    """Nothing was learned."""
    assert codec.encode_settlement(protocol.Settlement(PERMIT, None, 5.0), 6.0) == {
        "id": "id",
        "lane": limits.LANES.index(model.Lane.BACKGROUND) + 1,
        "stored_limit": "bucket 4 2500 1",
        "unsent": True,
    }


def test_an_answer_says_everything_that_the_budgets_learn_from_it() -> None:
    """Ages are rounded down, so that a permit is free late rather than early; waits are rounded up."""
    headers = route_limits.BucketHeaders("other", 6, 2, 1.2341)
    outcome = protocol.Outcome(
        0.0567, headers, headers_expected=False, scope="route", pause=1.0001, clipped=True, invalid=True, refused=True
    )

    assert codec.encode_settlement(protocol.Settlement(PERMIT, outcome, 5.0), 5.0129) == {
        "id": "id",
        "lane": limits.LANES.index(model.Lane.BACKGROUND) + 1,
        "stored_limit": "bucket 4 2500 1",
        "age": 12,
        "round_trip": 56,
        "token_owner": "5",
        "route_key": f"user {CHANNELS}",
        "charged_at": 77,
        "window": 2500,
        "held": 3,
        "label": f"{CHANNELS}|user:5|9",
        "headers_expected": False,
        "invalid": True,
        "refused_of": "web",
        "major": "9",
        "scope": "route",
        "pause": 1001,
        "clipped": True,
        "disproves_per_guild": True,
        "bucket": "other",
        "limit": 6,
        "remaining": 2,
        "reset": 1235,
    }


@pytest.mark.parametrize(
    ("scope", "per_guild", "disproves"), [("route", "0", False), ("shared", "1", False), ("route", "1", True)]
)
def test_only_a_429_of_the_route_disproves_that_guilds_have_own_buckets(
    scope: protocol.Scope,
    per_guild: str,
    disproves: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """If they were thought to have some."""
    limit = route_limits.RouteLimit.parse_stored(f"bucket 4 2500 {per_guild}")
    permit = limits.Permit("id", CHARGE, 3.0, limit=limit)

    found = codec.encode_settlement(protocol.Settlement(permit, protocol.Outcome(0.1, scope=scope), 5.0), 4.0)

    assert (found["disproves_per_guild"], found["age"]) == (disproves, 0)


def test_a_granted_permit_is_free_after_its_delay() -> None:
    """Its shares are those of the budgets that it was charged to, and never negative."""
    request = protocol.PermitRequest("id", CHARGE, 1.5, LIMIT, 3.0)

    permit = codec.decode_decision([1, 250, 10, 50, 6, 1], request, 5, 1000)

    assert isinstance(permit, limits.Permit)
    assert (permit.taken_at, permit.charged_at_ms, permit.held, permit.delay) == (3.25, 1250, 1, 0.25)
    assert permit.shares_left == pytest.approx({"global": 0.8, "user": 0.0, "route": 0.75})


def test_a_permit_has_no_share_of_budgets_that_are_not_charged_or_not_known() -> None:
    """A capacity of 0 is that of a budget which the call does not take from."""
    charge = limits.Charge(model.Lane.REFRESH, CHANNELS, "bot", 7, 9, charges_user=False)
    for limit in (route_limits.UNKNOWN, route_limits.RouteLimit.parse_stored("- 0 0 0")):
        request = protocol.PermitRequest("id", charge, 1.5, limit, 3.0)

        permit = codec.decode_decision([1, 0, 0, 0, 0, 0], request, 5, 1000)

        assert isinstance(permit, limits.Permit)
        assert permit.shares_left == {}


def test_other_replies_are_a_wait_in_seconds_or_another_limit() -> None:
    """Redis returns bytes or text."""
    request = protocol.PermitRequest("id", CHARGE, 1.5, LIMIT, 3.0)

    decided = [codec.decode_decision(reply, request, 5, 0) for reply in ([0, 1500, b"user", "hold"], [2, b"b 1 500 0"])]

    assert decided == [
        protocol.Wait(1.5, "user", "hold"),
        protocol.LimitChanged(route_limits.RouteLimit("b 1 500 0", "b", 1, 0.5, per_guild=False)),
    ]
    assert codec.decode_settlement_result([2, b"", 1500]) == protocol.SettlementResult(2, route_limits.UNKNOWN, 1.5)


def test_a_limit_that_nobody_has_read_allows_one_call() -> None:
    """Its window is not known."""
    unknown = route_limits.UNKNOWN

    assert (unknown.known, unknown.bucket, unknown.capacity, unknown.window, unknown.per_guild) == (
        False,
        "",
        1,
        0.0,
        False,
    )


@pytest.mark.parametrize(("late", "expired"), [(2.0, False), (2.001, True)])
def test_a_permit_expires_two_seconds_after_it_was_taken(late: float, expired: bool) -> None:  # noqa: FBT001 -- a parameter
    """A process that was suspended longer gives it back."""
    assert limits.Permit("id", CHARGE, 0.0).expired(late) is expired


def test_a_process_without_a_reading_knows_nothing_of_the_fleets_clock() -> None:
    """The script then says what it shows."""
    nothing = {"incarnation": 0, "epoch": 0, "earliest": 0, "uncertainty": 0, "ahead": False}
    assert fleet_clock.FleetClock().estimate(5.0) == nothing


def test_the_bounds_widen_by_a_thousandth_of_the_age() -> None:
    """Each clock drifts by at most half of that; the reading itself is as uncertain as its exchange was long."""
    clock = fleet_clock.FleetClock()
    clock.update(fleet_clock.Reading(1_000_000, 10.0, 10.25, epoch=7, incarnation=3), redis_ms=1_000_000)

    assert clock.estimate(110.25) == {
        "incarnation": 3,
        "epoch": 7,
        "earliest": 1_000_000 + 99_950,
        "uncertainty": 250 + 100,
        "ahead": False,
    }


def test_of_two_equally_precise_readings_the_newer_one_is_kept() -> None:
    """Of two epochs it is the one that was requested later, however precise."""
    old, new = (fleet_clock.Reading(0, at, at + 0.25, epoch=7) for at in (1.0, 1.0))
    later = fleet_clock.Reading(0, 1.5, 9.0, epoch=8)

    assert fleet_clock.most_precise(old, new) is new
    assert fleet_clock.most_precise(old, later) is later
    assert fleet_clock.most_precise(later, old) is later


@pytest.mark.parametrize(("shown", "ahead"), [(100, False), (101, True)])
def test_redis_clock_is_ahead_when_it_shows_more_than_a_tenth_of_a_second_too_much(
    shown: int,
    ahead: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """Slewing moves it by less."""
    clock = fleet_clock.FleetClock()
    clock.update(fleet_clock.Reading(1_000_000, 10.0, 10.0, epoch=7), redis_ms=1_000_000)

    clock.update(fleet_clock.Reading(1_000_000, 10.0, 10.0, epoch=7), redis_ms=1_000_000 + shown)

    assert clock.estimate(10.0)["ahead"] is ahead


BOT = limits.Charge(model.Lane.BACKGROUND, CHANNELS, "bot", None, 9)


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        pytest.param(limits.Answer(200, {}, 0.1), {}, id="good"),
        pytest.param(limits.Answer(499, {}, 0.1), {}, id="wrong request"),
        pytest.param(limits.Answer(500, {}, 0.1), {"headers_expected": False}, id="not handled"),
        pytest.param(limits.Answer(401, {}, 0.1), {"invalid": True, "refused": True}, id="refused token"),
        pytest.param(
            limits.Answer(429, {}, 0.1),
            {"headers_expected": False, "scope": "route", "pause": 1.0, "invalid": True},
            id="429 without a wait",
        ),
        pytest.param(
            limits.Answer(429, {"x-ratelimit-scope": "shared"}, 0.1, 2.0),
            {"headers_expected": False, "scope": "shared", "pause": 2.0},
            id="shared",
        ),
        pytest.param(
            limits.Answer(429, {"x-ratelimit-global": "true"}, 0.1, 2.0),
            {"headers_expected": False, "scope": "global", "pause": 2.25, "invalid": True},
            id="global",
        ),
        pytest.param(
            limits.Answer(429, {}, 0.1, 300.0, body_global=True),
            {"headers_expected": False, "scope": "global", "pause": 300.0, "invalid": True, "clipped": True},
            id="global and long",
        ),
        pytest.param(
            limits.Answer(403, {}, 0.1, is_discord=False),
            {"headers_expected": False, "scope": "edge", "pause": 60.0, "invalid": True},
            id="edge",
        ),
        pytest.param(
            limits.Answer(429, {}, 0.1, 61.5, is_discord=False),
            {"headers_expected": False, "scope": "edge", "pause": 61.5, "invalid": True},
            id="edge with a wait",
        ),
    ],
)
def test_an_answer_means_what_discord_documents(answer: limits.Answer, outcome: dict[str, Any]) -> None:
    """Fields that are not named have their usual values."""
    usual: dict[str, Any] = {
        "headers": None,
        "headers_expected": True,
        "scope": None,
        "pause": 0.0,
        "clipped": False,
        "invalid": False,
        "refused": False,
    }

    assert responses.interpret_answer(answer, BOT) == protocol.Outcome(0.1, **usual | outcome)
