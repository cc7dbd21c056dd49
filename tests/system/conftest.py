"""Fixtures of the system tests: a running stack, its API and its simulator."""

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from devstack import stack
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc

FAST = {
    "USER_BUDGET": "40/1",
    "INDEXING_RETRY_BASE": "0.1",
    "INDEXING_SWEEP_INTERVAL": "1",
    "DISCORD_TIMEOUT": "3",
    "INDEXING_TURN_LEASE": "12",
    "INDEXING_GUILD_LEASE": "11",
    "INDEXING_LIST_MAX_AGE": "0",
}
"""Settings with a large user budget, short leases and short retry delays."""


@pytest.fixture(scope="module")
def running() -> Iterator[stack.Stack]:
    """Six users with 14 guilds each, some of them shared; one service, two workers."""
    options = stack.Options(
        users=6,
        workers=2,
        guilds_per_user=14,
        latency="5-25",
        simulator=("--user-limit", "40/1", "--guilds", "40"),
        environment=FAST,
    )
    with stack.Stack(options) as started:
        started.put_credentials()
        yield started


@pytest.fixture
def api(running: stack.Stack) -> Iterator[pb_grpc.IndexerServiceStub]:
    """The API of the first service."""
    with grpc.insecure_channel(running.address) as channel:
        yield pb_grpc.IndexerServiceStub(channel)


@pytest.fixture
def discord(running: stack.Stack) -> Iterator["Simulator"]:
    """The simulator's control endpoints; fault rules are removed after the test."""
    simulator = Simulator(running.simulator_url)
    yield simulator
    simulator.ask("faults", method="DELETE")


class Simulator:
    """Client of the simulator's control endpoints below /_sim."""

    def __init__(self, url: str) -> None:
        self._url = url

    def ask(self, page: str, body: object = None, method: str | None = None) -> Any:  # noqa: ANN401 -- any JSON
        """Return the response of an endpoint; a body is sent as POST."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._url}/_sim/{page}", data, method=method)  # noqa: S310 -- loopback
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 -- loopback
            return json.load(answer)
