"""
`make bench-admission`: what asking a caller for its token costs a short call.

Inside one real call, with the metadata that gRPC really hands over, the same empty handler is run many times: by
itself, and behind the interceptor. The rounds take turns, so that whatever else the machine does hits both alike.
"""

import argparse
import asyncio
import hashlib
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc
import grpc.aio

from indexer_service.interceptors import auth
from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc

TARGET = 15e-6
"""Seconds that a call may take longer."""
CALLERS = 100
TOKEN = "idx_" + "t" * 43
METHOD = f"/{auth.SERVICE}/GetJob"
Run = Callable[[], Awaitable[object]]


class Details:
    """What gRPC tells of a call before it is handled."""

    method = METHOD
    invocation_metadata = ()


def table() -> bytes:
    """Return a file of many callers, of whom one has our token, and a rate that is never reached."""
    tokens = [TOKEN, *(f"idx_{number}" for number in range(CALLERS - 1))]
    hashes = (hashlib.sha256(token.encode()).hexdigest() for token in tokens)
    return "\n".join(f"caller-{at} {digest} index,read 100000/0.001" for at, digest in enumerate(hashes)).encode()


class Handlers(pb_grpc.IndexerServiceServicer):
    """Measures when it is called."""

    def __init__(self, calls: int, rounds: int) -> None:
        self._calls = calls
        self._rounds = rounds
        self.found: list[tuple[float, float]] = []

    async def GetJob(self, request: pb.GetJobRequest, context: Any) -> pb.GetJobResponse:  # noqa: ANN401, N802 -- gRPC's
        """Measure, with the context of this very call."""
        handler = grpc.unary_unary_rpc_method_handler(_nothing)

        async def continuation(_: object) -> Any:  # noqa: ANN401 -- gRPC's handlers have no common type
            return handler

        door = auth.Admission(time.monotonic)
        door.accept([table()])

        async def without() -> object:
            found: Any = await continuation(Details)
            return await found.unary_unary(request, context)

        async def behind() -> object:
            found: Any = await door.intercept_service(continuation, Details)  # type: ignore[arg-type]  # a stand-in
            return await found.unary_unary(request, context)

        for _ in range(self._rounds):
            self.found.append((await self._timed(without), await self._timed(behind)))
        return pb.GetJobResponse()

    async def _timed(self, run: Run) -> float:
        started = time.perf_counter()
        for _ in range(self._calls):
            await run()
        return (time.perf_counter() - started) / self._calls


async def _nothing(_request: object, _context: object) -> None:
    """Answer nothing."""


async def measure(calls: int, rounds: int) -> list[tuple[float, float]]:
    """Return seconds a call, by itself and behind the interceptor, for each round."""
    handlers = Handlers(calls, rounds)  # type: ignore[abstract]  # one method is enough
    server = grpc.aio.server()
    pb_grpc.add_IndexerServiceServicer_to_server(handlers, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    metadata = (("x-request-id", "a" * 32), ("traceparent", "00-" + "a" * 32), ("authorization", f"Bearer {TOKEN}"))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        await pb_grpc.IndexerServiceStub(channel).GetJob(pb.GetJobRequest(), timeout=600, metadata=metadata)
    await server.stop(None)
    return handlers.found


def main(arguments: Sequence[str]) -> int:
    """Measure and print; returns 1 when it costs more than it may."""
    parser = argparse.ArgumentParser(description="What asking a caller for its token costs a short call.")
    parser.add_argument("--calls", type=int, default=5_000, help="calls a round (default 5000)")
    parser.add_argument("--rounds", type=int, default=20, help="rounds (default 20)")
    options = parser.parse_args(arguments)
    found = asyncio.run(measure(options.calls, options.rounds))
    before, after = (statistics.median(column) for column in zip(*found, strict=True))
    cost = statistics.median(behind - without for without, behind in found)
    print(f"without {before * 1e6:.2f} µs, behind {after * 1e6:.2f} µs: {cost * 1e6:.2f} µs a call")  # noqa: T201 -- a report
    return int(cost > TARGET)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
