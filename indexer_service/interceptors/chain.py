"""What interceptors do with gRPC's handlers: wrap each once, and let bytes pass."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

import grpc
import grpc.aio

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class Wrapped:
    """
    What an interceptor has made of each method's handler.

    gRPC asks interceptors anew for every call; wrapping anew each time costs as much as the rest of a short call.
    """

    def __init__(self, wrap: Callable[[str, Any], Any]) -> None:
        self._wrap = wrap
        self._made: dict[str, tuple[Any, Any]] = {}

    def get(self, method: str, handler: Any) -> Any:  # noqa: ANN401 -- gRPC's handlers have no common type
        """Return *handler* wrapped; the same as before while *handler* is the same."""
        made = self._made.get(method)
        if made is not None and made[0] is handler:
            return made[1]
        wrapped = self._wrap(method, handler)
        if handler is not None:
            # Only methods that exist are kept: their number is bounded, that of made-up names is not.
            self._made[method] = handler, wrapped
        return wrapped


class Stacked(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    """
    Several interceptors as one, the first the outermost, each asked once for a method and not for every call.

    Ours can be: what they make of a handler depends on the method alone. For a short call it saves a part of the work.
    """

    def __init__(self, interceptors: Sequence[grpc.aio.ServerInterceptor]) -> None:  # type: ignore[type-arg]  # as above
        self._interceptors = interceptors
        self._made: dict[str, tuple[Any, Any]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Return the handler with everything around it; None where there is none, or no interceptor lets it through."""
        handler: Any = await continuation(handler_call_details)
        made = self._made.get(handler_call_details.method)
        if made is not None and made[0] is handler:
            return made[1]  # type: ignore[no-any-return]  # untyped there
        wrapped = handler
        for each in reversed(self._interceptors):
            wrapped = await each.intercept_service(_giving(wrapped), handler_call_details)
        if handler is not None:
            self._made[handler_call_details.method] = handler, wrapped
        return wrapped  # type: ignore[no-any-return]  # as above


def _giving(handler: Any) -> Callable[[grpc.HandlerCallDetails], Awaitable[Handler]]:  # noqa: ANN401 -- no common type
    async def give(_: grpc.HandlerCallDetails) -> Any:  # noqa: ANN401 -- as above
        return handler

    return give


class ByName:
    """
    The part of a server that generated code adds methods to; they are found by name at each call.

    Otherwise gRPC's asyncio server waits for every method apart and looks at all of them for each call (seen with
    grpcio 1.85): with our seventeen that takes a tenth of a short call.
    """

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: "Sequence[grpc.GenericRpcHandler[Any, Any]]") -> None:
        """Add methods."""
        self._server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        """Add nothing: these are the same methods, to be waited for apart."""


def passing(serialize: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    """Return a serializer that leaves alone what its handler has serialised already."""
    return lambda answer: answer if type(answer) is bytes else serialize(answer)
