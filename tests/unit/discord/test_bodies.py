"""Bodies are read within bounds: of size, and of how many large ones are in memory at once."""

import asyncio
import json

import pytest

from indexing import errors
from indexing.discord import bodies, payloads
from tests import values
from tests.unit.discord import conftest, wire

CHANNEL = {"id": "7", "type": 0, "name": "x", "permission_overwrites": []}
LIMIT = 2**20
"""The bench's largest listing."""


@pytest.fixture(autouse=True)
def patient(bench: conftest.Bench) -> None:
    """Let a call take its time: only one test is about that."""
    bench.discord._config = bench.discord._config.model_copy(update={"timeout": 5.0})


def listing(size: int) -> bytes:
    """Return a listing of at least so many bytes."""
    row = json.dumps(CHANNEL).encode()
    return b"[" + row + b" " * size + b"]"


async def test_a_listing_beyond_the_limit_is_refused_for_good_when_it_arrives(bench: conftest.Bench) -> None:
    """One request, no retry, and the limiter learns from the whole response."""
    bench.server.answer(wire.reply(200, listing(LIMIT), X_RateLimit_Limit="5"))

    with pytest.raises(errors.AnswerTooLarge) as refused:
        await bench.channels()

    assert refused.value.reason == "GUILD_TOO_LARGE"
    assert "DISCORD_MAX_BODY_BYTES" in str(refused.value)
    assert len(bench.server.requests) == 1
    (answer,) = bench.permits.settled
    assert (answer.status, answer.headers["x-ratelimit-limit"]) == (200, "5")


@pytest.mark.parametrize("status", [200, 502])
async def test_another_body_beyond_its_limit_may_pass_when_it_arrives(
    bench: conftest.Bench, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A member or an error is never that large: something in between answered."""
    monkeypatch.setattr(bodies, "SMALL_LIMIT", LIMIT)
    monkeypatch.setattr(bodies, "ERROR_LIMIT", LIMIT)
    bench.server.answer(*[wire.reply(status, listing(LIMIT))] * 2)

    with pytest.raises(errors.DiscordTransient):
        await bench.discord.member_roles(values.USER, values.GUILD, values.credential(scopes=()), conftest.PURPOSE)

    assert [answer.status for answer in bench.permits.settled] == [status] * 2


async def test_an_error_beyond_its_limit_is_not_discords_when_it_arrives(
    bench: conftest.Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 403 of such a size blocks the address like any page of the edge."""
    monkeypatch.setattr(bodies, "ERROR_LIMIT", LIMIT)
    body = json.dumps({"message": "x" * LIMIT, "code": 50001}).encode()
    bench.server.answer(wire.reply(403, body))

    with pytest.raises(errors.EgressBlocked):
        await bench.channels()


async def test_two_large_bodies_are_in_memory_when_four_are_fetched(
    bench: conftest.Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others wait in their connections, beyond the timeout of a call if need be; all are read in the end."""
    monkeypatch.setattr(bodies, "LARGE", 1_000)
    bench.discord._config = bench.discord._config.model_copy(update={"timeout": 0.5})
    decode = payloads.decode_channels_in_slices
    decoding, most = 0, 0

    async def slow(*args: object) -> object:
        nonlocal decoding, most
        decoding += 1
        most = max(most, decoding)
        await asyncio.sleep(0.4)
        decoding -= 1
        return await decode(*args)  # type: ignore[arg-type]  # passed through

    monkeypatch.setattr(payloads, "decode_channels_in_slices", slow)
    bench.server.answer(*[wire.reply(200, listing(20_000))] * 6)

    found = await asyncio.gather(*(bench.channels() for _ in range(6)))

    assert found == [[values.channel(7, name="x")]] * 6
    assert most == bodies.LARGE_AT_ONCE
    assert len(bench.server.requests) == 6


async def test_a_place_is_given_back_when_a_large_body_cannot_be_decoded(
    bench: conftest.Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor when it is too large, or its connection breaks."""
    monkeypatch.setattr(bodies, "LARGE", 1_000)
    for answer in (
        wire.reply(200, b"[" * 5_000),
        wire.reply(200, listing(5_000), cut=9),
        wire.reply(500, b"x" * 5_000),
    ):
        bench.server.answer(answer, answer)
        with pytest.raises(errors.DiscordTransient):
            await bench.channels()
    bench.server.answer(wire.reply(200, listing(LIMIT)))
    with pytest.raises(errors.AnswerTooLarge):
        await bench.channels()

    assert bench.discord._bodies._large._value == bodies.LARGE_AT_ONCE


async def test_waiting_for_a_place_ends_when_it_takes_too_long(
    bench: conftest.Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call is given up then, like one without an answer."""
    monkeypatch.setattr(bodies, "LARGE", 1_000)
    monkeypatch.setattr(bodies, "LARGE_WAIT", 0.05)
    large = bench.discord._bodies._large
    for _ in range(bodies.LARGE_AT_ONCE):
        await large.acquire()
    bench.server.answer(*[wire.reply(200, listing(5_000))] * 2)

    with pytest.raises(errors.DiscordTransient):
        await bench.channels()

    assert [answer.status for answer in bench.permits.settled] == [None, None]


def test_a_list_of_too_many_values_is_refused_when_it_is_large() -> None:
    """Each value of a list costs memory of its own, so their number is bounded before they are split."""
    with pytest.raises(ValueError, match="too many values"):
        payloads.decode_channels(b"[" + b"1," * 6_000_000 + b"1]", 9)
