"""The errors that Discord's refusals and invalid responses are translated to."""

import traceback
from typing import Any

import pytest
import structlog.testing

from indexing import errors
from indexing.discord import bounds
from tests import values
from tests.unit.discord import conftest, wire

HTML = b"<html>error code: 1015</html>"
NESTED = b"[" * 200_000 + b"]" * 200_000
"""Too deep for the decoder of any Python: from 3.14 on the depth depends on the size of the stack."""
MISSING_ACCESS = {"message": "Missing Access", "code": 50001}


@pytest.mark.parametrize(
    ("status", "body", "error", "code"),
    [
        pytest.param(401, {"message": "401: Unauthorized", "code": 0}, errors.TokenRefused, 0, id="token"),
        pytest.param(403, MISSING_ACCESS, errors.NoAccess, 50001, id="no-access"),
        pytest.param(404, {"message": "Unknown Guild", "code": 10004}, errors.Gone, 10004, id="gone"),
        pytest.param(403, {"message": "Bots only", "code": 20002}, errors.DiscordRefused, 20002, id="wrong-token"),
        pytest.param(400, {"message": "Invalid Form Body", "code": 50035}, errors.DiscordRefused, 50035, id="ours"),
        pytest.param(405, {"message": "405: Method Not Allowed", "code": 0}, errors.DiscordRefused, 0, id="method"),
    ],
)
async def test_refusal_is_raised_without_a_retry_when_it_is_permanent(
    bench: conftest.Bench, status: int, body: object, error: type[errors.DiscordRefused], code: int
) -> None:
    """One request, one permit; the error is chosen by status and Discord's code."""
    bench.server.answer(wire.reply(status, body))

    with pytest.raises(errors.DiscordRefused) as refused:
        await bench.channels()

    assert (type(refused.value), refused.value.status, refused.value.code) == (error, status, code)
    assert len(bench.server.requests) == len(bench.permits.charges) == 1
    assert [answer.status for answer in bench.permits.settled] == [status]


@pytest.mark.parametrize(
    ("headers", "body", "budget", "why"),
    [
        pytest.param(
            {"X_RateLimit_Scope": "user", "Retry_After": "2"},
            {"message": "x", "retry_after": 1.25, "global": False},
            "route",
            "429 user",
            id="user",
        ),
        pytest.param(
            {"X_RateLimit_Scope": "shared", "Retry_After": "2", "X_RateLimit_Reset_After": "9"},
            {"message": "x", "retry_after": 1.25, "global": False, "code": 40062},
            "route",
            "429 shared",
            id="shared",
        ),
        pytest.param(
            {"X_RateLimit_Scope": "global", "X_RateLimit_Global": "true", "Retry_After": "2"},
            {"message": "x", "retry_after": 1.25, "global": True},
            "global",
            "429 global",
            id="global",
        ),
    ],
)
async def test_rate_limited_has_the_exact_wait_when_discord_answers_429(
    bench: conftest.Bench, headers: dict[str, Any], body: dict[str, object], budget: str, why: str
) -> None:
    """It names the wait and the budget; the call is not retried, and the limiter gets the whole response."""
    bench.server.answer(wire.reply(429, body, **headers))

    with pytest.raises(errors.RateLimited) as limited:
        await bench.channels()

    assert (limited.value.budget, limited.value.retry_after, limited.value.why) == (budget, 1.25, why)
    assert len(bench.server.requests) == 1
    (answer,) = bench.permits.settled
    assert (answer.status, answer.body_retry_after, answer.body_global) == (429, 1.25, body["global"])
    assert answer.is_discord
    assert answer.headers["x-ratelimit-scope"] == headers["X_RateLimit_Scope"]


