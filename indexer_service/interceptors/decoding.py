"""
Refuses bytes that are no message of the method's type, as any other request that cannot be accepted.

gRPC would answer UNKNOWN, log a traceback, and let a stranger write the log full.
"""

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc
import grpc.aio
from google.protobuf import message

from indexer_service.interceptors import chain
from indexing import errors

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


class NoMessage:
    """Stands for a request that could not be read, on its way through the interceptors."""


NO_MESSAGE = NoMessage()


class WellFormed(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    """Stands before every interceptor that reads requests, and after the one that translates errors."""

    def __init__(self) -> None:
        self._handlers = chain.Wrapped(self._strict)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Wrap the handler, unary or streaming answers alike."""
        handler: Any = await continuation(handler_call_details)
        return self._handlers.get(handler_call_details.method, handler)  # type: ignore[no-any-return]  # untyped there

    def _strict(self, method: str, handler: Any) -> Any:  # noqa: ANN401 -- gRPC's handlers have no common type
        if handler is None or not method.startswith("/indexer_service."):
            return handler
        streams = handler.response_streaming
        behave = handler.unary_stream if streams else handler.unary_unary
        kind: Any = grpc.unary_stream_rpc_method_handler if streams else grpc.unary_unary_rpc_method_handler

        # Not a coroutine of its own: each would hold memory for as long as a stream is open.
        def call(request: Any, context: Context) -> Any:  # noqa: ANN401 -- a request, and what is awaited
            if request is NO_MESSAGE:
                raise errors.InvalidArgument("request", "is no message of this method's type")
            return behave(request, context)

        return kind(
            call,
            request_deserializer=_forgiving(handler.request_deserializer),
            response_serializer=handler.response_serializer,
        )


def _forgiving(read: Callable[[bytes], message.Message]) -> Callable[[bytes], message.Message | NoMessage]:
    def read_or_not(raw: bytes) -> message.Message | NoMessage:
        try:
            return read(raw)
        except message.DecodeError:
            return NO_MESSAGE

    return read_or_not
