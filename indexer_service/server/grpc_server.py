"""The gRPC server: options, health, reflection, and an orderly end."""

import contextlib
import ipaddress
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from indexer_service import file_watch
from indexer_service.api import servicer
from indexer_service.interceptors import chain, decoding, drain, errors, idempotency
from indexer_service.server import health as server_health
from indexer_service.server import tls
from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc
from indexing import settings
from indexing.telemetry import logs

NAME: str = pb.DESCRIPTOR.services_by_name["IndexerService"].full_name
OPTIONS = [
    ("grpc.max_receive_message_length", 1 << 20),
    ("grpc.max_send_message_length", 4 << 20),
    ("grpc.max_concurrent_streams", 20_000),
    # Core refuses a burst of new streams beyond 1,000 pending ones as CANCELLED; watchers reconnect in bursts.
    ("grpc.server.max_pending_requests", 20_000),
    ("grpc.server.max_pending_requests_hard_limit", 50_000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.so_reuseport", 0),
]


class CannotListen(Exception):
    """The address is taken, cannot be bound, or may not be bound as callers are (not) authenticated."""


def check_address(config: settings.ServiceSettings) -> None:
    """Refuse an address beyond loopback unless callers show tokens over TLS. Raises CannotListen."""
    if _loopback(config.listen) or config.guarded or config.insecure:
        return
    missing = [
        variable
        for variable, value in (
            ("INDEXER_TLS_CERT and INDEXER_TLS_KEY", config.tls_cert),
            ("INDEXER_SERVICE_TOKENS_FILE", config.service_tokens_file),
        )
        if not value
    ]
    raise CannotListen(
        f"INDEXER_LISTEN: {config.listen} is not loopback; set {', and '.join(missing)}, "
        "or INDEXER_INSECURE=1 to let everybody who reaches it in"
    )


def _loopback(listen: str) -> bool:
    host = listen.rsplit(":", 1)[0].strip("[]")
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _warn(config: settings.ServiceSettings) -> None:
    """Say it loudly when others can reach an address that is not guarded."""
    if not config.guarded and not _loopback(config.listen):
        logs.get(__name__).warning(
            "insecure",
            address=config.listen,
            tls=bool(config.tls_cert),
            tokens=bool(config.service_tokens_file),
            risk="whoever reaches this address may read, change and erase every user's data, or listen",
        )


@contextlib.asynccontextmanager
async def serving(
    methods: servicer.Servicer,
    replays: idempotency.Replays,
    config: settings.ServiceSettings,
    end_streams: Callable[[], None],
    *,
    first: Sequence[grpc.aio.ServerInterceptor] = (),  # type: ignore[type-arg]  # generic in the stubs only
) -> AsyncIterator[int]:
    """
    Serve until the block ends; yields the port.

    *first* are interceptors that see a call before ours do. At the end health says NOT_SERVING first, then streams are
    told to go, then calls are drained (see `gate`).

    Raises:
        CannotListen: The address cannot be bound, or a file that guards it cannot be used.
    """
    check_address(config)
    _warn(config)
    async with _trusting(config) as checks:
        door = drain.Gate()
        inner = [errors.Failures(), *checks.interceptors(), door, decoding.WellFormed(), replays]
        server = grpc.aio.server(interceptors=[chain.Stacked([*first, *inner])], options=OPTIONS)
        pb_grpc.add_IndexerServiceServicer_to_server(methods, chain.ByName(server))  # type: ignore[arg-type]  # the part that is used
        healthy = _answer_tools(server, config)
        try:
            port = checks.add_port(server, config.listen)
        except RuntimeError as error:
            raise CannotListen(f"INDEXER_LISTEN: {config.listen} cannot be bound; is it in use?") from error
        await server.start()
        for name in ("", NAME):
            await healthy.set(name, health_pb2.HealthCheckResponse.SERVING)
        try:
            async with _probes(config.probe_port) as leave:
                try:
                    yield port
                finally:
                    await leave()
                    await healthy.enter_graceful_shutdown()
                    end_streams()
                    await door.leave(port, config.drain)
        finally:
            await server.stop(None)


def _answer_tools(server: grpc.aio.Server, config: settings.ServiceSettings) -> Any:  # noqa: ANN401 -- missing in the stubs
    """Add health, which is returned, and reflection where it is wanted."""
    healthy = health.aio.HealthServicer()  # type: ignore[attr-defined]  # missing in the stubs
    health_pb2_grpc.add_HealthServicer_to_server(healthy, chain.ByName(server))
    if config.reflection:
        reflection.enable_server_reflection([NAME, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
    return healthy


@contextlib.asynccontextmanager
async def _trusting(config: settings.ServiceSettings) -> AsyncIterator[tls.Trust]:
    async with contextlib.AsyncExitStack() as stack:
        try:
            checks = await stack.enter_async_context(tls.opened(config))
        except file_watch.Unacceptable as problem:
            raise CannotListen(str(problem)) from problem
        yield checks


@contextlib.asynccontextmanager
async def _probes(port: int) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    async with contextlib.AsyncExitStack() as stack:
        try:
            leave = await stack.enter_async_context(server_health.serving(port, NAME))
        except RuntimeError as error:
            raise CannotListen(f"INDEXER_PROBE_PORT: {port} cannot be bound; is it in use?") from error
        yield leave
