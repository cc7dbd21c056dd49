"""What becomes of Discord's refusals, and of answers that are none."""

import traceback
from typing import Any

import pytest
import structlog.testing

from indexing import errors
from tests import values
from tests.unit.discord import conftest, wire

HTML = b"<html>error code: 1015</html>"
NESTED = b"[" * 30_000 + b"]" * 30_000
MISSING_ACCESS = {"message": "Missing Access", "code": 50001}


@pytest.mark.parametrize(
    ("status", "body", "error", "code"),
    [
        pytest.param(401, {"message": "401: Unauthorized", "code": 0}, errors.TokenRefused, 0, id="token"),
        pytest.param(401, HTML, errors.TokenRefused, 0, id="token-without-json"),
        pytest.param(403, MISSING_ACCESS, errors.NoAccess, 50001, id="no-access"),
        pytest.param(404, {"message": "Unknown Guild", "code": 10004}, errors.Gone, 10004, id="gone"),
        pytest.param(403, {"message": "Bots only", "code": 20002}, errors.DiscordRefused, 20002, id="wrong-token"),
        pytest.param(400, {"message": "Invalid Form Body", "code": 50035}, errors.DiscordRefused, 50035, id="ours"),
        pytest.param(405, b"", errors.DiscordRefused, 0, id="wrong-method"),
    ],
)
async def test_a_lasting_refusal_is_not_asked_again_when_discord_says_no(
    bench: conftest.Bench, status: int, body: object, error: type[errors.DiscordRefused], code: int
) -> None:
    """One request, one permit, and the kind of refusal by status with Discord's own code."""
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
async def test_the_wait_is_told_when_discord_says_429(
    bench: conftest.Bench, headers: dict[str, Any], body: dict[str, object], budget: str, why: str
) -> None:
    """For how long, by its exact figure, and for what; it is not asked again here, and the limiter learns it all."""
    bench.server.answer(wire.reply(429, body, **headers))

    with pytest.raises(errors.RateLimited) as limited:
        await bench.channels()

    assert (limited.value.budget, limited.value.retry_after, limited.value.why) == (budget, 1.25, why)
    assert len(bench.server.requests) == 1
    (answer,) = bench.permits.settled
    assert (answer.status, answer.body_retry_after, answer.body_global) == (429, 1.25, body["global"])
    assert answer.is_discord
    assert answer.headers["x-ratelimit-scope"] == headers["X_RateLimit_Scope"]


async def test_the_header_counts_when_a_429_has_no_wait_in_its_body(bench: conftest.Bench) -> None:
    """And when neither has one, some second."""
    bench.server.answer(wire.reply(429, {"message": "x"}, Retry_After="7"), wire.reply(429, {"message": "x"}))
    waits = []

    for _ in range(2):
        with pytest.raises(errors.RateLimited) as limited:
            await bench.channels()
        waits.append(limited.value.retry_after)

    assert waits == [7.0, 1.0]


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "-5", "1e300", "soon"])
async def test_a_wait_makes_sense_when_discords_figure_does_not(bench: conftest.Bench, text: str) -> None:
    """A moment that cannot be stored, or that has passed, would break the job or hurry it into the next 429."""
    bench.server.answer(wire.reply(429, {"message": "x"}, Retry_After=text), wire.reply(403, HTML, Retry_After=text))
    waits = []

    for _ in range(2):
        with pytest.raises((errors.RateLimited, errors.EgressBlocked)) as limited:
            await bench.channels()
        waits.append(vars(limited.value)["retry_after"])

    assert all(0.0 < wait <= 86_400.0 for wait in waits)


@pytest.mark.parametrize("figure", ["-5", "0", "1e300"])
async def test_a_wait_makes_sense_when_the_bodys_figure_does_not(bench: conftest.Bench, figure: str) -> None:
    """The same for the JSON."""
    bench.server.answer(wire.reply(429, b'{"message": "x", "retry_after": ' + figure.encode() + b"}"))

    with pytest.raises(errors.RateLimited) as limited:
        await bench.channels()

    assert 0.0 <= limited.value.retry_after <= 86_400.0


@pytest.mark.parametrize("status", [403, 429])
@pytest.mark.parametrize(
    ("headers", "wait"), [({"Retry_After": "90"}, 90.0), ({}, 60.0)], ids=["says-how-long", "says-nothing"]
)
async def test_the_address_is_blocked_when_the_edge_answers_instead_of_discord(
    bench: conftest.Bench, status: int, headers: dict[str, Any], wait: float
) -> None:
    """A 403 or 429 without Discord's JSON: it is about our address, not about this guild."""
    bench.server.answer(wire.reply(status, HTML, **headers))

    with pytest.raises(errors.EgressBlocked) as blocked:
        await bench.channels()

    assert (blocked.value.status, blocked.value.retry_after) == (status, wait)
    assert len(bench.server.requests) == 1
    assert [answer.is_discord for answer in bench.permits.settled] == [False]


