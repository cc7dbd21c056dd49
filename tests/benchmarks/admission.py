"""
`make bench-admission`: what authentication costs a short call.

It runs inside one real call, with the metadata that gRPC provides. The same empty handler runs many times, alone and
behind the interceptor. The two take turns, so that other load on the machine affects both alike.
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

from indexer_service import interceptors
from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc

TARGET = 15e-6
"""Seconds that authentication may add to a call."""
CALLERS = 100
TOKEN = "idx_" + "t" * 43
METHOD = f"{interceptors.base.PREFIX}GetJob"
Call = Callable[[Any, Any], Awaitable[object]]


def table() -> bytes:
    """Return a tokens file of many callers, one of them with TOKEN, with rates that are never reached."""
    tokens = [TOKEN, *(f"idx_{number}" for number in range(CALLERS - 1))]
    hashes = (hashlib.sha256(token.encode()).hexdigest() for token in tokens)
    return "\n".join(f"caller-{at} {digest} index,read 100000/0.001" for at, digest in enumerate(hashes)).encode()


class Handlers(pb_grpc.IndexerServiceServicer):
    """Measures inside its one method."""

    def __init__(self, calls: int, rounds: int) -> None:
        self._calls = calls
        self._rounds = rounds
        self.found: list[tuple[float, float]] = []

    async def GetJob(self, request: pb.GetJobRequest, context: Any) -> pb.GetJobResponse:  # noqa: ANN401, N802 -- gRPC's
        """Measure with the context of this call."""
        auth = interceptors.AuthInterceptor(time.monotonic)
        auth.load_tokens([table()])
        wrapped = auth.wrap_handler(METHOD, grpc.unary_unary_rpc_method_handler(_nothing)).unary_unary
        for _ in range(self._rounds):
            alone = await self._time(_nothing, request, context)
            self.found.append((alone, await self._time(wrapped, request, context)))
        return pb.GetJobResponse()

    async def _time(self, call: Call, request: pb.GetJobRequest, context: object) -> float:
        started = time.perf_counter()
        for _ in range(self._calls):
            await call(request, context)
        return (time.perf_counter() - started) / self._calls


async def _nothing(_request: object, _context: object) -> None:
    """Do nothing."""


async def measure(calls: int, rounds: int) -> list[tuple[float, float]]:
    """Return the seconds of a call, alone and behind the interceptor, for each round."""
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
    """Measure and print; returns 1 when the cost exceeds TARGET."""
    parser = argparse.ArgumentParser(description="What authentication costs a short call.")
    parser.add_argument("--calls", type=int, default=5_000, help="calls a round (default 5000)")
    parser.add_argument("--rounds", type=int, default=20, help="rounds (default 20)")
    options = parser.parse_args(arguments)
    found = asyncio.run(measure(options.calls, options.rounds))
    alone, behind = (statistics.median(column) for column in zip(*found, strict=True))
    cost = statistics.median(second - first for first, second in found)
    print(f"alone {alone * 1e6:.2f} µs, authenticated {behind * 1e6:.2f} µs: {cost * 1e6:.2f} µs a call")  # noqa: T201 -- a report
    return int(cost > TARGET)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
