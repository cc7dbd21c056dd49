"""The way to the server: one channel, with TLS and a token where they are wanted, and a deadline for every call."""

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
"""The service as generated; the name of its type exists for type checkers only."""

DEADLINE = 10.0
"""Seconds after which a call that nobody answers is given up."""
TOKEN = "INDEXER_CLIENT_TOKEN"  # noqa: S105 -- the name of a variable
LONGEST = 1 << 20
"""Bytes that are read of a file."""

OPTIONS: list[tuple[str, Any]] = [
    # A proxy in the environment is for the web, not for a service beside us: gRPC would send even loopback through it.
    ("grpc.enable_http_proxy", 0),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
]


@dataclasses.dataclass(frozen=True, slots=True)
class Tls:
    """
    How the server's certificate is checked, and what is shown in turn.

    Attributes:
        authority: File with the authorities that are believed; None believes those of this machine.
        certificate, key: Files of a certificate of one's own, or neither.
        name: Name that the server's certificate must have, if not the address's.
    """

    authority: pathlib.Path | None = None
    certificate: pathlib.Path | None = None
    key: pathlib.Path | None = None
    name: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Way:
    """
    Where the server is, and how one gets in.

    Attributes:
        tls: None connects without.
        token: File with the token; without one it is INDEXER_CLIENT_TOKEN, or there is none.
    """

    address: str
    tls: Tls | None = None
    token: pathlib.Path | None = None

    def __str__(self) -> str:
        return f"{self.address} over TLS" if self.tls else self.address


@contextlib.asynccontextmanager
async def connected(way: Way) -> AsyncIterator[Stub]:
    """
    Yield the service; whether it is there shows at the first call.

    Raises:
        problems.Problem: A file cannot be read, or the token would travel in the clear.
    """
    token = _token(way)
    if token and not way.tls and not _stays_here(way.address):
        raise errors.Problem(
            f"the token would travel in the clear to {way.address}: use --tls or --tls-ca", errors.USAGE
        )
    async with _channel(way) as channel:
        bearing: Any = _Bearing(channel, token) if token else channel
        yield pb_grpc.IndexerServiceStub(bearing)


class _Bearing:
    """A channel whose every call carries a token; what gRPC makes of it by interceptors breaks `read` of streams."""

    def __init__(self, channel: grpc.aio.Channel, token: str) -> None:
        self._channel: Any = channel
        self._metadata = (("authorization", f"Bearer {token}"),)

    def unary_unary(self, *given: Any, **named: Any) -> Any:  # noqa: ANN401 -- as gRPC's
        return functools.partial(self._channel.unary_unary(*given, **named), metadata=self._metadata)

    def unary_stream(self, *given: Any, **named: Any) -> Any:  # noqa: ANN401 -- as gRPC's
        return functools.partial(self._channel.unary_stream(*given, **named), metadata=self._metadata)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 -- kinds of calls that the API does not have
        return getattr(self._channel, name)


def _channel(way: Way) -> grpc.aio.Channel:
    if way.tls is None:
        return grpc.aio.insecure_channel(way.address, options=OPTIONS)
    credentials = grpc.ssl_channel_credentials(
        _read("--tls-ca", way.tls.authority),
        _read("--tls-key", way.tls.key),
        _read("--tls-cert", way.tls.certificate),
    )
    named = [("grpc.ssl_target_name_override", way.tls.name)] if way.tls.name else []
    return grpc.aio.secure_channel(way.address, credentials, options=[*OPTIONS, *named])


def _token(way: Way) -> str:
    if way.token is None:
        shown = os.environ.get(TOKEN, "")  # noqa: TID251 -- a token must not be an argument
    else:
        shown = (_read("--token-file", way.token) or b"").decode("ascii", "replace")
    shown = shown.strip()
    if shown and not (shown.isascii() and shown.isprintable() and " " not in shown):
        where = TOKEN if way.token is None else f"--token-file: {way.token}"
        raise errors.Problem(f"{where} holds no token, but something else", errors.USAGE)
    return shown


def _read(option: str, path: pathlib.Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            return file.read(LONGEST)
    except OSError as error:
        raise errors.Problem(f"{option}: {path} cannot be read ({error.strerror})", errors.USAGE) from error


def _stays_here(address: str) -> bool:
    host = address.removeprefix("ipv4:").removeprefix("ipv6:").rsplit(":", 1)[0].strip("[]")
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost" or address.startswith("unix:")
