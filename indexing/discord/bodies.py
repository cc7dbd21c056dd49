"""
Reads response bodies within bounds of size and memory.

A body is read into one bytearray, which the decoders read in place. At most `LARGE_AT_ONCE` bodies above `LARGE` are in
memory in one process; a third one waits in its connection until one of them is decoded.
"""

import asyncio
import contextlib

import aiohttp

LARGE = 4 << 20
"""Bytes from which a body is large: a listing of 500 channels with 100 overwrites each takes about 4 MiB."""
LARGE_AT_ONCE = 2
LARGE_WAIT = 10.0
"""Longest wait, in seconds, for another large body to be decoded; the call's timeout does not count it."""
SMALL_LIMIT = 4 << 20
"""Largest body of a route that is not a listing of channels, in bytes. A page of 200 guilds takes about 0.3 MiB."""
ERROR_LIMIT = 1 << 20
"""Largest body of an error, in bytes; a longer one is not Discord's."""
_CHUNK = 1 << 16


class BodyReader:
    """Reads the bodies of one process."""

    def __init__(self) -> None:
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)

    async def read(
        self,
        response: aiohttp.ClientResponse,
        limit: int,
        held: contextlib.AsyncExitStack,
        deadline: asyncio.Timeout,
    ) -> bytearray | None:
        """
        Return the body, None when it is larger than *limit*.

        A large body's place is given back when *held* is closed. Waiting for a place extends *deadline*.
        """
        body = bytearray()
        is_large = False
        async for chunk in response.content.iter_chunked(_CHUNK):
            body += chunk
            if len(body) > limit:
                return None
            if len(body) > LARGE and not is_large:
                is_large = True
                await self._take_place(held, deadline)
        return body

    async def _take_place(self, held: contextlib.AsyncExitStack, deadline: asyncio.Timeout) -> None:
        if not self._large.locked():
            await held.enter_async_context(self._large)
            return
        now, ends = asyncio.get_running_loop().time, deadline.when()
        began = now()
        deadline.reschedule(began + LARGE_WAIT)
        await held.enter_async_context(self._large)
        deadline.reschedule(None if ends is None else ends + now() - began)
