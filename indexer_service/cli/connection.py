"""The way to the server: one channel, and a deadline for every call."""

import contextlib
from collections.abc import AsyncIterator
from typing import TypeAlias

import grpc.aio

from indexer_service.v1 import indexer_pb2_grpc as pb_grpc

Stub: TypeAlias = "pb_grpc.IndexerServiceAsyncStub"
"""The service as generated; the name of its type exists for type checkers only."""

DEADLINE = 10.0
"""Seconds after which a call that nobody answers is given up."""

OPTIONS = [
    # A proxy in the environment is for the web, not for a service beside us: gRPC would send even loopback through it.
    ("grpc.enable_http_proxy", 0),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
]


@contextlib.asynccontextmanager
async def connected(address: str) -> AsyncIterator[Stub]:
    """Yield the service at *address*, host:port; whether it is there shows at the first call."""
    async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
        yield pb_grpc.IndexerServiceStub(channel)
