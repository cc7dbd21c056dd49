"""TLS of the gRPC address: certificate, key, and the callers' authority, from files that may change at any time."""

from collections.abc import Sequence
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from indexer_service import file_watch
from indexing import settings


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
