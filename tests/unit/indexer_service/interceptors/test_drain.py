"""Draining, on a real server: no call is lost when the process ends."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from indexer_service import interceptors
from indexer_service.interceptors import drain
from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc
from tests.unit.indexer_service.interceptors import calls

LONG = 20.0


class Handlers(pb_grpc.IndexerServiceServicer):
    """Answers one method when `answer` is set."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.answer = asyncio.Event()

    async def GetJob(self, request: pb.GetJobRequest, context: Any) -> pb.GetJobResponse:  # noqa: ANN401, ARG002, N802 -- gRPC's
        """Answer."""
        self.asked.set()
        await self.answer.wait()
        return pb.GetJobResponse()


@contextlib.asynccontextmanager
async def serving(interceptor: drain.DrainInterceptor) -> AsyncIterator[tuple[Handlers, Any, int]]:
    """Serve behind the interceptor; yields the handlers, a stub and the port."""
    handlers = Handlers()  # type: ignore[abstract]  # one method is enough
    chain = interceptors.InterceptorChain([interceptors.ErrorInterceptor(), interceptor])
    server = grpc.aio.server(interceptors=[chain])
    pb_grpc.add_IndexerServiceServicer_to_server(handlers, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield handlers, pb_grpc.IndexerServiceStub(channel), port
    await server.stop(None)


async def test_a_call_in_flight_is_answered_and_a_new_one_rejected_when_the_process_drains() -> None:
    """The rejected caller may retry."""
    interceptor = drain.DrainInterceptor()
    async with serving(interceptor) as (handlers, stub, port):
        in_flight = asyncio.ensure_future(stub.GetJob(pb.GetJobRequest(), timeout=LONG))
        await handlers.asked.wait()
        draining = asyncio.create_task(interceptor.drain(port, LONG))
        await asyncio.sleep(0)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.GetJob(pb.GetJobRequest(), timeout=LONG)
        handlers.answer.set()
        answered = await in_flight
        await draining

    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
    assert "LEAVING" in str(refused.value.trailing_metadata())
    assert answered == pb.GetJobResponse()


async def test_a_call_is_unavailable_when_it_outlives_the_drain() -> None:
    """Its connection is closed, and its caller may retry."""
    interceptor = drain.DrainInterceptor()
    async with serving(interceptor) as (handlers, stub, port):
        in_flight = asyncio.ensure_future(stub.GetJob(pb.GetJobRequest(), timeout=LONG))
        await handlers.asked.wait()

        await interceptor.drain(port, 0.01)

        with pytest.raises(grpc.aio.AioRpcError) as cut:
            await in_flight
        handlers.answer.set()
    assert cut.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_other_connections_stay_open_when_those_of_a_port_are_closed() -> None:
    """Only connections accepted on that port are closed."""
    interceptor = drain.DrainInterceptor()
    async with serving(interceptor) as (handlers, stub, port):
        handlers.answer.set()
        await stub.GetJob(pb.GetJobRequest(), timeout=LONG)

        drain.close_connections(port + 1)

        assert await stub.GetJob(pb.GetJobRequest(), timeout=LONG) == pb.GetJobResponse()


@pytest.mark.clockwork
async def test_a_process_without_calls_drains_at_once() -> None:
    """After the tenth of a second in which the last responses leave."""
    began = asyncio.get_running_loop().time()

    await drain.DrainInterceptor().drain(1, LONG)

    assert asyncio.get_running_loop().time() - began == pytest.approx(0.1)


@pytest.mark.clockwork
async def test_a_process_drains_until_the_last_of_its_calls_has_ended() -> None:
    """Also one that fails counts as ended."""
    loop = asyncio.get_running_loop()
    interceptor = drain.DrainInterceptor()

    async def behave(seconds: float, _context: object) -> None:
        await asyncio.sleep(seconds)
        raise ValueError

    wrapped = calls.wrap(interceptor, behave)
    running = [asyncio.ensure_future(wrapped(seconds, None)) for seconds in (1.0, 3.0, 2.0)]
    await asyncio.sleep(0)
    began = loop.time()

    await interceptor.drain(1, LONG)

    assert loop.time() - began == pytest.approx(3.1)
    assert [type(task.exception()) for task in running] == [ValueError] * 3
