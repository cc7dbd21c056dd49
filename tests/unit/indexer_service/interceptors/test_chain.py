"""What interceptors make of handlers."""

from typing import Any, cast

import grpc
import grpc.aio

from indexer_service.interceptors import chain
from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc


class Around(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    """Puts its name around handlers, or lets none through; counts how often it is asked."""

    def __init__(self, name: str, *, lets_through: bool = True) -> None:
        self._name = name
        self._lets_through = lets_through
        self.asked = 0

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:  # noqa: ANN401 -- gRPC's
        """Wrap."""
        self.asked += 1
        below = await continuation(handler_call_details)
        return (self._name, below) if self._lets_through else None


async def ask(stacked: chain.Stacked, method: str, handler: object) -> object:
    """Ask as gRPC does."""

    async def continuation(_: object) -> Any:  # noqa: ANN401 -- gRPC's handlers have no common type
        return handler

    details = cast("grpc.HandlerCallDetails", type("Details", (), {"method": method}))
    return await stacked.intercept_service(continuation, details)


async def test_interceptors_are_asked_once_a_method_when_they_are_stacked() -> None:
    """The first is the outermost, and a handler that has changed is wrapped anew."""
    outer, inner = Around("outer"), Around("inner")
    stacked = chain.Stacked([outer, inner])
    below, other = object(), object()

    first = await ask(stacked, "/a/B", below)

    assert first == ("outer", ("inner", below))
    assert await ask(stacked, "/a/B", below) is first
    assert outer.asked == inner.asked == 1
    assert await ask(stacked, "/a/B", other) == ("outer", ("inner", other))
    assert await ask(stacked, "/a/C", below) == ("outer", ("inner", below))


async def test_a_method_stays_refused_when_an_interceptor_lets_it_not_through() -> None:
    """Those around it decide, as if they stood alone; made-up names fill no memory."""
    stacked = chain.Stacked([Around("inner", lets_through=False)])

    answers = [await ask(stacked, "/a/B", object()), *[await ask(stacked, f"/a/{n}", None) for n in range(10)]]

    assert answers == [None] * 11
    assert list(stacked._made) == ["/a/B"]


class OneJob(pb_grpc.IndexerServiceServicer):
    """Answers one method."""

    async def GetJob(self, request: pb.GetJobRequest, context: object) -> pb.GetJobResponse:  # noqa: N802, ARG002 -- gRPC's
        """Return the job that was asked for."""
        return pb.GetJobResponse(job=pb.Job(job_id=request.job_id))


async def test_a_call_is_answered_when_its_method_is_found_by_name() -> None:
    """Generated code adds the methods as to any server."""
    server = grpc.aio.server()
    pb_grpc.add_IndexerServiceServicer_to_server(OneJob(), chain.ByName(server))  # type: ignore[abstract, arg-type]  # the parts that are used
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()

    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        answer = await pb_grpc.IndexerServiceStub(channel).GetJob(pb.GetJobRequest(job_id="a"), timeout=10.0)
    await server.stop(None)

    assert answer.job.job_id == "a"


def test_a_handler_is_wrapped_once_when_it_is_asked_for_again() -> None:
    """And anew when the handler below has changed."""
    made = chain.Wrapped(lambda method, handler: [method, handler])
    below, other = object(), object()

    first = made.get("/a/B", below)

    assert first == ["/a/B", below]
    assert made.get("/a/B", below) is first
    assert made.get("/a/B", other) == ["/a/B", other]
    assert made.get("/a/C", below) == ["/a/C", below]


def test_nothing_is_kept_when_the_method_does_not_exist() -> None:
    """Or callers with made-up names could fill the memory."""
    made = chain.Wrapped(lambda _method, handler: handler)

    answers = [made.get(f"/a/{number}", None) for number in range(10)]

    assert answers == [None] * 10
    assert made._made == {}


def test_bytes_pass_when_a_handler_has_serialised_its_answer() -> None:
    """Both kinds of answers are the same on the wire."""
    serialize = chain.passing(pb.CancelJobResponse.SerializeToString)
    answer = pb.CancelJobResponse(job=pb.Job(job_id="a"))

    assert serialize(answer) == serialize(answer.SerializeToString()) == answer.SerializeToString()
