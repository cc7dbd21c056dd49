"""The HTTP side of Discord: reads a request, delays it, and sends the response or breaks the connection."""

import asyncio
import socket
import struct

from aiohttp import web

from devstack.simulator import calls, replies, request_pipeline, state

_LINGER_ZERO = struct.pack("ii", 1, 0)
_CLIENT_CHECK = 0.25
"""Seconds between two checks whether the client of a hanging call is still connected."""


class HttpHandler:
    """Handles every request except those to the control endpoints."""

    def __init__(self, simulator: state.SimulatorState, pipeline: request_pipeline.RequestPipeline) -> None:
        self._simulator = simulator
        self._pipeline = pipeline

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Handle one call; it is counted on arrival, even if the client has disconnected."""
        self._simulator.stats.request_started()
        try:
            call = calls.Call(
                method=request.method,
                path=request.path,
                query=request.query,
                headers=request.headers,
                body=await request.read() if request.can_read_body else b"",
                origin=request.remote or "",
            )
            await _delay(self._simulator.network.delay())
            reply = self._pipeline.handle_call(call)
            await _delay(self._simulator.network.delay())
            return await _send(request, reply)
        finally:
            self._simulator.stats.request_finished()


async def _delay(seconds: float) -> None:
    if seconds > 0:
        await asyncio.sleep(seconds)


async def _send(request: web.Request, reply: replies.Reply) -> web.StreamResponse:
    response = web.Response(
        status=reply.status,
        body=reply.body,
        headers={**reply.headers, "Content-Type": reply.content_type, "Server": "cloudflare"},
    )
    if reply.connection_fault == "hang":
        await _hang(request, reply.seconds)
    if reply.connection_fault in {"hang", "reset"}:
        _reset(request)
    if reply.connection_fault == "cut":
        return await _cut(request, reply)
    return response


async def _hang(request: web.Request, seconds: float) -> None:
    ends = asyncio.get_running_loop().time() + seconds
    while request.transport is not None and (left := ends - asyncio.get_running_loop().time()) > 0:  # noqa: ASYNC110 - aiohttp has no event for a lost client
        await asyncio.sleep(min(left, _CLIENT_CHECK))


def _reset(request: web.Request) -> None:
    if request.transport is None:
        return
    # With a linger time of zero, closing sends RST, so the client sees a reset instead of an end of file.
    connected: socket.socket | None = request.transport.get_extra_info("socket")
    if connected is not None:
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
    request.transport.abort()


async def _cut(request: web.Request, reply: replies.Reply) -> web.StreamResponse:
    headers = {**reply.headers, "Content-Type": reply.content_type, "Content-Length": str(len(reply.body) + 1)}
    partial = web.StreamResponse(status=reply.status, headers=headers)
    await partial.prepare(request)
    await partial.write(reply.body[: max(len(reply.body) // 2, 1)])
    if request.transport is not None:
        request.transport.close()
    return partial
