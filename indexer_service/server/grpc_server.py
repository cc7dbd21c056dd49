"""The gRPC server: options, interceptors, health, reflection and shutdown."""

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable, Sequence

import grpc.aio

from indexer_service import file_watch, interceptors
from indexer_service.api import servicer
from indexer_service.interceptors import base, chain
from indexer_service.server import connections, health, reflection, tls
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc
from indexing import settings
from indexing.telemetry import logs


class CannotListen(Exception):
    """The address cannot be bound, or must not be bound because callers are not authenticated."""


def check_address(config: settings.ServiceSettings) -> None:
    """Refuse an address beyond loopback unless callers need tokens and TLS. Raises CannotListen."""
    if config.on_loopback or config.guarded or config.insecure:
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
        "or INDEXER_INSECURE=1 to accept calls from everyone who can reach it"
    )


def _warn_if_unguarded(config: settings.ServiceSettings) -> None:
    """Log a warning when other machines can reach an address without tokens or TLS."""
    if not config.guarded and not config.on_loopback:
        logs.get(__name__).warning(
            "insecure",
            address=config.listen,
            tls=bool(config.tls_cert),
            tokens=bool(config.service_tokens_file),
            risk="anyone who reaches this address can read, change and erase all users' data, or listen to calls",
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Lifecycle:
    """
    What the server asks of the process.

    Attributes:
        end_streams: Called once, before the drain.
        unready_reason: Returns why the process is not ready; empty when it is.
        show_credentials: Called once with the certificates and tokens in force.
    """

    end_streams: Callable[[], None] = lambda: None
    unready_reason: Callable[[], str] = str
    show_credentials: Callable[[tls.ServerCredentials], None] = lambda _: None


@contextlib.asynccontextmanager
async def serve(
    api: servicer.Servicer,
    idempotency: interceptors.IdempotencyInterceptor,
    config: settings.ServiceSettings,
    lifecycle: Lifecycle,
    *,
    outer: Sequence[interceptors.Interceptor] = (),
) -> AsyncIterator[int]:
    """
    Serve until the block ends; yields the port.

    Shutdown has three steps: health reports NOT_SERVING, the streams are asked to end, and the calls in flight are
    drained (see `interceptors.drain`).

    Args:
        api: The methods.

        idempotency: The innermost interceptor.

        config: Address, credentials and the longest drain.

        lifecycle: How to end the streams, and whether the process is ready.

        outer: Interceptors outside all others but the pace of refusals.

    Raises:
        CannotListen: An address cannot be bound, or a file of credentials cannot be used.
    """
    check_address(config)
    _warn_if_unguarded(config)
    async with _open_credentials(config, lifecycle) as credentials:
        drain = interceptors.DrainInterceptor()
        receive = interceptors.ReceiveInterceptor(config.receive_timeout)
        inner = [*credentials.auth_interceptors(), drain, receive, interceptors.DecodingInterceptor(), idempotency]
        middle = (
            interceptors.ErrorInterceptor(),
            interceptors.OpenMethodsInterceptor(config),
            interceptors.AuditInterceptor(),
        )
        around = interceptors.InterceptorChain([*credentials.pacing_interceptors(), *outer, *middle, *inner])
        server = grpc.aio.server(interceptors=[around], options=connections.options(config))
        pb_grpc.add_IndexerServiceServicer_to_server(api, chain.GenericHandlers(server))  # type: ignore[arg-type]  # the part that is used
        healthy = health.Health()
        healthy.add_to(server)
        if config.reflection:
            reflection.add_to(server, [base.SERVICE.full_name, health.SERVICE_NAME])
        port = _bind(server, credentials, config.listen)
        await server.start()
        await healthy.set_serving()
        try:
            async with _serve_probes(config) as set_ready:
                try:
                    async with health.reporting_readiness(lifecycle.unready_reason, healthy, set_ready):
                        yield port
                finally:
                    lifecycle.end_streams()
                    await drain.drain(port, config.drain)
        finally:
            await server.stop(None)


def _bind(server: grpc.aio.Server, credentials: tls.ServerCredentials, address: str) -> int:
    try:
        return credentials.add_port(server, address)
    except RuntimeError as error:
        raise CannotListen(f"INDEXER_LISTEN: {address} cannot be bound; is it in use?") from error


@contextlib.asynccontextmanager
async def _open_credentials(
    config: settings.ServiceSettings, lifecycle: Lifecycle
) -> AsyncIterator[tls.ServerCredentials]:
    async with contextlib.AsyncExitStack() as stack:
        try:
            credentials = await stack.enter_async_context(tls.open_credentials(config))
        except file_watch.InvalidFile as problem:
            raise CannotListen(str(problem)) from problem
        lifecycle.show_credentials(credentials)
        yield credentials


@contextlib.asynccontextmanager
async def _serve_probes(config: settings.ServiceSettings) -> AsyncIterator[health.SetReady]:
    async with contextlib.AsyncExitStack() as stack:
        try:
            set_ready = await stack.enter_async_context(health.serve_probes(config))
        except RuntimeError as error:
            raise CannotListen(f"INDEXER_PROBE_PORT: {config.probe_port} cannot be bound; is it in use?") from error
        yield set_ready