async def test_rate_limited_uses_the_header_when_the_body_has_no_wait(bench: conftest.Bench) -> None:
    """Without either, the wait is one second."""
    bench.server.answer(wire.reply(429, {"message": "x"}, Retry_After="7"), wire.reply(429, {"message": "x"}))
    waits = []

    for _ in range(2):
        with pytest.raises(errors.RateLimited) as limited:
            await bench.channels()
        waits.append(limited.value.retry_after)

    assert waits == [7.0, 1.0]


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "-5", "1e300", "soon"])
async def test_wait_is_bounded_when_the_header_is_absurd(bench: conftest.Bench, text: str) -> None:
    """Ten minutes at most, then one call finds out; a time in the past would cause the next 429."""
    bench.server.answer(wire.reply(429, {"message": "x"}, Retry_After=text), wire.reply(403, HTML, Retry_After=text))
    waits = []

    for _ in range(2):
        with pytest.raises((errors.RateLimited, errors.EgressBlocked)) as limited:
            await bench.channels()
        waits.append(vars(limited.value)["retry_after"])

    assert all(0.0 < wait <= bounds.MAX_WAIT for wait in waits)


@pytest.mark.parametrize("figure", ["-5", "0", "1e300", "1e999", "1000000000", '"7"', "true", "null", "[1]", "{}"])
async def test_wait_is_bounded_when_the_body_is_absurd(bench: conftest.Bench, figure: str) -> None:
    """The same for `retry_after` in the JSON."""
    bench.server.answer(wire.reply(429, b'{"message": "x", "retry_after": ' + figure.encode() + b"}"))

    with pytest.raises(errors.RateLimited) as limited:
        await bench.channels()

    assert 0.0 <= limited.value.retry_after <= bounds.MAX_WAIT


@pytest.mark.parametrize("body", [b"", HTML, {"retry_after": "3"}, {"message": None}], ids=str)
async def test_a_429_is_discords_when_its_headers_say_so(bench: conftest.Bench, body: object) -> None:
    """Whatever its body is: the route waits, and the address is not stopped."""
    bench.server.answer(wire.reply(429, body, X_RateLimit_Scope="user", Retry_After="2"))

    with pytest.raises(errors.RateLimited) as limited:
        await bench.channels()

    assert (limited.value.budget, limited.value.retry_after) == ("route", 2.0)
    assert [answer.is_discord for answer in bench.permits.settled] == [True]


@pytest.mark.parametrize("status", [403, 429])
@pytest.mark.parametrize(
    ("headers", "wait"), [({"Retry_After": "90"}, 90.0), ({}, 60.0)], ids=["says-how-long", "says-nothing"]
)
async def test_egress_is_blocked_when_the_edge_answers_instead_of_discord(
    bench: conftest.Bench, status: int, headers: dict[str, Any], wait: float
) -> None:
    """A 403 or 429 without Discord's JSON concerns this address, not the guild."""
    bench.server.answer(wire.reply(status, HTML, **headers))

    with pytest.raises(errors.EgressBlocked) as blocked:
        await bench.channels()

    assert (blocked.value.status, blocked.value.retry_after) == (status, wait)
    assert len(bench.server.requests) == 1
    assert [answer.is_discord for answer in bench.permits.settled] == [False]


async def test_egress_is_blocked_when_discords_json_has_the_edge_block_code(bench: conftest.Bench) -> None:
    """40333 concerns this address although the body is Discord's JSON."""
    bench.server.answer(wire.reply(403, {"message": "internal network error", "code": 40333}))

    with pytest.raises(errors.EgressBlocked):
        await bench.channels()

    assert [answer.is_discord for answer in bench.permits.settled] == [False]


TRANSIENT = {
    "500": wire.reply(500, {"message": "x", "code": 0}),
    "502": wire.reply(502, HTML),
    "408": wire.reply(408, b""),
    **{
        f"{status}-{name}": wire.reply(status, body)
        for status in (400, 401, 404, 405, 409, 451, 520)
        for name, body in {
            "html": HTML,
            "empty": b"",
            "without-code": {"message": "x"},
            "code-as-text": {"message": "x", "code": "10004"},
            "other-json": {"title": "Error 1010", "status": 403, "error_code": 1010},
        }.items()
    },
    "403-without-code": wire.reply(403, {"message": "x"}),
    "204": wire.reply(204, b""),
    "302": wire.reply(302, b"", Location="/"),
    "200-with-an-error": wire.reply(200, {"message": "Missing Access", "code": 50001}),
    "200-rows-of-another-kind": wire.reply(200, [1, "a", None]),
    "dropped": wire.DROP,
    "timeout": wire.HANG,
    "truncated-body": wire.reply(200, [{"id": "7", "type": 0}], cut=5),
    "truncated-json": wire.reply(200, b'[{"id": "7", "ty'),
    "other-json": wire.reply(200, {"channels": []}),
    "html": wire.reply(200, HTML),
    "nested-deeply": wire.reply(200, b"[" * 200_000),
    "nested-deeply-in-an-unknown-field": wire.reply(200, b'[{"id": "7", "type": 0, "x": ' + NESTED + b"}]"),
    "500-nested-deeply": wire.reply(500, b'{"message": "x", "errors": ' + NESTED + b"}"),
    "404-nested-deeply": wire.reply(404, b'{"message": "x", "errors": ' + NESTED + b"}"),
    "not-http": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "long-header": wire.reply(200, [], X_Long="x" * 100_000),
    "not-gzip": wire.reply(200, b"[]", Content_Encoding="gzip"),
}


