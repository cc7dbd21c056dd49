"""The chain of interceptors, and methods that are found by name."""

from typing import Any, cast

import grpc
import grpc.aio

from indexer_service import interceptors
from indexer_service.interceptors import chain
from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc


class Named(interceptors.Interceptor):
    """Puts its name around handlers, or hides them; counts how often it is asked."""

    def __init__(self, name: str, *, hides: bool = False) -> None:
        self._name = name
        self._hides = hides
        self.asked = 0

    def wrap_handler(self, path: str, handler: Any) -> Any:  # noqa: ANN401, ARG002 -- gRPC's handlers
        """Wrap."""
        self.asked += 1
        return None if self._hides else (self._name, handler)


async def ask(interceptor_chain: interceptors.InterceptorChain, method: str, handler: object) -> object:
    """Ask for a method's handler as gRPC does."""

    async def continuation(_: object) -> object:
        return handler

    details = cast("grpc.HandlerCallDetails", type("Details", (), {"method": method}))
    return await interceptor_chain.intercept_service(continuation, details)


async def test_interceptors_are_asked_once_when_a_method_is_called_again() -> None:
    """The first is the outermost; a handler that has changed is wrapped again, and so is another method's."""
    outer, inner = Named("outer"), Named("inner")
    asked = interceptors.InterceptorChain([outer, inner])
    handler, changed = object(), object()

    first = await ask(asked, "/a/B", handler)

    assert first == ("outer", ("inner", handler))
    assert await ask(asked, "/a/B", handler) is first
    assert outer.asked == inner.asked == 1
    assert await ask(asked, "/a/B", changed) == ("outer", ("inner", changed))
    assert await ask(asked, "/a/C", handler) == ("outer", ("inner", handler))


async def test_nothing_is_kept_when_a_method_does_not_exist() -> None:
    """Else callers could fill the memory with made-up names."""
    asked = interceptors.InterceptorChain([Named("inner", hides=True)])

    answers = [await ask(asked, "/a/B", object()), *[await ask(asked, f"/a/{n}", None) for n in range(10)]]

    assert answers == [None] * 11
    assert list(asked._wrapped) == ["/a/B"]


class OneJob(pb_grpc.IndexerServiceServicer):
    """Answers one method."""

    async def GetJob(self, request: pb.GetJobRequest, context: object) -> pb.GetJobResponse:  # noqa: N802, ARG002 -- gRPC's
        """Return the job that was asked for."""
        return pb.GetJobResponse(job=pb.Job(job_id=request.job_id))


async def test_a_call_is_answered_when_its_method_is_a_generic_handler() -> None:
    """Generated code adds the methods as to any server."""
    server = grpc.aio.server()
    pb_grpc.add_IndexerServiceServicer_to_server(OneJob(), chain.GenericHandlers(server))  # type: ignore[abstract, arg-type]  # the parts that are used
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()

    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        answer = await pb_grpc.IndexerServiceStub(channel).GetJob(pb.GetJobRequest(job_id="a"), timeout=10.0)
    await server.stop(None)

    assert answer.job.job_id == "a"
