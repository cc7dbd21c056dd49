"""The connection to the service: the client library's, checked before it is used, so that errors name the option."""

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import AsyncIterator
from typing import TypeAlias

from indexer_client import asyncio_client
from indexer_client import options as client_options
from indexer_client.cli import errors

Client: TypeAlias = asyncio_client.AsyncClient
TOKEN_VARIABLE = "INDEXER_CLIENT_TOKEN"  # noqa: S105 -- the name of a variable


@dataclasses.dataclass(frozen=True, slots=True)
class Patience:
    """
    How long a command waits for the service, in seconds.

    Attributes:
        attempt: For one attempt of a call.
        calls: For which a call is repeated; short, because somebody waits for the error.
        streams: For which a watch tries again without progress.
    """

    attempt: float = 10.0
    calls: float = 2.0
    streams: float = 60.0


@dataclasses.dataclass(frozen=True, slots=True)
class Endpoint:
    """
    The service's address, TLS options and token.

    Attributes:
        tls: None connects without TLS.
        token: File with the service token; None reads INDEXER_CLIENT_TOKEN, which may be unset.
    """

    address: str
    tls: client_options.Tls | None = None
    token: pathlib.Path | None = None

    def __str__(self) -> str:
        return f"{self.address} over TLS" if self.tls else self.address


@contextlib.asynccontextmanager
async def open_client(endpoint: Endpoint, patience: Patience | None = None) -> AsyncIterator[Client]:
    """
    Yield a client of the service. The connection is made at the first call.

    Raises:
        errors.CliError: A file cannot be read, or the token would be sent unencrypted to another machine.
    """
    patience = patience or Patience()
    token = _load_token(endpoint)
    if token and not endpoint.tls and not client_options.is_local(endpoint.address):
        raise errors.CliError(
            f"refusing to send the service token unencrypted to {endpoint.address}; use --tls or --tls-ca",
            errors.EXIT_USAGE,
        )
    if endpoint.tls is not None:
        _read_file("--tls-ca", endpoint.tls.authority)
        _read_file("--tls-key", endpoint.tls.key)
        _read_file("--tls-cert", endpoint.tls.certificate)
    settings = client_options.Options(
        endpoint.address,
        tls=endpoint.tls,
        token=token,
        token_file=endpoint.token,
        deadline=patience.attempt,
        retry_for=patience.calls,
        patience=patience.streams,
    )
    async with asyncio_client.AsyncClient(settings=settings) as client:
        yield client


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
            return file.read(client_options.MAX_FILE_BYTES)
    except OSError as error:
        raise errors.CliError(f"{option}: {path} cannot be read ({error.strerror})", errors.EXIT_USAGE) from error
