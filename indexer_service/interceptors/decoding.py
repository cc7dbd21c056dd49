"""
Decoding of requests and encoding of responses.

By default gRPC answers bytes that do not decode with UNKNOWN and logs a traceback for each, so that any caller could
fill the log.
"""

from collections.abc import Callable
from typing import Any

from google.protobuf import message

from indexer_service.interceptors import base
from indexing import errors


class Undecodable:
    """Takes the place of a request that did not decode, on its way through the interceptors."""


UNDECODABLE = Undecodable()


class DecodingInterceptor(base.Interceptor):
    """
    Refuses bytes that are no message of the method's type, and lets handlers return responses already encoded.

    It runs inside the interceptor that translates errors and outside those that read requests.
    """

    def wrap(self, method: base.Method, inner: base.Call) -> base.Call:  # noqa: ARG002 -- the same for all methods
        """Return a handler that refuses what did not decode."""

        # Not a coroutine: that would hold memory for as long as a stream is open.
        def call(request: Any, context: base.Context) -> Any:  # noqa: ANN401 -- a request, and an awaitable
            if request is UNDECODABLE:
                raise errors.InvalidArgument("request", "is not a message of this method's request type")
            return inner(request, context)

        return call

    def wrap_deserializer(
        self, deserialize: Callable[[bytes], message.Message]
    ) -> Callable[[bytes], message.Message | Undecodable]:
        """Return a deserializer that returns UNDECODABLE in place of raising."""

        def decode(raw: bytes) -> message.Message | Undecodable:
            try:
                return deserialize(raw)
            except message.DecodeError:
                return UNDECODABLE

        return decode

    def wrap_serializer(self, serialize: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
        """Return a serializer that passes bytes through."""
        return lambda response: response if type(response) is bytes else serialize(response)
