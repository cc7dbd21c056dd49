"""When a server counts as slow, and what is said."""

import pytest
import structlog.testing

from indexing.telemetry import slow_servers
from tests import clockwork


@pytest.fixture
def clock() -> clockwork.ManualClock:
    """A clock that a test advances."""
    return clockwork.ManualClock()


def observe(server: slow_servers.SlowServer, clock: clockwork.ManualClock, seconds: float, count: int = 30) -> None:
    """Take in one command a second."""
    for _ in range(count):
        clock.advance(1.0)
        server.observe(seconds)


def test_one_line_is_logged_when_a_server_becomes_slow(clock: clockwork.ManualClock) -> None:
    """With what the slower commands take; one more line says that it has recovered."""
    server = slow_servers.SlowServer("mongodb", 0.1, clock=clock)

    with structlog.testing.capture_logs() as lines:
        observe(server, clock, 0.02)
        observe(server, clock, 0.6)
        observe(server, clock, 0.02, count=90)

    said = [(line["log_level"], line["event"], line["server"]) for line in lines]
    assert said == [("warning", "server_slow", "mongodb"), ("info", "server_recovered", "mongodb")]
    assert lines[0]["p95"] == 0.6


def test_a_server_is_not_slow_when_few_commands_are(clock: clockwork.ManualClock) -> None:
    """A single late command is no trend."""
    server = slow_servers.SlowServer("mongodb", 0.1, clock=clock)

    observe(server, clock, 0.02, count=40)
    observe(server, clock, 5.0, count=2)

    assert not server.is_slow()


def test_a_server_near_its_limit_is_logged_once_when_it_wavers(clock: clockwork.ManualClock) -> None:
    """It has recovered only below half of the limit."""
    server = slow_servers.SlowServer("redis", 0.1, clock=clock)

    with structlog.testing.capture_logs() as lines:
        for _ in range(5):
            observe(server, clock, 0.11, count=70)
            observe(server, clock, 0.09, count=70)

    assert [line["event"] for line in lines] == ["server_slow"]


def test_a_server_is_not_slow_when_it_was_not_used_for_a_minute(clock: clockwork.ManualClock) -> None:
    """Nothing waits for it."""
    server = slow_servers.SlowServer("redis", 0.1, clock=clock)
    observe(server, clock, 0.5)
    assert server.is_slow()

    clock.advance(61.0)

    assert not server.is_slow()
