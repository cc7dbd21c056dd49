"""A proxy that cuts connections."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator


class Cutter:
    """
    Forwards connections to one of several addresses, and cuts all of them again and again.

    Args:
        addresses: Where connections go to, in turns.
        every: Seconds between two cuts; 0 cuts on command only.

    Attributes:
        cuts: Connections that were cut.
    """

    def __init__(self, addresses: list[str], *, every: float) -> None:
        self.cuts = 0
        self._every = every
        self.port = 0
        self._targets = itertools.cycle(addresses)
        self._open: set[asyncio.StreamWriter] = set()
        self._forwarding: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Cutter"]:
        """Forward until the block ends."""
        server = await asyncio.start_server(self._forward, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        cutting = asyncio.create_task(self._cut_again_and_again())
        try:
            yield self
        finally:
            cutting.cancel()
            server.close()
            while self._forwarding:  # one that is just being connected has nothing to cut yet
                self.cut()
                await asyncio.wait(self._forwarding, timeout=0.1)

    async def _cut_again_and_again(self) -> None:
        while True:
            await asyncio.sleep(self._every or 3600.0)
            self.cut()

    def cut(self) -> int:
        """Cut all connections; returns how many there were."""
        found = len(self._open) // 2
        self.cuts += found
        for writer in self._open:
            writer.transport.abort()
        self._open.clear()
        return found

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._connect(reader, writer))
        self._forwarding.add(task)
        task.add_done_callback(self._forwarding.discard)
        await task

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = next(self._targets).rsplit(":", 1)
        try:
            to_reader, to_writer = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, to_writer}
        await asyncio.gather(self._pump(reader, to_writer), self._pump(to_reader, writer))
        self._open -= {writer, to_writer}

    @staticmethod
    async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(65_536):
                writer.write(chunk)
        writer.transport.abort()
