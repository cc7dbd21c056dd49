"""Calls through one interceptor, without a server."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from indexer_service import interceptors


def wrap(
    interceptor: interceptors.Interceptor,
    behave: Callable[[Any, Any], Awaitable[Any]],
    method: str = "GetJob",
    *,
    streams: bool = False,
) -> Callable[[Any, Any], Awaitable[Any]]:
    """Return what handles the calls of a method of the API, or of another service's path."""
    make: Any = grpc.unary_stream_rpc_method_handler if streams else grpc.unary_unary_rpc_method_handler
    path = method if method.startswith("/") else interceptors.base.PREFIX + method
    wrapped = interceptor.wrap_handler(path, make(behave))
    return wrapped.unary_stream if streams else wrapped.unary_unary  # type: ignore[no-any-return]  # untyped there
