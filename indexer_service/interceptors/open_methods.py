"""
Limits of the methods that need no token: health checks, and reflection where it is turned on.

Anyone who reaches the address can call them, so their number, their time and their streams are bounded.
"""

import asyncio
import collections
import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

import grpc
import grpc.aio

from indexer_service.interceptors import base
from indexing import settings

OPEN_SERVICES = ("/grpc.health.v1.Health/", "/grpc.reflection.")
"""Start of the paths of services that need no token: they reveal nothing about users. Reflection is off by default."""
RECEIVE = 2.0
"""Seconds for the arrival of the request of a health check."""
BUSY = "too many calls without a token are open; try again later"


class OpenMethodsInterceptor(base.Interceptor):
    """
    Bounds the open methods: calls at once, streams at once in all and for each peer, and the time that each may take.

    A peer is an address without its port. A call beyond a limit ends with RESOURCE_EXHAUSTED, and is never read.
    """

    def __init__(self, config: settings.ServiceSettings) -> None:
        self._config = config
        self._calls = 0
        self._streams: collections.Counter[str] = collections.Counter()

    def wrap_handler(self, path: str, handler: Any) -> Any:  # noqa: ANN401 -- gRPC's handlers have no common type
        """Return the handler of an open method bounded, and any other as it is."""
        if handler is None or not path.startswith(OPEN_SERVICES):
            return handler
        inner = base.behavior_of(handler)
        call = self._bound_stream(inner, handler) if handler.response_streaming else self._bound_call(inner)
        return base.MAKERS[True, handler.response_streaming](
            call,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _bound_call(self, inner: base.Call) -> base.Call:
        async def call(_unread: object, context: Any) -> Any:  # noqa: ANN401 -- untyped
            if self._calls >= self._config.max_health_calls:
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, BUSY)
            self._calls += 1
            try:
                return await inner(await _read(context), context)
            finally:
                self._calls -= 1

        return call

    def _bound_stream(self, inner: Any, handler: Any) -> base.Call:  # noqa: ANN401 -- untyped
        async def call(requests: object, context: Any) -> None:  # noqa: ANN401 -- untyped
            peer = context.peer().rpartition(":")[0]
            if (
                self._streams.total() >= self._config.max_health_streams
                or self._streams[peer] >= self._config.max_health_streams_per_peer
            ):
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, BUSY)
            with self._counted(peer), contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._config.max_health_stream_age):
                    argument = requests if handler.request_streaming else await _read(context)
                    await _run_stream(inner, argument, context)

        return call

    @contextlib.contextmanager
    def _counted(self, peer: str) -> Iterator[None]:
        self._streams[peer] += 1
        try:
            yield
        finally:
            self._streams[peer] -= 1
            if not self._streams[peer]:
                del self._streams[peer]


async def _read(context: Any) -> Any:  # noqa: ANN401 -- untyped
    """Return the request; ends a call whose request does not arrive in time."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(RECEIVE):
            if (request := await context.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]  # missing in the stubs
                return request
    return await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "the request did not arrive in time")


async def _run_stream(inner: Any, argument: object, context: Any) -> None:  # noqa: ANN401 -- untyped
    """Run a handler that writes its responses itself, or yields them."""
    if inspect.isasyncgenfunction(inner):
        async for response in inner(argument, context):
            await context.write(response)
    else:
        await inner(argument, context)
