"""What the gRPC address asks of callers: certificates and tokens, from files that are looked at again and again."""

import contextlib
import time
from collections.abc import AsyncIterator

import grpc
import grpc.aio

from indexer_service import file_watch
from indexer_service.interceptors import auth
from indexer_service.server import certificates
from indexing import concurrency, settings


class Trust:
    """What is checked of callers in this process."""

    def __init__(self, config: settings.ServiceSettings) -> None:
        self._certificates = certificates.Certificates(config) if config.tls_cert else None
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
    async with concurrency.running(reload=lambda: concurrency.every(config.reload_interval, trust.look)):
        yield trust
