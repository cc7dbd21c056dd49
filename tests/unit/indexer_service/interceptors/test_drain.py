"""The door of the API, on a real server: nobody's call is lost when the process leaves."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from indexer_service.interceptors import drain, errors
from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc

LONG = 20.0


class Handlers(pb_grpc.IndexerServiceServicer):
    """Answers when told to."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.answer = asyncio.Event()

    async def GetJob(self, request: pb.GetJobRequest, context: Any) -> pb.GetJobResponse:  # noqa: ANN401, ARG002, N802 -- gRPC's
        """Answer."""
        self.asked.set()
        await self.answer.wait()
        return pb.GetJobResponse()


@contextlib.asynccontextmanager
async def serving(door: drain.Gate) -> AsyncIterator[tuple[Handlers, Any, int]]:
    """Serve behind the door; yields the handlers, a stub and the port."""
    handlers = Handlers()  # type: ignore[abstract]  # one method is enough
    server = grpc.aio.server(interceptors=[errors.Failures(), door])
    pb_grpc.add_IndexerServiceServicer_to_server(handlers, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield handlers, pb_grpc.IndexerServiceStub(channel), port
    await server.stop(None)


async def test_the_call_inside_is_answered_and_the_next_refused_when_the_door_is_shut() -> None:
    """Who is refused is told to come again."""
    door = drain.Gate()
    async with serving(door) as (handlers, stub, port):
        inside = asyncio.ensure_future(stub.GetJob(pb.GetJobRequest(), timeout=LONG))
        await handlers.asked.wait()
        leaving = asyncio.create_task(door.leave(port, LONG))
        await asyncio.sleep(0)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.GetJob(pb.GetJobRequest(), timeout=LONG)
        handlers.answer.set()
        answered = await inside
        await leaving

    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
    assert "about to end" in str(refused.value.details())
    assert answered == pb.GetJobResponse()


async def test_a_call_is_unavailable_when_it_outlives_the_drain() -> None:
    """It is cut, and its caller knows that he may come again."""
    door = drain.Gate()
    async with serving(door) as (handlers, stub, port):
        inside = asyncio.ensure_future(stub.GetJob(pb.GetJobRequest(), timeout=LONG))
        await handlers.asked.wait()

        await door.leave(port, 0.01)

        with pytest.raises(grpc.aio.AioRpcError) as cut:
            await inside
        handlers.answer.set()
    assert cut.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_nobody_else_is_cut_off_when_we_hang_up() -> None:
    """Only connections that were made to that port."""
    door = drain.Gate()
    async with serving(door) as (handlers, stub, port):
        handlers.answer.set()
        await stub.GetJob(pb.GetJobRequest(), timeout=LONG)

        drain.hang_up(port + 1)

        assert await stub.GetJob(pb.GetJobRequest(), timeout=LONG) == pb.GetJobResponse()
