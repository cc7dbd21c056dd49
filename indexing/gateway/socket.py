"""
A websocket to the Gateway with zlib-stream.

aiohttp closes with 1000 when its context ends, and answers Discord's close with 1000, which would end the session: the
websocket is closed with `protocol.OUR_CLOSE` before, also when the task is cancelled.
"""

import asyncio
import contextlib
import urllib.parse
import zlib
from collections.abc import AsyncIterator

import aiohttp

from indexing.gateway import protocol

QUERY = "v=10&encoding=json&compress=zlib-stream"
CONNECT_WAIT = 10.0
CLOSE_WAIT = 1.0
SUFFIX = b"\x00\x00\xff\xff"
"""End of a message of the stream (developers/events/gateway.mdx, Transport Compression, read 2026-08-06)."""
MOST_BYTES = 64 << 20
"""Largest inflated message: far above the largest legal guild, 500 channels with 1,000 overwrites each."""


class Disconnected(Exception):
    """The connection ended; `code` is Discord's close code, None without one."""

    def __init__(self, code: int | None) -> None:
        super().__init__(f"closed with {code}")
        self.code = code


class Socket:
    """One open websocket."""

    def __init__(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        self._websocket = websocket
        self._inflate = zlib.decompressobj()
        self._parts = bytearray()
        self.close_code = protocol.OUR_CLOSE

    async def receive(self) -> bytes:
        """Return the next message. Raises Disconnected."""
        while True:
            message = await self._websocket.receive()
            if message.type is aiohttp.WSMsgType.TEXT:
                return str(message.data).encode()
            if message.type is aiohttp.WSMsgType.BINARY:
                self._parts += message.data
                if self._parts[-4:] == SUFFIX:
                    return self._inflated()
                if len(self._parts) > MOST_BYTES:
                    raise Disconnected(None)
                continue
            closed = message.type is aiohttp.WSMsgType.CLOSE
            raise Disconnected(message.data if closed and isinstance(message.data, int) else None)

    def _inflated(self) -> bytes:
        try:
            text = self._inflate.decompress(bytes(self._parts), MOST_BYTES)
        except zlib.error as error:
            raise Disconnected(None) from error
        self._parts.clear()
        if self._inflate.unconsumed_tail:
            raise Disconnected(None)
        return text

    async def send(self, text: str) -> None:
        """Send a message. Raises Disconnected."""
        try:
            await self._websocket.send_str(text)
        except (ConnectionError, aiohttp.ClientError) as error:
            raise Disconnected(None) from error


@contextlib.asynccontextmanager
async def open_socket(http: aiohttp.ClientSession, url: str) -> AsyncIterator[Socket]:
    """Connect to an address from Discord. Raises Disconnected."""
    timeout = aiohttp.ClientWSTimeout(ws_close=CLOSE_WAIT)
    try:
        async with asyncio.timeout(CONNECT_WAIT):
            websocket = await http.ws_connect(
                _with_query(url), max_msg_size=MOST_BYTES, timeout=timeout, autoclose=False
            )
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise Disconnected(None) from error
    socket = Socket(websocket)
    try:
        yield socket
    finally:
        await websocket.close(code=socket.close_code)


def _with_query(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc, parts.path or "/", QUERY, ""))


def is_allowed(url: str, *, insecure: bool) -> bool:
    """Return whether the bot's token may be sent to an address: over TLS, or on a loopback address."""
    parts = urllib.parse.urlsplit(url)
    plain = insecure or parts.hostname in {"127.0.0.1", "::1", "localhost"}
    return parts.scheme == "wss" or (parts.scheme == "ws" and plain)
