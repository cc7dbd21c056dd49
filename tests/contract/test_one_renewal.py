"""Ten real processes find one user's token dead at once: one call to the token endpoint, over real servers."""

import asyncio
import concurrent.futures
import contextlib
import json
import multiprocessing
import os
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from multiprocessing import synchronize
from typing import Any

import pymongo
import pytest
from dramatiq.brokers import stub
from prometheus_client import registry

from indexing import settings, wiring
from indexing.domain import model, ports
from indexing.telemetry import metrics
from indexing.usecases import tokens
from tests import values

PROCESSES = 10
STARTED: synchronize.Barrier | None = None
"""In a child: where all of them wait for each other."""


def _begin(variables: dict[str, str], together: synchronize.Barrier) -> None:
    """Make a child what it is to be."""
    global STARTED  # noqa: PLW0603 -- how multiprocessing hands a barrier over
    os.environ |= variables  # noqa: TID251 -- for the settings, in a process of our own
    STARTED = together


def _want(user: int, refused: bool) -> str:  # noqa: FBT001 -- only called by name of position, over a pipe
    """Be one process that wants the user's token at the same moment as the others; returns what it may use."""
    return asyncio.run(_wanting(user, refused=refused))


async def _wanting(user: int, *, refused: bool) -> str:
    seen = metrics.Metrics(registry.CollectorRegistry())
    config = settings.load()
    async with wiring.open_components(config, stub.StubBroker(middleware=[]), seen, time.time) as parts:  # noqa: TID251 -- the one clock of this process
        case = tokens.TokenManager(parts.dependencies, config.indexing, seen.indexing)
        purpose = ports.Purpose(model.Lane.BACKGROUND, user, "", 1.0)
        used = (await parts.dependencies.credentials.get(user)).credential
        assert STARTED is not None
        await asyncio.to_thread(STARTED.wait, 60)
        pair = await (case.renew_refused(user, used, purpose) if refused else case.get_usable(user, purpose))
        return pair.access_token


class Discord:
    """The simulator, in a process of its own."""

    def __init__(self, shown: dict[str, Any]) -> None:
        self.base: str = shown["base_url"]
        self.user = int(shown["users"][0]["id"])
        self._pages: str = shown["control_url"]

    def renewals(self) -> dict[str, int]:
        """Return the calls to the token endpoint, by status."""
        with urllib.request.urlopen(f"{self._pages}/stats", timeout=10) as answer:  # noqa: S310 -- loopback
            counted = json.load(answer)["by_route_status"]
        return {key.rpartition(" ")[2]: count for key, count in counted.items() if "/oauth2/token" in key}


@pytest.fixture
def discord() -> Iterator[Discord]:
    """A simulated Discord that takes its time."""
    command = [sys.executable, "-m", "devstack.simulator", "--with-parent", "--latency", "200-400"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield Discord(json.loads(process.stdout.readline()))
        finally:
            process.kill()


@pytest.fixture
def variables(discord: Discord, redis_settings: settings.RedisSettings, mongodb_url: str) -> Iterator[dict[str, str]]:
    """The environment of the ten."""
    database = f"test-{uuid.uuid4().hex}"
    yield {
        "DISCORD_API_BASE": discord.base,
        "DISCORD_BOT_TOKEN": "sim-bot-token",
        "DISCORD_CLIENT_ID": "sim-client",
        "DISCORD_CLIENT_SECRET": "sim-secret",
        "INDEXER_CREDENTIAL_KEYS": "a" * 43,
        "LIMITER_HOLD": "0",
        "REDIS_URL": redis_settings.url.get_secret_value(),
        "MONGODB_URL": mongodb_url,
        "MONGODB_DATABASE": database,
    }
    with pymongo.MongoClient[dict[str, object]](mongodb_url) as client:
        client.drop_database(database)


@contextlib.contextmanager
def _ten(variables: dict[str, str]) -> Iterator[concurrent.futures.Executor]:
    # One server imports everything once; the processes are its forks, each with a loop and connections of its own.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    together = context.Barrier(PROCESSES)
    with concurrent.futures.ProcessPoolExecutor(
        PROCESSES, mp_context=context, initializer=_begin, initargs=(variables, together)
    ) as pool:
        yield pool


@pytest.mark.parametrize("refused", [False, True], ids=["expired", "refused"])
async def test_one_call_is_made_when_ten_processes_find_a_token_dead(
    discord: Discord,
    variables: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    refused: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """By its date, or because Discord said so: one renews it, nine wait, and all ten go on with the same new token."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    user, seen = discord.user, metrics.Metrics(registry.CollectorRegistry())
    async with wiring.open_components(settings.load(), stub.StubBroker(middleware=[]), seen, time.time) as parts:  # noqa: TID251 -- the one clock of this process
        now = parts.dependencies.clock()
        dead = values.credential(
            access_token=f"sim-user-{user}",
            refresh_token=f"sim-refresh-{user}-0",
            expires_at=None if refused else now - 1.0,
        )
        await parts.dependencies.users.put_credential(user, dead)

        with _ten(variables) as pool:
            loop = asyncio.get_running_loop()
            tokens = await asyncio.gather(*(loop.run_in_executor(pool, _want, user, refused) for _ in range(PROCESSES)))

        stored = await parts.dependencies.users.credential(user)
    assert discord.renewals() == {"200": 1}
    assert tokens == [f"sim-user-{user}-1"] * PROCESSES
    assert (stored.access_token, stored.refresh_token) == (f"sim-user-{user}-1", f"sim-refresh-{user}-1")
