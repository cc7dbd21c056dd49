"""
What the gRPC address asks of callers: certificates and tokens, from files that are looked at again and again.

TLS of the gRPC address: certificate, key, and the callers' authority, from files that may change at any time.
"""

import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import grpc.aio
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from indexer_service import file_watch
from indexer_service.interceptors import auth
from indexing import concurrency, settings


class Trust:
    """What is checked of callers in this process."""

    def __init__(self, config: settings.ServiceSettings) -> None:
        self._certificates = Certificates(config) if config.tls_cert else None
        self._admission: auth.Admission | None = None
        self._files = [self._certificates.files] if self._certificates else []
        if config.service_tokens_file:
            self._admission = auth.Admission(time.monotonic)
            paths = {"INDEXER_SERVICE_TOKENS_FILE": config.service_tokens_file}
            self._files.append(file_watch.Files(paths, self._admission.accept))

    def open(self) -> None:
        """Read the files for the first time. Raises reloaded.Unacceptable."""
        for files in self._files:
            files.open()

    async def look(self) -> None:
        """Read the files again, and end what must not go on."""
        for files in self._files:
            await files.look()
        if self._admission:
            self._admission.end_refused()

    def interceptors(self) -> list[grpc.aio.ServerInterceptor]:  # type: ignore[type-arg]  # generic in the stubs only
        """Return what looks at every call: nothing where callers need no token."""
        return [self._admission] if self._admission else []

    def add_port(self, server: grpc.aio.Server, address: str) -> int:
        """Listen, with TLS if there is a certificate; returns the port. Raises RuntimeError."""
        if self._certificates:
            return server.add_secure_port(address, self._certificates.credentials())
        return server.add_insecure_port(address)


@contextlib.asynccontextmanager
async def opened(config: settings.ServiceSettings) -> AsyncIterator[Trust]:
    """
    Read the files, and again until the block ends.

    Raises:
        reloaded.Unacceptable: A file cannot be used; there is nothing older to go on with.
    """
    trust = Trust(config)
    trust.open()
    async with concurrency.background_tasks(
        reload=lambda: concurrency.repeat_every(config.reload_interval, trust.look)
    ):
        yield trust


class Certificates:
    """What the server shows, and which authority callers' certificates must come from, if any."""

    def __init__(self, config: settings.ServiceSettings) -> None:
        given = {
            "INDEXER_TLS_CERT": config.tls_cert,
            "INDEXER_TLS_KEY": config.tls_key,
            "INDEXER_TLS_CLIENT_CA": config.tls_client_ca,
        }
        paths = {setting: path for setting, path in given.items() if path}
        self._mutual = bool(config.tls_client_ca)
        self._pem: Sequence[bytes] = ()
        self._given: Sequence[bytes] = ()
        self.files = file_watch.Files(paths, self._accept)

    def credentials(self) -> grpc.ServerCredentials:
        """Return what the server listens with; gRPC asks at every new connection whether anything has changed."""
        self._given = self._pem
        changed: Any = self._changed  # the stubs know nothing of None, which says that nothing has
        return grpc.dynamic_ssl_server_credentials(
            self._configuration(self._pem), changed, require_client_authentication=self._mutual
        )

    def _accept(self, contents: Sequence[bytes]) -> None:
        check(*contents)
        self._pem = contents

    def _changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Return what is new; called by threads of gRPC, and two at once may both be given it."""
        pem = self._pem
        if pem is self._given:
            return None
        self._given = pem
        return self._configuration(pem)

    @staticmethod
    def _configuration(pem: Sequence[bytes]) -> grpc.ServerCertificateConfiguration:
        """Return gRPC's form; it is used up when it is handed over, so each time a new one is made."""
        certificate, key, *authority = pem
        return grpc.ssl_server_certificate_configuration([(key, certificate)], authority[0] if authority else None)


def check(certificate: bytes, key: bytes, authority: bytes | None = None) -> None:
    """Refuse what could not be served: gRPC takes anything here, and fails later. Raises reloaded.Unacceptable."""
    chain = _chain("INDEXER_TLS_CERT", certificate)
    if authority is not None:
        _chain("INDEXER_TLS_CLIENT_CA", authority)
    try:
        private: Any = serialization.load_pem_private_key(key, password=None)
    except (ValueError, TypeError) as error:
        raise file_watch.Unacceptable("INDEXER_TLS_KEY: is no PEM of a private key without a password") from error
    if private.public_key() != chain[0].public_key():
        raise file_watch.Unacceptable("INDEXER_TLS_KEY: does not belong to the first certificate of INDEXER_TLS_CERT")


def _chain(setting: str, content: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(content)
    except ValueError as error:
        raise file_watch.Unacceptable(f"{setting}: is no PEM of certificates") from error
