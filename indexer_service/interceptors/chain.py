"""How interceptors and methods are added to grpc.aio's server, so that a short call costs little."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc
import grpc.aio

from indexer_service.interceptors import base


class InterceptorChain(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    """
    Runs several interceptors as one, the first being the outermost.

    gRPC asks its interceptors for a handler at every call. The chain wraps each method's handler once and keeps it,
    because wrapping costs as much as the rest of a short call.
    """

    def __init__(self, interceptors: Sequence[base.Interceptor]) -> None:
        self._interceptors = interceptors
        self._wrapped: dict[str, tuple[Any, Any]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:  # noqa: ANN401 -- gRPC's handlers have no common type
        """Return the wrapped handler; None when there is no such method, or an interceptor hides it."""
        handler = await continuation(handler_call_details)
        path = handler_call_details.method
        known = self._wrapped.get(path)
        if known is not None and known[0] is handler:
            return known[1]
        wrapped = handler
        for interceptor in reversed(self._interceptors):
            wrapped = interceptor.wrap_handler(path, wrapped)
        if handler is not None:
            # The number of existing methods is bounded; that of the names that callers can make up is not.
            self._wrapped[path] = handler, wrapped
        return wrapped


class GenericHandlers:
    """
    Stands in for a server in generated code and adds its methods as generic handlers only, found by name at each call.

    grpc.aio's server waits for each registered method separately and walks over all of them at every call (seen with
    grpcio 1.85). With seventeen methods that takes a tenth of a short call.
    """

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: "Sequence[grpc.GenericRpcHandler[Any, Any]]") -> None:
        """Add methods to the server."""
        self._server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        """Add nothing: these are the same methods again."""
