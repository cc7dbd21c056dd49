"""The web server of /metrics: its address, and what strangers can do to it."""

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from indexing.telemetry import web
from tests import servers

LONG = 10.0


def application(_environ: object, respond: Callable[..., Any]) -> Iterable[bytes]:
    """Answer every request."""
    respond("200 OK", [("Content-Type", "text/plain")])
    return [b"page"]


def read_page(port: int, host: str = "127.0.0.1") -> bytes:
    """Read the page, as a scraper does."""
    connection = http.client.HTTPConnection(host, port, timeout=LONG)
    with contextlib.closing(connection):
        connection.request("GET", "/metrics")
        return connection.getresponse().read()


@contextlib.contextmanager
def half_sent(port: int, count: int) -> Iterator[list[socket.socket]]:
    """Open connections and send one byte on each."""
    with contextlib.ExitStack() as stack:
        opened = []
        for _ in range(count):
            one = stack.enter_context(socket.create_connection(("127.0.0.1", port), LONG))
            one.sendall(b"G")
            opened.append(one)
        yield opened


def test_a_page_is_served_at_once_when_strangers_hold_all_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest connections are closed, long before their time is over."""
    monkeypatch.setattr(web, "TIME_LIMIT", 6 * LONG)
    port = servers.free_port()

    with web.serving(("127.0.0.1", port), application), half_sent(port, 5 * web.MAX_CONNECTIONS) as opened:
        assert read_page(port) == b"page"
        ends = [one.recv(100) for one in opened[: 4 * web.MAX_CONNECTIONS]]

    assert set(ends) == {b""}


@pytest.mark.parametrize("sent", [pytest.param(b"", id="nothing-sent"), pytest.param(b"GET / HTTP/1.1\r\n", id="half")])
def test_a_connection_is_closed_when_its_time_is_over(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scraper sends its request at once."""
    monkeypatch.setattr(web, "CHECK_INTERVAL", 0.01)
    monkeypatch.setattr(web, "TIME_LIMIT", 0.2)
    port = servers.free_port()

    with (
        web.serving(("127.0.0.1", port), application),
        socket.create_connection(("127.0.0.1", port), LONG) as one,
    ):
        began = time.monotonic()
        one.sendall(sent)
        end = one.recv(100)
        took = time.monotonic() - began

    assert end == b""
    assert 0.1 < took < LONG / 2


def test_an_answer_may_take_longer_when_its_request_has_arrived(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exporter reads all its sources first."""
    monkeypatch.setattr(web, "CHECK_INTERVAL", 0.01)
    monkeypatch.setattr(web, "TIME_LIMIT", 0.1)
    port = servers.free_port()
    looked = threading.Event()
    beyond = time.monotonic() + 0.3
    look = web._Server.service_actions

    def service_actions(server: web._Server) -> None:
        look(server)
        if time.monotonic() > beyond:
            looked.set()

    def wait(environ: object, respond: Callable[..., Any]) -> Iterable[bytes]:
        assert looked.wait(LONG)
        return application(environ, respond)

    monkeypatch.setattr(web._Server, "service_actions", service_actions)

    with web.serving(("127.0.0.1", port), wait):
        assert read_page(port) == b"page"


@pytest.mark.parametrize(
    ("host", "refused"), [pytest.param("127.0.0.1", True, id="loopback"), pytest.param("", False, id="all")]
)
def test_a_page_is_served_on_its_address_only_when_one_is_given(host: str, *, refused: bool) -> None:
    """127.0.0.2 stands for any other address of the machine."""
    port = servers.free_port()

    with web.serving((host, port), application):
        assert read_page(port) == b"page"
        with pytest.raises(ConnectionRefusedError) if refused else contextlib.nullcontext():
            assert read_page(port, "127.0.0.2") == b"page"


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_a_page_is_served_by_ipv6_when_no_address_is_given() -> None:
    """A cluster may have IPv6 alone."""
    port = servers.free_port()

    with web.serving(("", port), application):
        assert read_page(port, "::1") == b"page"
