"""Metrics of each call: how many, how they end, how long they take, and how starts are answered."""

import time
from typing import Any

import grpc
from google.protobuf import message

from indexer_service.interceptors import base, request_context
from indexer_service.v1 import indexer_pb2 as pb
from indexing.telemetry import metrics, tracing

METHODS = [("server_stream" if method.server_streaming else "unary", method.name) for method in base.SERVICE.methods]
"""Type and name of each method of the API, as the metrics' labels have them."""
CODES = {code.value[0]: code.name for code in grpc.StatusCode}


class MetricsInterceptor(base.Interceptor):
    """Counts and times calls; runs outside the interceptor that translates errors, so that it sees the final code."""

    def __init__(self, service_metrics: metrics.ServiceMetrics) -> None:
        self._metrics = service_metrics
        self._joined_starts = service_metrics.starts.labels("JOINED")

    def wrap(self, method: base.Method, inner: base.Call) -> base.Call:
        """Return a handler that is counted and timed."""
        counters = _MethodMetrics(self._metrics, method)
        open_streams = self._metrics.streams
        streams = method.streams
        is_start = method.name == "StartIndexing"

        async def call(request: message.Message, context: base.Context) -> Any:  # noqa: ANN401 -- any response
            started = counters.count_start()
            if streams:
                open_streams.inc()
            try:
                response = await inner(request, context)
            except BaseException as problem:
                counters.count_failure(started, problem, context)
                raise
            finally:
                if streams:
                    open_streams.dec()
            counters.count_success(started)
            if is_start:
                self._count_start(response, context)
            return response

        return call

    def _count_start(self, response: pb.StartIndexingResponse | bytes, context: base.Context) -> None:
        if isinstance(response, bytes):
            self._joined_starts.inc()  # only joins are answered from memory
            return
        name = pb.Disposition.Name(response.disposition).removeprefix("DISPOSITION_")
        if request_context.REPLAYED in (context.trailing_metadata() or ()):
            name = "REPLAYED"
        self._metrics.starts.labels(name).inc()


class _MethodMetrics:
    """One method's counters, looked up once, because a lookup takes a tenth of a short call."""

    def __init__(self, service_metrics: metrics.ServiceMetrics, method: base.Method) -> None:
        self._labels = ("server_stream" if method.streams else "unary", base.SERVICE.full_name, method.name)
        self._handled = service_metrics.rpcs_handled
        self._started = service_metrics.rpcs_started.labels(*self._labels)
        self._succeeded = service_metrics.rpcs_handled.labels(*self._labels, "OK")
        self._seconds = service_metrics.rpc_seconds.labels(*self._labels)

    def count_start(self) -> float:
        self._started.inc()
        return time.perf_counter()

    def count_success(self, started: float) -> None:
        self._succeeded.inc()
        self._seconds.observe(time.perf_counter() - started, tracing.exemplar())

    def count_failure(self, started: float, problem: BaseException, context: base.Context) -> None:
        code = _code(context) if isinstance(problem, Exception) else "CANCELLED"
        self._handled.labels(*self._labels, code).inc()
        self._seconds.observe(time.perf_counter() - started, tracing.exemplar())


def _code(context: base.Context) -> str:
    """Return the name of the code that a call was aborted with."""
    found: Any = context.code()
    code = found if isinstance(found, int) else found.value[0] if found else grpc.StatusCode.UNKNOWN.value[0]
    return CODES.get(code, "UNKNOWN")
