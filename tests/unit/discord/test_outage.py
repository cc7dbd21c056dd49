"""An outage of Discord is distinguished from a failure of one resource, and jobs wait until it ends."""

import asyncio

import pytest
import structlog.testing

from indexing import errors
from indexing.discord import outage
from indexing.domain import ports
from tests import clockwork, values
from tests.unit.discord import conftest, wire

PURPOSE = conftest.PURPOSE
DEAD = errors.DiscordTransient("503")


class Gauge:
    """The gauge and the class that has it."""

    def __init__(self) -> None:
        self.outage = self
        self.value = 0.0

    def set(self, value: float) -> None:
        """Remember it."""
        self.value = value


class Bench:
    """A detector whose probes have scripted results; None is an answer."""

    def __init__(self) -> None:
        self.clock = clockwork.running_clock()
        self.results: list[Exception | None] = []
        self.probes: list[float] = []
        self.gauge = Gauge()
        self.detector = outage.OutageDetector(self.probe, self.gauge, self.clock)  # type: ignore[arg-type]  # all it uses

    async def probe(self, _purpose: ports.Purpose) -> None:
        """Give the next result."""
        self.probes.append(self.clock())
        await asyncio.sleep(0.1)
        result = self.results.pop(0) if self.results else None
        if result is not None:
            raise result

    async def fails(self) -> bool:
        """Let a call fail; returns whether that is an outage."""
        try:
            await self.detector.note_failure(PURPOSE)
        except errors.DiscordOutage:
            return True
        return False

    async def may_call(self) -> bool:
        """Return whether a call may be made."""
        try:
            await self.detector.check(PURPOSE)
        except errors.DiscordOutage:
            return False
        return True


@pytest.mark.clockwork
async def test_a_failure_is_no_outage_when_the_probe_is_answered() -> None:
    """The resource is broken, not Discord: it counts as an attempt. Further failures make no probe for a while."""
    bench = Bench()

    assert [await bench.fails() for _ in range(5)] == [False] * 5
    assert len(bench.probes) == 1
    await asyncio.sleep(outage.QUIET + 0.1)
    assert not await bench.fails()
    assert len(bench.probes) == 2


@pytest.mark.clockwork
async def test_no_probe_is_made_when_something_was_answered_lately() -> None:
    """A part of the calls fails: nobody has to wait."""
    bench = Bench()
    bench.detector.note_answer()

    assert not await bench.fails()
    assert bench.probes == []


@pytest.mark.clockwork
@pytest.mark.parametrize("answer", [None, errors.NoAccess(403, 50001), errors.TokenRefused(401, 0)], ids=repr)
async def test_an_outage_ends_when_a_probe_is_answered(answer: Exception | None) -> None:
    """Any answer of Discord will do. Until then one probe is made for all, at growing intervals."""
    bench = Bench()
    bench.results = [DEAD, DEAD, DEAD, DEAD, DEAD, DEAD, answer]
    assert await bench.fails()
    assert bench.gauge.value == 1
    seen = []

    while not await bench.may_call():
        seen.append(await asyncio.gather(*(bench.may_call() for _ in range(5))))
        await asyncio.sleep(0.25)

    pauses = [round(later - earlier) for earlier, later in zip(bench.probes, bench.probes[1:], strict=False)]
    assert pauses == [5, 10, 15, 15, 15, 15]
    assert not any(allowed for row in seen for allowed in row)
    assert bench.gauge.value == 0
    assert await bench.may_call()


@pytest.mark.clockwork
async def test_everybody_waits_for_one_probe_when_many_come_at_once() -> None:
    """Also for the first one, which decides whether there is an outage."""
    bench = Bench()
    bench.results = [DEAD, None]

    assert await asyncio.gather(*(bench.fails() for _ in range(20))) == [True] * 20
    assert len(bench.probes) == 1
    await asyncio.sleep(outage.INTERVALS[0])
    assert await asyncio.gather(*(bench.may_call() for _ in range(20))) == [True] * 20
    assert len(bench.probes) == 2


@pytest.mark.clockwork
@pytest.mark.parametrize(
    "refusal",
    [
        errors.RateLimited("global", retry_after=2.0, why="used up"),
        errors.LimiterUnavailable(2.0),
        errors.EgressBlocked(403, 60.0),
    ],
    ids=lambda refusal: refusal.reason,
)
async def test_nothing_changes_when_a_probe_gets_no_permit(refusal: errors.IndexerError) -> None:
    """It says nothing about Discord: no outage begins by it, and none ends."""
    bench = Bench()
    bench.results = [refusal]
    assert not await bench.fails()
    await asyncio.sleep(outage.QUIET + 0.1)
    bench.results = [DEAD, refusal, None]
    assert await bench.fails()
    await asyncio.sleep(outage.INTERVALS[0])

    assert not await bench.may_call()
    await asyncio.sleep(outage.INTERVALS[-1])
    assert await bench.may_call()


@pytest.mark.clockwork
async def test_the_wait_is_until_the_next_probe_when_there_is_an_outage() -> None:
    """Jobs come back then, and go on by themselves."""
    bench = Bench()
    bench.results = [DEAD]
    with structlog.testing.capture_logs() as logged:
        await bench.fails()
        await asyncio.sleep(2.0)

        with pytest.raises(errors.DiscordOutage) as waiting:
            await bench.detector.check(PURPOSE)
        bench.detector.note_answer()

    assert waiting.value.budget == "discord"
    assert waiting.value.retry_after == pytest.approx(3.0)
    assert [line["event"] for line in logged] == ["discord_outage", "discord_outage_ended"]


async def test_calls_are_refused_without_a_request_when_discord_is_away(bench: conftest.Bench) -> None:
    """The failed call becomes a wait, and further calls ask nothing; the probe is a page of the bot's guilds."""
    bench.discord.outage._answered_at = float("-inf")
    bench.server.answer(*[wire.reply(503, b"")] * 3)

    for _ in range(3):
        with pytest.raises(errors.DiscordOutage):
            await bench.channels()

    assert [request.path for request in bench.server.requests] == [
        f"/api/v10/guilds/{values.GUILD}/channels",
        f"/api/v10/guilds/{values.GUILD}/channels",
        "/api/v10/users/@me/guilds?limit=1",
    ]
    assert bench.registry.get_sample_value("indexer_discord_outage") == 1
    assert bench.permits.balanced


async def test_one_broken_guild_is_no_outage_when_discord_answers_the_probe(bench: conftest.Bench) -> None:
    """It fails after its attempts like today."""
    bench.discord.outage._answered_at = float("-inf")
    bench.server.answer(*[wire.reply(503, b"")] * 2, wire.reply(200, []), *[wire.reply(503, b"")] * 2)

    for _ in range(2):
        with pytest.raises(errors.DiscordTransient):
            await bench.channels()

    assert len(bench.server.requests) == 5


async def test_a_renewal_waits_when_discord_is_away(bench: conftest.Bench) -> None:
    """No refresh token is sent during an outage that is known."""
    bench.discord.outage._answered_at = float("-inf")
    bench.server.answer(*[wire.reply(503, b"")] * 2)

    for _ in range(3):
        with pytest.raises(errors.DiscordOutage):
            await bench.oauth.renew(values.credential(), PURPOSE, 0.0)

    assert [request.path for request in bench.server.requests] == [
        "/api/v10/oauth2/token",
        "/api/v10/users/@me/guilds?limit=1",
    ]
