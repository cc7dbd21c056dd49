"""
The door through which every call of the API goes, so that the process can leave without a call being lost.

gRPC's own end is not enough: Core resets calls that arrive in the moment of its shutdown as CANCELLED (seen with grpcio
1.85: 4 of 5,900 calls in 20 ends), which no caller takes for "come again". So the door is shut first: who knocks gets
UNAVAILABLE with a time to come again. When the last call is through, the connections are closed under gRPC's hands,
which callers see as UNAVAILABLE as well, or not at all.
"""

import asyncio
import contextlib
import pathlib
import socket
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc
import grpc.aio
from google.protobuf import message

from indexer_service.interceptors import chain
from indexing import errors

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
FLUSH = 0.1
"""Seconds for the last answers to leave gRPC's buffers."""
DESCRIPTORS = pathlib.Path("/dev/fd")


class Gate(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    """Counts the calls that are inside, and refuses new ones once it is shut."""

    def __init__(self) -> None:
        self._inside = 0
        self._shut = False
        self._empty = asyncio.Event()
        self._handlers = chain.Wrapped(self._counted)

    async def leave(self, port: int, seconds: float) -> None:
        """Refuse new calls, wait until those inside have ended, for that long at most, and hang up on everybody."""
        self._shut = True
        if self._inside:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._empty.wait()
        await asyncio.sleep(FLUSH)
        hang_up(port)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Wrap the methods of the API; health is answered to the end."""
        handler: Any = await continuation(handler_call_details)
        return self._handlers.get(handler_call_details.method, handler)  # type: ignore[no-any-return]  # untyped there

    def _counted(self, method: str, handler: Any) -> Any:  # noqa: ANN401 -- gRPC's handlers have no common type
        if handler is None or not method.startswith("/indexer_service."):
            return handler
        behave = handler.unary_stream if handler.response_streaming else handler.unary_unary
        kind: Any = (
            grpc.unary_stream_rpc_method_handler if handler.response_streaming else grpc.unary_unary_rpc_method_handler
        )
        return kind(
            self._passing(behave),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _passing(self, behave: Any) -> Any:  # noqa: ANN401 -- gRPC's handlers have no common type
        async def call(request: message.Message, context: Context) -> message.Message | None:
            if self._shut:
                raise errors.Leaving
            self._inside += 1
            try:
                return await behave(request, context)  # type: ignore[no-any-return]  # as above
            finally:
                self._inside -= 1
                if self._shut and not self._inside:
                    self._empty.set()

        return call


def hang_up(port: int) -> None:
    """Close every connection that was made to this process on a port; who listens there is left alone."""
    for entry in list(DESCRIPTORS.iterdir()):
        with contextlib.suppress(OSError):
            own = socket.socket(fileno=int(entry.name))
            try:
                if own.family in {socket.AF_INET, socket.AF_INET6} and own.getsockname()[1] == port:
                    own.getpeername()  # fails for who listens
                    own.shutdown(socket.SHUT_RDWR)
            finally:
                own.detach()