async def test_the_address_is_blocked_when_discord_says_so_with_a_code(bench: conftest.Bench) -> None:
    """40333 comes as Discord's own JSON, and is about our address all the same."""
    bench.server.answer(wire.reply(403, {"message": "internal network error", "code": 40333}))

    with pytest.raises(errors.EgressBlocked):
        await bench.channels()

    assert [answer.is_discord for answer in bench.permits.settled] == [False]


PASSING = {
    "500": wire.reply(500, {"message": "x", "code": 0}),
    "502": wire.reply(502, HTML),
    "408": wire.reply(408, b""),
    "404-without-json": wire.reply(404, HTML),
    "dropped": wire.DROP,
    "timeout": wire.HANG,
    "truncated-body": wire.reply(200, [{"id": "7", "type": 0}], cut=5),
    "truncated-json": wire.reply(200, b'[{"id": "7", "ty'),
    "other-json": wire.reply(200, {"channels": []}),
    "html": wire.reply(200, HTML),
    "not-utf8": wire.reply(200, b'[{"id": "7", "type": 0, "name": "\xff"}]'),
    "nested-deeply": wire.reply(200, b"[" * 30_000),
    "nested-deeply-in-an-unknown-field": wire.reply(200, b'[{"id": "7", "type": 0, "x": ' + NESTED + b"}]"),
    "500-nested-deeply": wire.reply(500, b'{"message": "x", "errors": ' + NESTED + b"}"),
    "404-nested-deeply": wire.reply(404, b'{"message": "x", "errors": ' + NESTED + b"}"),
    "too-long": wire.reply(200, b"[" + b" " * 2**16 + b"]"),
    "not-http": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "long-header": wire.reply(200, [], X_Long="x" * 100_000),
    "not-gzip": wire.reply(200, b"[]", Content_Encoding="gzip"),
}


@pytest.mark.parametrize("answer", PASSING.values(), ids=PASSING.keys())
async def test_a_second_attempt_is_made_when_the_failure_may_pass(bench: conftest.Bench, answer: bytes) -> None:
    """Under a permit of its own; both are settled."""
    bench.server.answer(answer, wire.reply(200, [{"id": "7", "type": 0, "name": "x"}]))

    assert await bench.channels() == [values.channel(7, name="x")]

    assert len(bench.server.requests) == len(bench.permits.charges) == len(bench.permits.settled) == 2


@pytest.mark.parametrize("answer", PASSING.values(), ids=PASSING.keys())
async def test_the_failure_is_ours_when_the_second_attempt_fails_as_well(bench: conftest.Bench, answer: bytes) -> None:
    """No library's exception reaches the caller, and no permit is lost track of."""
    bench.server.answer(*[answer] * 3)

    with pytest.raises(errors.DiscordTransient):
        await bench.channels()

    assert len(bench.server.requests) == 2
    assert bench.permits.balanced


@pytest.mark.parametrize("name", ["dropped", "timeout", "truncated-body", "too-long", "not-http"])
async def test_the_permit_stays_held_when_no_whole_answer_came(bench: conftest.Bench, name: str) -> None:
    """Discord may have counted the request at any moment until now."""
    bench.server.answer(PASSING[name])

    await bench.channels()

    assert [answer.status for answer in bench.permits.settled] == [None, 200]


async def test_no_token_is_shown_when_a_call_fails(bench: conftest.Bench) -> None:
    """Neither in the error and its causes nor in what is logged about the second attempt."""
    bench.server.answer(*[wire.DROP] * 2, wire.reply(401, {"message": "x"}))
    credential = values.credential(access_token="the-secret-of-the-user")
    texts = []

    with structlog.testing.capture_logs() as logged:
        for _ in range(2):
            with pytest.raises(errors.IndexerError) as failed:
                await bench.discord.user_guilds(credential, conftest.PURPOSE)
            texts += traceback.format_exception(failed.value, limit=0)

    assert "the-secret" not in "".join(texts) + repr(logged) + repr(credential)


@pytest.mark.parametrize("status", [403, 429])
async def test_the_egress_counts_as_blocked_when_the_error_is_nested_too_deeply(
    bench: conftest.Bench, status: int
) -> None:
    """Such a body is not Discord's; the permit is settled all the same."""
    bench.server.answer(wire.reply(status, b'{"message": "x", "errors": ' + NESTED + b"}"))

    with pytest.raises(errors.EgressBlocked):
        await bench.channels()

    assert bench.permits.balanced
