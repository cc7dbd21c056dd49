"""The metrics of calls."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc.aio
import pytest
from google.rpc import code_pb2, status_pb2
from grpc_status import rpc_status
from prometheus_client import registry

from indexer_service import interceptors
from indexer_service.v1 import indexer_pb2 as pb
from indexing.telemetry import metrics
from tests.unit.indexer_service import contexts
from tests.unit.indexer_service.interceptors import calls


class Context(contexts.Context):
    """A context that knows its code."""

    def code(self) -> int | None:
        """Return the code that the call was ended with, as grpc.aio does."""
        return self.status.code if self.status else None


class Bench:
    """An interceptor and what it counted."""

    def __init__(self) -> None:
        self.registry = registry.CollectorRegistry()
        service_metrics = metrics.ServiceMetrics(self.registry, interceptors.metrics.METHODS)
        self._interceptor = interceptors.MetricsInterceptor(service_metrics)

    async def call(self, name: str, behave: Callable[[Any, Any], Awaitable[Any]], *, streams: bool = False) -> None:
        """Call a method."""
        await calls.wrap(self._interceptor, behave, name, streams=streams)(None, Context())

    def value(self, metric: str, **labels: str) -> float | None:
        """Return one sample."""
        return self.registry.get_sample_value(metric, labels)

    def handled(self, name: str, code: str, kind: str = "unary") -> float | None:
        """Return how many calls of a method ended with a code."""
        names = {"grpc_type": kind, "grpc_service": interceptors.base.SERVICE.full_name, "grpc_method": name}
        return self.registry.get_sample_value("grpc_server_handled_total", {**names, "grpc_code": code})


async def test_a_call_is_counted_with_its_code_when_it_was_aborted() -> None:
    """The code that an inner interceptor aborted with."""
    bench = Bench()

    async def behave(_request: object, context: Context) -> None:
        await context.abort_with_status(rpc_status.to_status(status_pb2.Status(code=code_pb2.UNAVAILABLE)))

    with pytest.raises(grpc.aio.AbortError):
        await bench.call("GetJob", behave)

    assert bench.handled("GetJob", "UNAVAILABLE") == 1


async def test_a_call_is_counted_as_cancelled_when_its_caller_cancels_it() -> None:
    """And its stream is no longer open."""
    bench = Bench()

    async def behave(_request: object, _context: object) -> None:
        assert bench.value("indexer_streams_open") == 1
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await bench.call("WatchProgress", behave, streams=True)

    assert bench.handled("WatchProgress", "CANCELLED", "server_stream") == 1
    assert bench.value("indexer_streams_open") == 0


async def test_a_start_is_counted_by_its_disposition_when_it_is_answered() -> None:
    """So that joined, fresh and replayed starts are distinct from those that cause work."""
    bench = Bench()

    async def behave(_request: object, _context: object) -> pb.StartIndexingResponse:
        return pb.StartIndexingResponse(disposition=pb.DISPOSITION_JOINED)

    await bench.call("StartIndexing", behave)

    async def replay(_request: object, context: Context) -> pb.StartIndexingResponse:
        context.set_trailing_metadata((("idempotent-replayed", "true"),))
        return pb.StartIndexingResponse(disposition=pb.DISPOSITION_CREATED)

    await bench.call("StartIndexing", replay)

    counted = {value: bench.value("indexer_starts_total", disposition=value) for value in ("JOINED", "REPLAYED")}
    assert counted == {"JOINED": 1, "REPLAYED": 1}
    assert not bench.value("indexer_starts_total", disposition="CREATED")
    assert bench.handled("StartIndexing", "OK") == 2


async def test_a_start_that_is_answered_from_memory_counts_as_joined() -> None:
    """Only joins are; the response is serialized already."""
    bench = Bench()

    async def behave(_request: object, _context: object) -> bytes:
        return pb.StartIndexingResponse(disposition=pb.DISPOSITION_JOINED).SerializeToString()

    await bench.call("StartIndexing", behave)

    assert bench.value("indexer_starts_total", disposition="JOINED") == 1


async def test_other_methods_count_no_start_and_no_stream() -> None:
    """Calls and their seconds are counted by method."""
    bench = Bench()

    async def behave(_request: object, _context: object) -> pb.GetJobResponse:
        assert bench.value("indexer_streams_open") == 0
        return pb.GetJobResponse()

    await bench.call("GetJob", behave)

    names = {"grpc_type": "unary", "grpc_service": interceptors.base.SERVICE.full_name, "grpc_method": "GetJob"}
    assert bench.value("grpc_server_started_total", **names) == 1
    assert bench.value("grpc_server_handling_seconds_count", **names) == 1
    assert not bench.value("indexer_starts_total", disposition="JOINED")
