"""A MongoDB that is old, lacks features, is read-only or slow: the embedded server behind a proxy that plays it."""

import asyncio
import contextlib
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

import bson

from tests.chaos import links, mongo_faults

OLD_WIRE_VERSION = 7
"""MongoDB 4.0's."""
OP_QUERY, OP_REPLY = 2004, 1
REFUSED_LOGIN = {"ok": 0.0, "errmsg": "Authentication failed.", "code": 18, "codeName": "AuthenticationFailed"}
NOT_IMPLEMENTED = {"ok": 0.0, "errmsg": "partialFilterExpression", "code": 238, "codeName": "NotImplemented"}
UNAUTHORIZED = "not authorized on db to execute command {{ {command}: 1 }}"
HELLO = frozenset({"hello", "ismaster", "isMaster"})
HANDSHAKE = HELLO | {"ping"}
SECONDARY = {
    "ok": 1.0,
    "helloOk": True,
    "isWritablePrimary": False,
    "ismaster": False,
    "secondary": True,
    "setName": "rs",
    "minWireVersion": 0,
    "maxWireVersion": 21,
    "maxBsonObjectSize": 16_777_216,
    "maxMessageSizeBytes": 48_000_000,
    "maxWriteBatchSize": 100_000,
    "logicalSessionTimeoutMinutes": 30,
}
"""What a member of a replica set that is not its primary says of itself; 21 is MongoDB 7.0."""


class Proxy:
    """
    The embedded server behind a link, whose loop runs in a thread; use it as a context manager.

    Attributes:
        url: The URL for the product.
    """

    def __init__(self, upstream: int) -> None:
        self._loop = asyncio.new_event_loop()
        self._faults = mongo_faults.MongoFaults()
        self._link = links.Link(lambda: ("127.0.0.1", upstream), "kinds")
        self.url = ""

    def __enter__(self) -> Self:
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._run(self._link.open())
        self.url = f"mongodb://127.0.0.1:{self._link.port}/?directConnection=true"
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._link.close())
        self._loop.call_soon_threadsafe(self._loop.stop)

    def play(self, play: Callable[[str], Mapping[str, Any] | None]) -> None:
        """Answer commands as *play* says, on new connections too; those that are open are cut."""
        self._faults.play = play
        self._link.serve = self._faults.serve
        self._loop.call_soon_threadsafe(self._link.cut)

    def slow_down(self, seconds: float) -> None:
        """Delay each operation."""
        self._link.weather.delay = (seconds / 2, seconds / 2)

    def refuse(self) -> None:
        """End all connections and refuse new ones."""
        self._run(self._link.close())

    def _run(self, coroutine: Any) -> None:  # noqa: ANN401 -- any coroutine
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)


def read_only(command: str) -> Mapping[str, Any] | None:
    """Refuse writes, as a server that has stepped down and says so."""
    if command in HELLO:
        return SECONDARY
    return mongo_faults.NOT_PRIMARY if command in mongo_faults.WRITES else None


def without_rights(command: str) -> Mapping[str, Any] | None:
    """Refuse writes to a user with the role `read`."""
    if command not in mongo_faults.WRITES | {"createIndexes"}:
        return None
    return {"ok": 0.0, "errmsg": UNAUTHORIZED.format(command=command), "code": 13, "codeName": "Unauthorized"}


def without_indexes(command: str) -> Mapping[str, Any] | None:
    """Refuse indexes, as a server that lacks partial ones."""
    return NOT_IMPLEMENTED if command == "createIndexes" else None


def refused_login(command: str) -> Mapping[str, Any] | None:
    """Refuse everything but the handshake, as after a change of the password."""
    return None if command in HANDSHAKE else REFUSED_LOGIN


def disk_full(command: str) -> Mapping[str, Any] | None:
    """Refuse writes for lack of space."""
    return mongo_faults.DISK_FULL if command in mongo_faults.WRITES else None


@contextlib.contextmanager
def old_server() -> Iterator[str]:
    """Run a server that answers every handshake as MongoDB 4.0 does; yields its URL."""
    hello = {
        "ismaster": True,
        "isWritablePrimary": True,
        "minWireVersion": 0,
        "maxWireVersion": OLD_WIRE_VERSION,
        "ok": 1,
    }

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError, struct.error):
                while True:
                    length, number, _, code = mongo_faults.HEADER.unpack(self.rfile.read(mongo_faults.HEADER.size))
                    self.rfile.read(length - mongo_faults.HEADER.size)
                    flags = struct.pack("<iqii", 0, 0, 0, 1) if code == OP_QUERY else struct.pack("<IB", 0, 0)
                    body = flags + bson.encode(hello)
                    reply = OP_REPLY if code == OP_QUERY else mongo_faults.OP_MSG
                    self.wfile.write(
                        mongo_faults.HEADER.pack(mongo_faults.HEADER.size + len(body), 0, number, reply) + body
                    )

    class Listener(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Listener(("127.0.0.1", 0), Handler) as listener:
        threading.Thread(target=listener.serve_forever, daemon=True).start()
        try:
            yield f"mongodb://127.0.0.1:{listener.server_address[1]}"
        finally:
            listener.shutdown()
