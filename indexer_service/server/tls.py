"""
Credentials of the gRPC address: the server's certificate, the authority of client certificates, and service tokens.

All of them are files that may change while the service runs. A changed file that cannot be used is refused, and the
last valid one stays in force.
"""

import contextlib
import math
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import grpc.aio
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from indexer_service import file_watch, interceptors
from indexer_service.interceptors import auth
from indexing import concurrency, settings


class ServerCredentials:
    """The certificates and tokens of this process, as far as the settings ask for them."""

    def __init__(self, config: settings.ServiceSettings) -> None:
        self._certificates = Certificates(config) if config.tls_cert else None
        self._auth: interceptors.AuthInterceptor | None = None
        self._files = [self._certificates.files] if self._certificates else []
        if config.service_tokens_file:
            self._auth = interceptors.AuthInterceptor(time.monotonic)
            paths = {auth.SETTING: config.service_tokens_file}
            self._files.append(file_watch.WatchedFiles(paths, self._auth.load_tokens))

    def load(self) -> None:
        """Load the files for the first time. Raises file_watch.InvalidFile."""
        for files in self._files:
            files.load()

    async def reload(self) -> None:
        """Load the files that have changed, and end the streams of revoked tokens."""
        for files in self._files:
            await files.reload()
        if self._auth:
            self._auth.end_revoked_streams()

    @property
    def refused(self) -> bool:
        """Whether a file has changed and cannot be used."""
        return any(files.refused for files in self._files)

    @property
    def expiry(self) -> float:
        """When the first of the service's certificates expires, in seconds since 1970; infinite without TLS."""
        return self._certificates.expiry if self._certificates else math.inf

    def pacing_interceptors(self) -> list[interceptors.Interceptor]:
        """Return the interceptor that delays refusals; none where callers need no token."""
        return [interceptors.PacingInterceptor(self._auth.is_known)] if self._auth else []

    def auth_interceptors(self) -> list[interceptors.Interceptor]:
        """Return the interceptor that checks tokens; none where callers need no token."""
        return [self._auth] if self._auth else []

    def add_port(self, server: grpc.aio.Server, address: str) -> int:
        """Bind *address*, with TLS if there is a certificate; returns the port. Raises RuntimeError."""
        if self._certificates:
            return server.add_secure_port(address, self._certificates.server_credentials())
        return server.add_insecure_port(address)


@contextlib.asynccontextmanager
async def open_credentials(config: settings.ServiceSettings) -> AsyncIterator[ServerCredentials]:
    """
    Load the files, and reload them in the settings' interval until the block ends.

    Raises:
        file_watch.InvalidFile: A file cannot be used, and there is no older content.
    """
    credentials = ServerCredentials(config)
    credentials.load()
    async with concurrency.background_tasks(
        reload=lambda: concurrency.repeat_every(config.reload_interval, credentials.reload)
    ):
        yield credentials


class Certificates:
    """The server's certificate and key, and the authority of client certificates if callers need one."""

    def __init__(self, config: settings.ServiceSettings) -> None:
        paths = {
            "INDEXER_TLS_CERT": config.tls_cert,
            "INDEXER_TLS_KEY": config.tls_key,
            "INDEXER_TLS_CLIENT_CA": config.tls_client_ca,
        }
        self._mutual = bool(config.tls_client_ca)
        self._pem: Sequence[bytes] = ()
        self._handed_over: Sequence[bytes] = ()
        self.files = file_watch.WatchedFiles({name: path for name, path in paths.items() if path}, self._load)

    def server_credentials(self) -> grpc.ServerCredentials:
        """Return gRPC's credentials; gRPC fetches changed certificates at each new connection."""
        self._handed_over = self._pem
        fetch: Any = self._fetch_changed  # the stubs do not allow None, which says that nothing has changed
        return grpc.dynamic_ssl_server_credentials(
            self._configuration(self._pem), fetch, require_client_authentication=self._mutual
        )

    @property
    def expiry(self) -> float:
        """When the first certificate of the chain expires, in seconds since 1970."""
        chain = x509.load_pem_x509_certificates(self._pem[0])
        return min(certificate.not_valid_after_utc.timestamp() for certificate in chain)

    def _load(self, contents: Sequence[bytes]) -> None:
        check_certificates(*contents)
        self._pem = contents

    def _fetch_changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Return the new certificates, or None; gRPC calls it from its threads, and two at once may both get them."""
        pem = self._pem
        if pem is self._handed_over:
            return None
        self._handed_over = pem
        return self._configuration(pem)

    @staticmethod
    def _configuration(pem: Sequence[bytes]) -> grpc.ServerCertificateConfiguration:
        """Return a new configuration: gRPC uses each one up."""
        certificate, key, *authority = pem
        return grpc.ssl_server_certificate_configuration([(key, certificate)], authority[0] if authority else None)


def check_certificates(certificate: bytes, key: bytes, authority: bytes | None = None) -> None:
    """Refuse PEM files that gRPC would accept here and fail to serve later. Raises file_watch.InvalidFile."""
    chain = _parse_chain("INDEXER_TLS_CERT", certificate)
    if authority is not None:
        _parse_chain("INDEXER_TLS_CLIENT_CA", authority)
    try:
        private: Any = serialization.load_pem_private_key(key, password=None)
    except (ValueError, TypeError) as error:
        raise file_watch.InvalidFile("INDEXER_TLS_KEY: is not a PEM private key without a password") from error
    if private.public_key() != chain[0].public_key():
        raise file_watch.InvalidFile("INDEXER_TLS_KEY: does not belong to the first certificate of INDEXER_TLS_CERT")


def _parse_chain(setting: str, content: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError as error:
        raise file_watch.InvalidFile(f"{setting}: is not a PEM certificate chain") from error
