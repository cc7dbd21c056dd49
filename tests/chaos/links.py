"""
A TCP proxy for one pair of parts, such as worker-1 and Redis, with the faults of a network.

Bytes are read as soon as they arrive and kept in order, so that a held link delivers them late, also those of a client
that has gone meanwhile, as TCP does after a partition.
"""

import asyncio
import contextlib
import dataclasses
import random
import socket
import struct
from collections.abc import Awaitable, Callable

PIECE = 65_536
PIECES = 64
"""Pieces that a direction keeps before it reads no more, so that a slow reader is felt at the other end."""
STALL = (0.2, 1.0)
"""Seconds by which TCP's retransmission delays a lost segment, and all behind it."""
CONNECT_TIMEOUT = 3.0
NO_LINGER = struct.pack("ii", 1, 0)
"""With a linger time of zero, closing sends RST."""

Serve = Callable[
    [asyncio.StreamReader, asyncio.StreamWriter, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]
]
"""Serves one connection in place of the plain proxy: client's reader and writer, server's reader and writer."""


@dataclasses.dataclass(slots=True)
class Weather:
    """
    The present faults of a link.

    Attributes:
        delay: Least and longest delay of a piece in each direction, in seconds.
        loss: Probability that a piece is lost, and delivered after TCP's retransmission.
        rate: Bytes per second towards the client; 0 is unlimited.
        blackhole: Bytes are swallowed, without FIN or RST; the connections that lost some stay dead for ever.
        refuse: New connections are reset.
        lose_reply: Reset a connection in place of its next reply.
    """

    delay: tuple[float, float] = (0.0, 0.0)
    loss: float = 0.0
    rate: float = 0.0
    blackhole: bool = False
    refuse: bool = False
    lose_reply: bool = False


@dataclasses.dataclass(eq=False, slots=True)
class _Pair:
    """The two ends of one connection; `dead` when bytes of it were swallowed."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    dead: bool = False

    def reset(self) -> None:
        for end in (self.client, self.server):
            _reset(end)


class Link:
    """
    Listens on a port and passes connections on to an upstream address.

    Attributes:
        port: The port.
        weather: The present faults; replace fields to change them.
        catch: Holds a connection from the first piece for which it returns True until `release`.
        serve: Serves new connections in place of the plain proxy.
    """

    def __init__(self, upstream: Callable[[], tuple[str, int]], seed: str) -> None:
        self.port = 0
        self.weather = Weather()
        self.catch: Callable[[bytes], bool] | None = None
        self.serve: Serve | None = None
        self._upstream = upstream
        self._dice = random.Random(seed)
        self._open, self._released = asyncio.Event(), asyncio.Event()
        self._open.set()
        self._pairs: set[_Pair] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, backlog=4096)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and reset all connections."""
        if self._server is not None:
            self._server.close()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def connections(self) -> int:
        """Number of connections that lead to the upstream."""
        return len(self._pairs)

    def hold(self) -> None:
        """Deliver nothing until `release`."""
        self._open.clear()

    def release(self) -> None:
        """Deliver what was held or caught, in order."""
        self._open.set()
        self._released.set()

    def heal(self) -> None:
        """End all faults."""
        self.weather = Weather()
        self.catch = self.serve = None
        self.release()

    def cut(self) -> None:
        """Reset both ends of every connection."""
        for pair in list(self._pairs):
            pair.reset()

    def half_close(self) -> None:
        """Send FIN to every client, and keep delivering what it sends."""
        for pair in self._pairs:
            _end(pair.client)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await self._connect(reader, writer)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.weather.refuse:
            _reset(writer)
            return
        try:
            host, port = self._upstream()
            server_reader, server_writer = await asyncio.wait_for(asyncio.open_connection(host, port), CONNECT_TIMEOUT)
        except (OSError, TimeoutError):
            _reset(writer)
            return
        pair = _Pair(writer, server_writer, dead=self.weather.blackhole)
        self._pairs.add(pair)
        try:
            if self.serve is not None:
                await self.serve(reader, writer, server_reader, server_writer)
            else:
                await asyncio.gather(self._carry(pair, reader, server_writer), self._carry(pair, server_reader, writer))
        finally:
            self._pairs.discard(pair)
            pair.reset()

    async def _carry(self, pair: _Pair, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one direction until its end; an error ends both directions."""
        kept: asyncio.Queue[bytes] = asyncio.Queue(PIECES)
        reading = asyncio.create_task(_read(reader, kept))
        try:
            while data := await kept.get():
                await self._deliver(pair, writer, data)
            if not pair.dead:
                await self._open.wait()
                _end(writer)
        except (OSError, RuntimeError):
            # A RuntimeError: the server answers after a half-close.
            pair.reset()
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _deliver(self, pair: _Pair, writer: asyncio.StreamWriter, data: bytes) -> None:
        down = writer is pair.client
        if not down and self.catch is not None and self.catch(data):
            self._released.clear()
            await self._released.wait()
        await self._open.wait()
        weather = self.weather
        if weather.delay[1]:
            await asyncio.sleep(self._dice.uniform(*weather.delay))
        if weather.loss and self._dice.random() < weather.loss:
            await asyncio.sleep(self._dice.uniform(*STALL))
        await self._open.wait()
        pair.dead = pair.dead or self.weather.blackhole
        if pair.dead:
            return
        if down and weather.lose_reply:
            weather.lose_reply = False
            raise ConnectionResetError
        if down and weather.rate:
            await self._trickle(writer, data)
        else:
            writer.write(data)
            await writer.drain()

    async def _trickle(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        while data:
            rate = self.weather.rate or PIECE * 100.0
            part, data = data[: max(1, int(rate / 10))], data[max(1, int(rate / 10)) :]
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(len(part) / rate)


async def _read(reader: asyncio.StreamReader, kept: "asyncio.Queue[bytes]") -> None:
    data = b" "
    while data:
        try:
            data = await reader.read(PIECE)
        except OSError:
            data = b""
        await kept.put(data)


def _end(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, RuntimeError):
        if not writer.is_closing():
            writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    connected: socket.socket | None = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        if connected is not None:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
    writer.transport.abort()
