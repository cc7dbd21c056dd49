"""
The web server of /metrics and of health, in threads of its own.

It answers anyone who reaches its address, so connections are bounded in number and in time: beyond `MAX_CONNECTIONS`
the oldest is closed, because an honest request takes milliseconds.
"""

import contextlib
import math
import socket
import socketserver
import sys
import threading
import time
import wsgiref.simple_server
from collections.abc import Iterator
from typing import Any, TypeAlias

from indexing.telemetry import logs

MAX_CONNECTIONS = 32
"""Connections at once. A scraper and a kubelet use one each."""
TIME_LIMIT = 10.0
"""Seconds in which a request must arrive, and again in which its answer must be taken."""
CHECK_INTERVAL = 0.5
"""Seconds between two looks for connections that are too old."""


Address: TypeAlias = "tuple[str, int]"
"""Host and port. An empty host stands for all addresses, of IPv4 and IPv6; port 0 serves nothing."""


@contextlib.contextmanager
def serving(address: Address, app: Any) -> Iterator[None]:  # noqa: ANN401 -- a WSGI application
    """
    Serve a WSGI application until the block ends.

    Args:
        address: Where to serve.

        app: The application. It is called in several threads at once.

    Raises:
        OSError: The address cannot be bound.
    """
    if not address[1]:
        yield
        return
    server = _Server(address)
    server.set_app(app)
    thread = threading.Thread(target=server.serve_forever, args=(CHECK_INTERVAL,), name="web", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(socketserver.ThreadingMixIn, wsgiref.simple_server.WSGIServer):
    """A thread for each connection, each of which has an age."""

    daemon_threads = True
    request_queue_size = MAX_CONNECTIONS

    def __init__(self, address: Address) -> None:
        self._lock = threading.Lock()
        self._deadlines: dict[socket.socket, float] = {}
        host = address[0] or ("::" if socket.has_dualstack_ipv6() else "0.0.0.0")
        self.address_family = socket.getaddrinfo(host, address[1], type=socket.SOCK_STREAM)[0][0]
        super().__init__((host, address[1]), _Handler)

    def server_bind(self) -> None:
        """Bind, without the look-up of this machine's name that the standard library makes."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 -- as in the base
        """Handle a connection in a thread; closes the oldest one when there are too many."""
        with self._lock:
            if len(self._deadlines) >= MAX_CONNECTIONS:
                oldest = next(iter(self._deadlines))
                del self._deadlines[oldest]
                _hang_up(oldest)
            self._deadlines[request] = time.monotonic() + TIME_LIMIT
        super().process_request(request, client_address)

    def service_actions(self) -> None:
        """Close the connections whose request has not arrived in time; their threads notice."""
        now = time.monotonic()
        with self._lock:
            for connection, deadline in self._deadlines.items():
                if deadline < now:
                    _hang_up(connection)

    def note_request(self, connection: socket.socket) -> None:
        """Set no limit to the time for an answer whose request has arrived; the application limits it."""
        with self._lock:
            if connection in self._deadlines:
                self._deadlines[connection] = math.inf

    def close_request(self, request: Any) -> None:  # noqa: ANN401 -- as in the base
        """Forget a connection that has ended."""
        with self._lock:
            self._deadlines.pop(request, None)
        super().close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401, ARG002 -- as in the base
        """Log an answer that failed; a connection that was lost is no failure."""
        problem = sys.exception()
        if not isinstance(problem, OSError):
            logs.get(__name__).error("web_request_failed", exc_info=problem)


class _Handler(wsgiref.simple_server.WSGIRequestHandler):
    timeout = TIME_LIMIT  # of each read, and of the whole answer
    server: _Server

    def parse_request(self) -> bool:
        """Read the headers, after the first line."""
        complete = super().parse_request()
        self.server.note_request(self.connection)
        return complete

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, ANN401 -- as in the base
        """Write no access log: anyone could fill it."""


def _hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
