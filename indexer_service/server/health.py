"""
Health checks (grpc.health.v1): on the service's address, and on a separate port for Kubernetes' probes.

The probe port serves nothing else and has no TLS, because Kubernetes' gRPC probes speak no TLS.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from indexer_service.interceptors import base, chain, open_methods
from indexer_service.server import connections
from indexing import concurrency, settings
from indexing.telemetry import logs

SERVICE_NAME: str = health.SERVICE_NAME
READINESS_INTERVAL = 1.0
"""Seconds between two looks at the reason why the process is not ready."""
SetReady: TypeAlias = Callable[[bool], Awaitable[None]]


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

    async def set_ready(self, ready: bool) -> None:  # noqa: FBT001 -- the same as of the probes
        """Report the API as SERVING or NOT_SERVING."""
        await self._servicer.set(base.SERVICE.full_name, _status(ready))

    async def set_stopping(self) -> None:
        """Report NOT_SERVING from now on."""
        await self._servicer.enter_graceful_shutdown()


@contextlib.asynccontextmanager
async def serve_probes(config: settings.ServiceSettings) -> AsyncIterator[SetReady]:
    """
    Answer probes on all addresses until the block ends; port 0 answers none.

    The empty name is liveness; it depends on this event loop alone. The API's name is readiness, which the yielded
    function sets. An outage of Redis or MongoDB changes neither: all pods would be unready at once, and callers would
    get refused connections in place of errors that say when to retry.

    Raises:
        RuntimeError: The port cannot be bound.
    """
    servicer = health.aio.HealthServicer()  # type: ignore[attr-defined]  # missing in the stubs
    for name in ("", base.SERVICE.full_name):
        await servicer.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def set_ready(ready: bool) -> None:  # noqa: FBT001 -- a status
        await servicer.set(base.SERVICE.full_name, _status(ready))

    if not config.probe_port:
        yield set_ready
        return
    bounded = chain.InterceptorChain([open_methods.OpenMethodsInterceptor(config)])
    server = grpc.aio.server(interceptors=[bounded], options=connections.options(config))
    health_pb2_grpc.add_HealthServicer_to_server(servicer, chain.GenericHandlers(server))
    server.add_insecure_port(f"[::]:{config.probe_port}")
    await server.start()
    try:
        yield set_ready
    finally:
        await server.stop(None)


def _status(ready: bool) -> Any:  # noqa: ANN401, FBT001 -- an enum of the protocol
    status = health_pb2.HealthCheckResponse
    return status.SERVING if ready else status.NOT_SERVING


@contextlib.asynccontextmanager
async def reporting_readiness(
    unready_reason: Callable[[], str], healthy: Health, set_ready: SetReady
) -> AsyncIterator[None]:
    """
    Report on both addresses whether the process is ready, until the block ends; then that it stops.

    Args:
        unready_reason: Returns why the process is not ready; empty when it is. Each change is logged.

        healthy: The health service on the address of the API.

        set_ready: Sets the answer to the probes.
    """
    log = logs.get(__name__)

    async def follow() -> None:
        known = ""
        while True:
            reason = unready_reason()
            if reason != known:
                if reason:
                    log.warning("not_ready", reason=reason)
                else:
                    log.info("ready_again", reason=known)
                await set_ready(not reason)
                await healthy.set_ready(not reason)
                known = reason
            await asyncio.sleep(READINESS_INTERVAL)

    try:
        async with concurrency.background_tasks(readiness=follow):
            yield
    finally:
        await set_ready(False)
        await healthy.set_stopping()
