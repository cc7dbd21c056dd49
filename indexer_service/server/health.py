"""
Health checks (grpc.health.v1): on the service's address, and on a separate port for Kubernetes' probes.

The probe port serves nothing else and has no TLS, because Kubernetes' gRPC probes speak no TLS.
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from indexer_service.interceptors import base, chain

SERVICE_NAME: str = health.SERVICE_NAME


class Health:
    """The health service on the address of the API."""

    def __init__(self) -> None:
        self._servicer: Any = health.aio.HealthServicer()  # type: ignore[attr-defined]  # missing in the stubs

    def add_to(self, server: grpc.aio.Server) -> None:
        """Add the health service to a server that has not started."""
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, chain.GenericHandlers(server))

    async def set_serving(self) -> None:
        """Report SERVING for the server and for the API."""
        for name in ("", base.SERVICE.full_name):
            await self._servicer.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def set_stopping(self) -> None:
        """Report NOT_SERVING from now on."""
        await self._servicer.enter_graceful_shutdown()


@contextlib.asynccontextmanager
async def serve_probes(port: int) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """
    Answer probes on all addresses until the block ends; port 0 answers none.

    The empty name is liveness; it depends on this event loop alone. The API's name is readiness; it becomes NOT_SERVING
    when the yielded function is awaited. Neither asks Redis or MongoDB: an outage would make all pods unready at once,
    and callers would get refused connections in place of errors that say when to retry.

    Raises:
        RuntimeError: The port cannot be bound.
    """
    servicer = health.aio.HealthServicer()  # type: ignore[attr-defined]  # missing in the stubs
    for name in ("", base.SERVICE.full_name):
        await servicer.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def set_unready() -> None:
        await servicer.set(base.SERVICE.full_name, health_pb2.HealthCheckResponse.NOT_SERVING)

    if not port:
        yield set_unready
        return
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    server.add_insecure_port(f"[::]:{port}")
    await server.start()
    try:
        yield set_unready
    finally:
        await server.stop(None)