@pytest.mark.parametrize("answer", TRANSIENT.values(), ids=TRANSIENT.keys())
async def test_call_is_retried_when_the_failure_is_transient(bench: conftest.Bench, answer: bytes) -> None:
    """Each attempt has its own permit; both are settled."""
    bench.server.answer(answer, wire.reply(200, [{"id": "7", "type": 0, "name": "x", "permission_overwrites": []}]))

    assert await bench.channels() == [values.channel(7, name="x")]

    assert len(bench.server.requests) == len(bench.permits.charges) == len(bench.permits.settled) == 2


@pytest.mark.parametrize("answer", TRANSIENT.values(), ids=TRANSIENT.keys())
async def test_discord_transient_is_raised_when_the_second_attempt_fails_as_well(
    bench: conftest.Bench, answer: bytes
) -> None:
    """No exception of a library reaches the caller; every permit is settled or given back."""
    bench.server.answer(*[answer] * 3)

    with pytest.raises(errors.DiscordTransient):
        await bench.channels()

    assert len(bench.server.requests) == 2
    assert bench.permits.balanced


NO_LISTING = ["html", "other-json", "200-rows-of-another-kind", "truncated-json"]


@pytest.mark.parametrize("name", [*NO_LISTING, "truncated-body", "dropped", "502"])
async def test_an_answer_is_unreadable_when_it_is_complete_and_no_listing(bench: conftest.Bench, name: str) -> None:
    """Only such an answer may stay as it is however often it is fetched."""
    bench.server.answer(*[TRANSIENT[name]] * 2)

    with pytest.raises(errors.DiscordTransient) as failure:
        await bench.channels()

    assert isinstance(failure.value, errors.AnswerUnreadable) is (name in NO_LISTING)


@pytest.mark.parametrize("name", ["dropped", "timeout", "truncated-body", "not-http"])
async def test_permit_is_settled_without_a_status_when_no_complete_response_arrived(
    bench: conftest.Bench, name: str
) -> None:
    """Discord may have counted the request at any moment until now, so the limiter keeps the full hold."""
    bench.server.answer(TRANSIENT[name])

    await bench.channels()

    assert [answer.status for answer in bench.permits.settled] == [None, 200]


async def test_no_token_is_shown_when_a_call_fails(bench: conftest.Bench) -> None:
    """Neither in the error and its causes nor in the log of the second attempt."""
    bench.server.answer(*[wire.DROP] * 2, wire.reply(401, {"message": "x", "code": 0}))
    credential = values.credential(access_token="the-secret-of-the-user")
    texts = []

    with structlog.testing.capture_logs() as logged:
        for _ in range(2):
            with pytest.raises(errors.IndexerError) as failed:
                await bench.discord.user_guilds(credential, conftest.PURPOSE)
            texts += traceback.format_exception(failed.value, limit=0)

    assert "the-secret" not in "".join(texts) + repr(logged) + repr(credential)


@pytest.mark.parametrize("status", [403, 429])
async def test_egress_is_blocked_when_the_error_body_is_nested_too_deeply(bench: conftest.Bench, status: int) -> None:
    """Such a body is not Discord's; the permit is settled."""
    bench.server.answer(wire.reply(status, b'{"message": "x", "errors": ' + NESTED + b"}"))

    with pytest.raises(errors.EgressBlocked):
        await bench.channels()

    assert bench.permits.balanced
