"""A server that speaks Redis' protocol and answers what a test says, for asyncio's clients and for threads."""

import contextlib
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

OK = b"+OK\r\n"
CLOSE = b""
"""In place of a reply: the server closes the connection."""
HANDSHAKE = frozenset({"HELLO", "CLIENT", "AUTH", "SELECT"})
SILENCE = b"silence"
"""In place of a reply: the server never answers."""


def bulk(text: str) -> bytes:
    """Return a bulk string."""
    return b"$%d\r\n%s\r\n" % (len(text.encode()), text.encode())


def array(*items: bytes) -> bytes:
    """Return an array of encoded items."""
    return b"*%d\r\n%s" % (len(items), b"".join(items))


def error(text: str) -> bytes:
    """Return an error."""
    return f"-{text}\r\n".encode()


class FakeRedis:
    """
    Answers each command from `replies`, one after another, the last one for ever; else with OK.

    Attributes:
        replies: By the command's name in upper case: encoded replies, or a function of the arguments.
        commands: The commands that came, without those of the handshake, which are in `handshakes`.
        connections: How many connections were made.
        facts: The reply to HELLO.
    """

    def __init__(self) -> None:
        self.replies: dict[str, list[bytes] | Callable[[list[str]], bytes]] = {}
        self.commands: list[list[str]] = []
        self.handshakes: list[list[str]] = []
        self.connections = 0
        self.facts = {"server": "redis", "version": "7.0.15", "proto": "3", "mode": "standalone", "role": "master"}
        self._lock = threading.Lock()
        fake = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(ConnectionError, ValueError):
                    fake._serve(self.rfile, self.wfile)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            block_on_close = False

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        self._open: set[Any] = set()

    @property
    def url(self) -> str:
        """The URL of the server."""
        return f"redis://127.0.0.1:{self.port}/0"

    def named(self, name: str) -> list[list[str]]:
        """Return the commands of a name."""
        return [command for command in self.commands if command[0].upper() == name]

    def _serve(self, reader: Any, writer: Any) -> None:  # noqa: ANN401 -- socketserver's files
        with self._lock:
            self.connections += 1
        while line := reader.readline():
            arguments = []
            for _ in range(int(line[1:])):
                length = int(reader.readline()[1:])
                arguments.append(reader.read(length + 2)[:-2].decode())
            reply = self._reply(arguments)
            if reply == CLOSE:
                return
            if reply == SILENCE:
                time.sleep(60)
                return
            writer.write(reply)
            writer.flush()

    def _reply(self, arguments: list[str]) -> bytes:
        name = arguments[0].upper()
        with self._lock:
            known = self.replies.get(name)
            (self.handshakes if name in HANDSHAKE else self.commands).append(arguments)
            if callable(known):
                return known(arguments)
            if known:
                return known[0] if len(known) == 1 else known.pop(0)
        if name == "HELLO":
            pairs = b"".join(
                bulk(key) + (b":3\r\n" if key == "proto" else bulk(value)) for key, value in self.facts.items()
            )
            return b"%%%d\r\n%s" % (len(self.facts), pairs)
        return b"+PONG\r\n" if name == "PING" else OK

    @contextlib.contextmanager
    def running(self) -> Iterator["FakeRedis"]:
        """Serve until the block ends."""
        thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()


def refuse_connections() -> int:
    """Return a port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
