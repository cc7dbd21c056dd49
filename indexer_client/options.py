"""How a client connects: address, TLS, token, deadlines and retries."""

import contextlib
import dataclasses
import importlib.resources
import ipaddress
import json
import pathlib
from typing import Any

import grpc

MAX_FILE_BYTES = 1 << 20
"""Bytes read of a certificate, key or token file, at most."""


@dataclasses.dataclass(frozen=True, slots=True)
class Tls:
    """
    TLS options. Files are read again when they change, so that a renewed certificate is taken up.

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
class Options:
    """
    Options of a client.

    Attributes:
        address: host:port, or dns:///host:port for all addresses of a name.
        tls: None connects without TLS.
        token: The service token.
        token_file: File with the service token, in place of `token`; read again when it changes.
        deadline: Seconds that one attempt of a call may take, besides the time that it asks the service to wait.
        retry_for: Seconds for which a call is repeated that finds no server, or is asked to come again.
        patience: Seconds for which a watch tries again without getting any message.
    """

    address: str
    tls: Tls | None = None
    token: str = dataclasses.field(default="", repr=False)
    token_file: pathlib.Path | None = None
    deadline: float = 10.0
    retry_for: float = 30.0
    patience: float = 300.0


class Secrets:
    """The files of a client's credentials, read again when they change."""

    def __init__(self, options: Options) -> None:
        self._options = options
        tls = options.tls or Tls()
        self._tls_files = [tls.authority, tls.key, tls.certificate]
        self._token_stamp: object = None
        self._token = options.token

    def tls_stamp(self) -> object:
        """Return a value that changes when a certificate or key changes."""
        return tuple(map(_stamp, self._tls_files))

    def channel_credentials(self) -> grpc.ChannelCredentials | None:
        """Return credentials from the files as they are now; None without TLS. Raises OSError."""
        if self._options.tls is None:
            return None
        return grpc.ssl_channel_credentials(*map(_content, self._tls_files))

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """
        Return the metadata that authenticates a call.

        Raises:
            OSError: The token file cannot be read.
            ValueError: The token would be sent unencrypted to another machine.
        """
        file = self._options.token_file
        if file is not None and (stamp := _stamp(file)) != self._token_stamp:
            self._token, self._token_stamp = (_content(file) or b"").decode("ascii", "replace").strip(), stamp
        if not self._token:
            return ()
        if self._options.tls is None and not is_local(self._options.address):
            raise ValueError(f"the service token is not sent unencrypted to {self._options.address}; give tls")
        return (("authorization", f"Bearer {self._token}"),)


def channel_options(options: Options) -> list[tuple[str, Any]]:
    """Return gRPC's options for a channel."""
    config = json.loads(importlib.resources.files(__package__).joinpath("service_config.json").read_text("utf-8"))
    # The client itself repeats calls, because gRPC's retries do not read RetryInfo.
    del config["methodConfig"]
    named = [("grpc.ssl_target_name_override", options.tls.name)] if options.tls and options.tls.name else []
    return [
        ("grpc.service_config", json.dumps(config)),
        # By default gRPC sends even loopback connections through a proxy that the environment names.
        ("grpc.enable_http_proxy", 0),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        # By default two minutes may pass before a server that is back is tried.
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 5_000),
        *named,
    ]


def is_local(address: str) -> bool:
    """Return whether an address is on this machine."""
    host = address.removeprefix("ipv4:").removeprefix("ipv6:").rsplit(":", 1)[0].strip("[]")
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost" or address.startswith("unix:")


def _stamp(path: pathlib.Path | None) -> object:
    if path is None:
        return None
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _content(path: pathlib.Path | None) -> bytes | None:
    if path is None:
        return None
    with path.open("rb") as file:
        return file.read(MAX_FILE_BYTES)
