"""The base class of all interceptors."""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeAlias

import grpc
import grpc.aio
from google.protobuf import message

from indexer_service.v1 import indexer_pb2 as pb

SERVICE = pb.DESCRIPTOR.services_by_name["IndexerService"]
PREFIX = f"/{SERVICE.full_name}/"
"""Start of the path of every method of the API."""
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Call: TypeAlias = Callable[[Any, Context], Awaitable[Any]]
"""
Handles one call: takes the request and the context; returns the response, or None for a stream.

Outside the interceptor that reads the request, the first argument is gRPC's iterator, which nothing may read.
"""
MAKERS: dict[tuple[bool, bool], Any] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}
"""What makes a handler: by whether it streams requests, and whether it streams responses."""


class Method(NamedTuple):
    """
    One method of the API.

    Attributes:
        path: As gRPC names it, e.g. /indexer_service.v1.IndexerService/GetJob.
        name: Last part of the path.
        streams: Whether it streams its responses.
    """

    path: str
    name: str
    streams: bool


def behavior_of(handler: Any) -> Call:  # noqa: ANN401 -- gRPC's handlers have no common type
    """Return the function that handles the calls of a handler of any kind."""
    return (  # type: ignore[no-any-return]  # untyped there
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    )


class Interceptor:
    """
    Base of the interceptors: wraps the handler of each method of the API, unary or server-streaming.

    `InterceptorChain` calls `wrap_handler` once for each method. What a subclass returns may therefore depend on the
    method alone; everything that depends on a call happens inside the wrapper.

    Attributes:
        reads_requests: Whether the wrapper reads the request, so that gRPC calls it before the request has arrived.
    """

    reads_requests = False

    def wrap_handler(self, path: str, handler: Any) -> Any:  # noqa: ANN401 -- gRPC's handlers have no common type
        """Return *handler* wrapped. Handlers of other services and None (no such method) are returned as they are."""
        if handler is None or not path.startswith(PREFIX):
            return handler
        method = Method(path, path.removeprefix(PREFIX), bool(handler.response_streaming))
        make = MAKERS[handler.request_streaming or self.reads_requests, method.streams]
        return make(
            self.wrap(method, behavior_of(handler)),
            request_deserializer=self.wrap_deserializer(handler.request_deserializer),
            response_serializer=self.wrap_serializer(handler.response_serializer),
        )

    def wrap(self, method: Method, inner: Call) -> Call:
        """Return what handles a call of *method* in place of *inner*."""
        raise NotImplementedError

    def wrap_deserializer(self, deserialize: Callable[[bytes], message.Message]) -> Callable[[bytes], Any]:
        """Return what decodes requests in place of *deserialize*; by default the same."""
        return deserialize

    def wrap_serializer(self, serialize: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
        """Return what encodes responses in place of *serialize*; by default the same."""
        return serialize
