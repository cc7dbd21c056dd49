"""Around every call: how many, how they end, how long they take, and what their answers tell of the index."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeAlias

import grpc
import grpc.aio
from google.protobuf import message

from indexer_service import handlers
from indexer_service.v1 import indexer_pb2 as pb
from indexing import metrics, ports, traces

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
SERVICE = pb.DESCRIPTOR.services_by_name["IndexerService"]
METHODS = [("server_stream" if method.server_streaming else "unary", method.name) for method in SERVICE.methods]
CODES = {code.value[0]: code.name for code in grpc.StatusCode}


class Measured(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    """Counts the calls of our API; stands before every other interceptor, so that it sees how a call really ends."""

    def __init__(self, seen: metrics.ServiceMetrics, clock: ports.Clock) -> None:
        self._seen = seen
        self._clock = clock
        self._handlers = handlers.Wrapped(self._around)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Wrap the handler, unary or streaming answers alike."""
        handler: Any = await continuation(handler_call_details)
        return self._handlers.get(handler_call_details.method, handler)  # type: ignore[no-any-return]  # untyped there

    def _around(self, method: str, handler: Any) -> Any:  # noqa: ANN401 -- gRPC's handlers have no common type
        service, _, name = method.lstrip("/").partition("/")
        if handler is None or service != SERVICE.full_name:
            return handler
        if handler.response_streaming:
            wrapped = self._stream(handler.unary_stream, name)
            kind: Any = grpc.unary_stream_rpc_method_handler
        else:
            wrapped = self._unary(handler.unary_unary, name)
            kind = grpc.unary_unary_rpc_method_handler
        return kind(
            wrapped, request_deserializer=handler.request_deserializer, response_serializer=handler.response_serializer
        )

    def _unary(self, behave: Any, name: str) -> Any:  # noqa: ANN401 -- gRPC's handlers have no common type
        timed = self._timed("unary", name)

        async def call(request: message.Message, context: Context) -> message.Message | bytes:
            with timed(context):
                response: message.Message | bytes = await behave(request, context)
            if isinstance(response, bytes):
                self._seen.starts.labels("JOINED").inc()  # only joins are answered from memory
            else:
                self._read(response)
            return response

        return call

    def _stream(self, behave: Any, name: str) -> Any:  # noqa: ANN401 -- as above
        timed = self._timed("server_stream", name)

        async def call(request: message.Message, context: Context) -> None:
            with timed(context), self._seen.streams.track_inprogress():
                await behave(request, context)

        return call

    def _timed(self, kind: str, name: str) -> Callable[[Context], contextlib.AbstractContextManager[None]]:
        one = (kind, SERVICE.full_name, name)
        # Looked up once: of a short call that would be a tenth.
        begun, good, took = (
            self._seen.rpcs_started.labels(*one),
            self._seen.rpcs_handled.labels(*one, "OK"),
            self._seen.rpc_seconds.labels(*one),
        )

        @contextlib.contextmanager
        def timed(context: Context) -> Iterator[None]:
            begun.inc()
            started, code = time.perf_counter(), "OK"
            try:
                yield
            except asyncio.CancelledError:
                code = "CANCELLED"
                raise
            except Exception:
                code = _code(context)
                raise
            finally:
                (good if code == "OK" else self._seen.rpcs_handled.labels(*one, code)).inc()
                took.observe(time.perf_counter() - started, traces.exemplar())

        return timed

    def _read(self, response: message.Message) -> None:
        if isinstance(response, pb.StartIndexingResponse):
            name = pb.Disposition.Name(response.disposition).removeprefix("DISPOSITION_")
            self._seen.starts.labels(name).inc()
        elif isinstance(response, pb.ListGuildsResponse):
            now = self._clock()
            for guild in response.guilds:
                if guild.HasField("fetched_at"):
                    self._seen.read_age.observe(max(0.0, now - guild.fetched_at.ToNanoseconds() / 1e9))


def _code(context: Context) -> str:
    """Return the name of the code that a call was aborted with."""
    told: Any = context.code()
    code = told if isinstance(told, int) else told.value[0] if told else grpc.StatusCode.UNKNOWN.value[0]
    return CODES.get(code, "UNKNOWN")
