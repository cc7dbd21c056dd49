"""
Around every call: its request id and its trace.

The id is the caller's (metadata x-request-id), or ours; it is in every log line of the call, of the turns of a job that
it starts, and in the answer's metadata. The trace goes on where the caller's traceparent says.
"""

import os
import re
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc
import grpc.aio
from google.protobuf import message

from indexer_service.interceptors import chain, metrics
from indexing.telemetry import logs, tracing

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
HEADER = "x-request-id"
ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""What is taken over from callers; anything else would end up in logs as it came."""


class Traced(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    """Gives each call of our API its request id and span; stands before every other interceptor."""

    def __init__(self) -> None:
        self._handlers = chain.Wrapped(self._around)

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
        if handler is None or not method.startswith(f"{metrics.SERVICE.full_name}/"):
            return handler
        streams = handler.response_streaming
        behave = handler.unary_stream if streams else handler.unary_unary
        kind: Any = grpc.unary_stream_rpc_method_handler if streams else grpc.unary_unary_rpc_method_handler

        async def call(request: message.Message, context: Context) -> Any:  # noqa: ANN401 -- an answer or nothing
            request_id, parent = _told(context)
            context.set_trailing_metadata(((HEADER, request_id),))
            with logs.bound(request_id=request_id, **_about(request)), tracing.start_child_span(parent, method):
                return await behave(request, context)

        return kind(
            call, request_deserializer=handler.request_deserializer, response_serializer=handler.response_serializer
        )


def _told(context: Context) -> tuple[str, str]:
    """Return the call's request id and its traceparent."""
    request_id = parent = ""
    told: Any = context.invocation_metadata() or ()
    for key, value in told:
        if key == HEADER and ID.fullmatch(value):
            request_id = value
        elif key == "traceparent":
            parent = value
    return request_id or os.urandom(16).hex(), parent


def _about(request: message.Message) -> dict[str, str]:
    """Return whom and what a call is about, cut: nobody has validated it yet."""
    about = {}
    if user_id := getattr(request, "user_id", ""):
        about["user"] = str(user_id)[:64]
    if job_id := getattr(request, "job_id", ""):
        about["job"] = str(job_id)[:64]
    return about
