"""How interceptors wrap handlers."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest

from indexer_service import interceptors
from indexer_service.interceptors import base
from indexer_service.v1 import indexer_pb2 as pb
from tests.unit.indexer_service import contexts

PATH = f"{base.PREFIX}GetJob"


class Recorder(interceptors.Interceptor):
    """Records the methods that it wraps and the requests that pass it."""

    def __init__(self) -> None:
        self.methods: list[base.Method] = []
        self.requests: list[object] = []

    def wrap(self, method: base.Method, inner: base.Call) -> base.Call:
        """Wrap."""
        self.methods.append(method)

        async def call(request: object, context: base.Context) -> Any:  # noqa: ANN401 -- any response
            self.requests.append(request)
            return await inner(request, context)

        return call


async def behave(request: pb.GetJobRequest, context: contexts.Context) -> pb.GetJobResponse:
    """Answer with the request's job, as a message of a stream as well."""
    response = pb.GetJobResponse(job=pb.Job(job_id=request.job_id))
    await context.write(response)
    return response


@pytest.mark.parametrize(
    ("make", "streams"),
    [
        pytest.param(grpc.unary_unary_rpc_method_handler, False, id="unary"),
        pytest.param(grpc.unary_stream_rpc_method_handler, True, id="stream"),
    ],
)
async def test_a_handler_keeps_its_kind_when_it_is_wrapped(
    make: Callable[..., Any],
    streams: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """Unary and streaming methods pass through the same `wrap`; serializers stay as they are."""
    recorder, context = Recorder(), contexts.Context()
    request = pb.GetJobRequest(job_id="a")
    read, write = pb.GetJobRequest.FromString, pb.GetJobResponse.SerializeToString
    handler = make(behave, request_deserializer=read, response_serializer=write)

    wrapped = recorder.wrap_handler(PATH, handler)
    call: Callable[..., Awaitable[Any]] = wrapped.unary_stream if streams else wrapped.unary_unary
    await call(request, context)

    assert recorder.methods == [base.Method(PATH, "GetJob", streams)]
    assert recorder.requests == [request]
    assert context.written == [pb.GetJobResponse(job=pb.Job(job_id="a"))]
    assert (wrapped.request_streaming, wrapped.response_streaming) == (False, streams)
    assert (wrapped.request_deserializer, wrapped.response_serializer) == (read, write)


@pytest.mark.parametrize("path", ["/grpc.health.v1.Health/Check", "/other.v1.Service/GetJob", "GetJob", ""])
def test_a_handler_is_returned_as_it_is_when_it_belongs_to_another_service(path: str) -> None:
    """Only the API's methods are wrapped."""
    recorder, handler = Recorder(), grpc.unary_unary_rpc_method_handler(behave)

    assert recorder.wrap_handler(path, handler) is handler
    assert recorder.wrap_handler(PATH, None) is None
    assert recorder.methods == []
