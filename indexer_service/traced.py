"""
Around every call: its request id and its trace.

The id is the caller's (metadata x-request-id), or ours; it is in every log line of the call, of the turns of a job that
it starts, and in the answer's metadata. The trace goes on where the caller's traceparent says.
"""

import contextlib
import re
import uuid
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeAlias

import grpc
import grpc.aio
from google.protobuf import message

from indexer_service import handlers, measured
from indexing import logs, traces

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
HEADER = "x-request-id"
ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""What is taken over from callers; anything else would end up in logs as it came."""


class Traced(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    """Gives each call of our API its request id and span; stands before every other interceptor."""

    def __init__(self) -> None:
        self._handlers = handlers.Wrapped(self._around)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Wrap the handler, unary or streaming answers alike."""
        handler: Any = await continuation(handler_call_details)
        return self._handlers.get(handler_call_details.method, handler)  # type: ignore[no-any-return]  # untyped there

    def _around(self, path: str, handler: Any) -> Any:  # noqa: ANN401 -- gRPC's handlers have no common type
        method = path.lstrip("/")
        if handler is None or not method.startswith(f"{measured.SERVICE.full_name}/"):
            return handler
        streams = handler.response_streaming
        behave = handler.unary_stream if streams else handler.unary_unary
        kind: Any = grpc.unary_stream_rpc_method_handler if streams else grpc.unary_unary_rpc_method_handler

        async def call(request: message.Message, context: Context) -> Any:  # noqa: ANN401 -- an answer or nothing
            told: Any = context.invocation_metadata() or ()
            with _working(method, dict(told), request) as request_id:
                context.set_trailing_metadata(((HEADER, request_id),))
                return await behave(request, context)

        return kind(
            call, request_deserializer=handler.request_deserializer, response_serializer=handler.response_serializer
        )


@contextlib.contextmanager
def _working(method: str, told: dict[str, str], request: message.Message) -> Iterator[str]:
    asked = told.get(HEADER, "")
    request_id = asked if ID.fullmatch(asked) else uuid.uuid4().hex
    about = {name: value for name in ("user_id", "job_id") if (value := getattr(request, name, ""))}
    parts = {name.removesuffix("_id"): str(value)[:64] for name, value in about.items()}
    with (
        traces.serving(method, f"{request_id} {told.get('traceparent', '')}"),
        logs.bound(**parts),
    ):
        yield request_id
