"""The connection to the service: one gRPC channel, with optional TLS and service token."""

import contextlib
import dataclasses
import functools
import ipaddress
import os
import pathlib
from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import grpc.aio

from indexer_client.cli import errors
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc

Stub: TypeAlias = "pb_grpc.IndexerServiceAsyncStub"
"""The generated stub. Its async type exists for type checkers only."""

DEADLINE = 10.0
"""Timeout of a unary call, in seconds."""
TOKEN_VARIABLE = "INDEXER_CLIENT_TOKEN"  # noqa: S105 -- the name of a variable
MAX_FILE_BYTES = 1 << 20
"""Bytes read of a certificate, key or token file, at most."""

CHANNEL_OPTIONS: list[tuple[str, Any]] = [
    # By default gRPC sends even loopback connections through a proxy that the environment names.
    ("grpc.enable_http_proxy", 0),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
]


@dataclasses.dataclass(frozen=True, slots=True)
class Tls:
    """
    TLS options.

    Attributes:
        authority: File with the trusted CA certificates; None trusts those of this machine.
        certificate, key: Files of the client certificate for mTLS, or neither.
        name: Name expected in the server's certificate; empty for the host of the address.
    """

    authority: pathlib.Path | None = None
    certificate: pathlib.Path | None = None
    key: pathlib.Path | None = None
    name: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Endpoint:
    """
    The service's address, TLS options and token.

    Attributes:
        tls: None connects without TLS.
        token: File with the service token; None reads INDEXER_CLIENT_TOKEN, which may be unset.
    """

    address: str
    tls: Tls | None = None
    token: pathlib.Path | None = None

    def __str__(self) -> str:
        return f"{self.address} over TLS" if self.tls else self.address


@contextlib.asynccontextmanager
async def open_stub(endpoint: Endpoint) -> AsyncIterator[Stub]:
    """
    Yield a stub for the service. The connection is made at the first call.

    Raises:
        errors.CliError: A file cannot be read, or the token would be sent unencrypted to another machine.
    """
    token = _load_token(endpoint)
    if token and not endpoint.tls and not _is_local(endpoint.address):
        raise errors.CliError(
            f"refusing to send the service token unencrypted to {endpoint.address}; use --tls or --tls-ca",
            errors.EXIT_USAGE,
        )
    async with _channel(endpoint) as channel:
        authenticated: Any = _AuthenticatedChannel(channel, token) if token else channel
        yield pb_grpc.IndexerServiceStub(authenticated)


class _AuthenticatedChannel:
    """
    A channel that adds the service token to every call.

    Client interceptors cannot do this: with them, `read` of a streaming call does not work.
    """

    def __init__(self, channel: grpc.aio.Channel, token: str) -> None:
        self._channel: Any = channel
        self._metadata = (("authorization", f"Bearer {token}"),)

    def unary_unary(self, *given: Any, **named: Any) -> Any:  # noqa: ANN401 -- as gRPC's
        return functools.partial(self._channel.unary_unary(*given, **named), metadata=self._metadata)

    def unary_stream(self, *given: Any, **named: Any) -> Any:  # noqa: ANN401 -- as gRPC's
        return functools.partial(self._channel.unary_stream(*given, **named), metadata=self._metadata)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 -- for call kinds that the API does not use
        return getattr(self._channel, name)


def _channel(endpoint: Endpoint) -> grpc.aio.Channel:
    if endpoint.tls is None:
        return grpc.aio.insecure_channel(endpoint.address, options=CHANNEL_OPTIONS)
    credentials = grpc.ssl_channel_credentials(
        _read_file("--tls-ca", endpoint.tls.authority),
        _read_file("--tls-key", endpoint.tls.key),
        _read_file("--tls-cert", endpoint.tls.certificate),
    )
    named = [("grpc.ssl_target_name_override", endpoint.tls.name)] if endpoint.tls.name else []
    return grpc.aio.secure_channel(endpoint.address, credentials, options=[*CHANNEL_OPTIONS, *named])


def _load_token(endpoint: Endpoint) -> str:
    if endpoint.token is None:
        token = os.environ.get(TOKEN_VARIABLE, "")  # noqa: TID251 -- a token must not be a command line argument
    else:
        token = (_read_file("--token-file", endpoint.token) or b"").decode("ascii", "replace")
    token = token.strip()
    if token and not (token.isascii() and token.isprintable() and " " not in token):
        where = TOKEN_VARIABLE if endpoint.token is None else f"--token-file: {endpoint.token}"
        raise errors.CliError(f"{where} does not contain a service token", errors.EXIT_USAGE)
    return token


def _read_file(option: str, path: pathlib.Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES)
    except OSError as error:
        raise errors.CliError(f"{option}: {path} cannot be read ({error.strerror})", errors.EXIT_USAGE) from error


def _is_local(address: str) -> bool:
    host = address.removeprefix("ipv4:").removeprefix("ipv6:").rsplit(":", 1)[0].strip("[]")
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost" or address.startswith("unix:")
