"""grpc.health.v1 on a port of its own, without TLS and with nothing else: Kubernetes' gRPC probes speak no TLS."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc


@contextlib.asynccontextmanager
async def serving(port: int, name: str) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """
    Answer on all addresses until the block ends; port 0 answers nowhere.

    The empty name is liveness: it depends on nothing but this event loop. *name* is readiness: it says NOT_SERVING from
    the moment when the function that is yielded is awaited. Neither asks Redis or MongoDB: were they to, an outage
    would take every pod out at once, and callers would get refused connections in place of answers that say when to
    come again.

    Raises:
        RuntimeError: The port cannot be bound.
    """
    answers = health.aio.HealthServicer()  # type: ignore[attr-defined]  # missing in the stubs
    for each in ("", name):
        await answers.set(each, health_pb2.HealthCheckResponse.SERVING)

    async def leave() -> None:
        await answers.set(name, health_pb2.HealthCheckResponse.NOT_SERVING)

    if not port:
        yield leave
        return
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    health_pb2_grpc.add_HealthServicer_to_server(answers, server)
    server.add_insecure_port(f"[::]:{port}")
    await server.start()
    try:
        yield leave
    finally:
        await server.stop(None)
