"""Around every call: how many, how they end, how long they take, and what their answers tell of the index."""

import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc
import grpc.aio
from google.protobuf import message

from indexer_service.interceptors import chain
from indexer_service.v1 import indexer_pb2 as pb
from indexing.domain import ports
from indexing.telemetry import metrics, tracing

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
        self._handlers = chain.Wrapped(self._around)

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
        timed = _Timed(self._seen, "unary", name)
        joined = self._seen.starts.labels("JOINED")

        async def call(request: message.Message, context: Context) -> message.Message | bytes:
            started = timed.begin()
            try:
                response: message.Message | bytes = await behave(request, context)
            except BaseException as problem:
                timed.failed(started, problem, context)
                raise
            timed.done(started)
            if isinstance(response, bytes):
                joined.inc()  # only joins are answered from memory
            else:
                self._read(response)
            return response

        return call

    def _stream(self, behave: Any, name: str) -> Any:  # noqa: ANN401 -- as above
        timed = _Timed(self._seen, "server_stream", name)

        async def call(request: message.Message, context: Context) -> None:
            started = timed.begin()
            self._seen.streams.inc()
            try:
                await behave(request, context)
            except BaseException as problem:
                timed.failed(started, problem, context)
                raise
            finally:
                self._seen.streams.dec()
            timed.done(started)

        return call

    def _read(self, response: message.Message) -> None:
        if isinstance(response, pb.StartIndexingResponse):
            name = pb.Disposition.Name(response.disposition).removeprefix("DISPOSITION_")
            self._seen.starts.labels(name).inc()
        elif isinstance(response, pb.ListGuildsResponse):
            now = self._clock()
            for guild in response.guilds:
                if guild.HasField("fetched_at"):
                    self._seen.read_age.observe(max(0.0, now - guild.fetched_at.ToNanoseconds() / 1e9))


class _Timed:
    """One method's counters, looked up once: of a short call that would be a tenth."""

    def __init__(self, seen: metrics.ServiceMetrics, kind: str, name: str) -> None:
        self._one = (kind, SERVICE.full_name, name)
        self._handled = seen.rpcs_handled
        self._begun = seen.rpcs_started.labels(*self._one)
        self._good = seen.rpcs_handled.labels(*self._one, "OK")
        self._took = seen.rpc_seconds.labels(*self._one)

    def begin(self) -> float:
        self._begun.inc()
        return time.perf_counter()

    def done(self, started: float) -> None:
        self._good.inc()
        self._took.observe(time.perf_counter() - started, tracing.exemplar())

    def failed(self, started: float, problem: BaseException, context: Context) -> None:
        code = _code(context) if isinstance(problem, Exception) else "CANCELLED"
        self._handled.labels(*self._one, code).inc()
        self._took.observe(time.perf_counter() - started, tracing.exemplar())


def _code(context: Context) -> str:
    """Return the name of the code that a call was aborted with."""
    told: Any = context.code()
    code = told if isinstance(told, int) else told.value[0] if told else grpc.StatusCode.UNKNOWN.value[0]
    return CODES.get(code, "UNKNOWN")
