"""The client between a scripted server and a limiter that records calls."""

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Iterator
from typing import cast

import pytest
import stamina
from prometheus_client import registry

from indexing import settings
from indexing.discord import client, oauth
from indexing.domain import model, ports
from indexing.ratelimit import limiter
from indexing.telemetry import metrics
from tests import values
from tests.unit.discord import wire

BOT_TOKEN = "the-secret-of-the-bot"
CLIENT_SECRET = "the-secret-of-the-application"
PURPOSE = ports.Purpose(model.Lane.INTERACTIVE, values.USER, "job:guild", 0.75)


@dataclasses.dataclass(frozen=True)
class Bench:
    """All parts of one test."""

    discord: client.DiscordClient
    oauth: oauth.OAuth
    server: wire.Server
    permits: wire.RecordingLimiter
    registry: registry.CollectorRegistry

    async def channels(self, guild_id: int = values.GUILD) -> list[model.Channel] | None:
        """Fetch a guild's channels with a precondition that holds."""

        async def true() -> bool:
            return True

        return await self.discord.guild_channels(guild_id, PURPOSE, true)


@pytest.fixture(autouse=True)
def no_pauses() -> Iterator[None]:
    """Make the client's second attempt follow without a pause."""
    with stamina.set_testing(True, attempts=client.ATTEMPTS):
        yield


@contextlib.asynccontextmanager
async def open_bench(*, charge_bot_reads: bool = True) -> AsyncIterator[Bench]:
    """Open a client with a short timeout and the smallest body limit."""
    to = registry.CollectorRegistry()
    permits = wire.RecordingLimiter()
    async with wire.serving() as server:
        config = settings.DiscordSettings(
            api_base=f"{server.base}/api/v10", bot_token=BOT_TOKEN, timeout=0.6, max_body_bytes=2**20
        )
        async with client.open_session(config) as session:
            seen = metrics.Metrics(to).discord
            discord = client.DiscordClient(
                session, cast("limiter.Limiter", permits), config, seen, charge_bot_reads=charge_bot_reads
            )
            discord.outage.note_answer()  # lately, so that a failure makes no probe
            named = settings.OAuthSettings(client_id="the-client", client_secret=CLIENT_SECRET)
            yield Bench(discord, oauth.OAuth(discord, named), server, permits, to)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """A client with the default settings."""
    async with open_bench() as opened:
        yield opened
