"""Real certificates, made on the spot: an authority, and what it signs."""

import dataclasses
import datetime
import ipaddress
import pathlib

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = datetime.timedelta(days=1)


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, as PEM."""

    certificate: bytes
    key: bytes

    @property
    def der(self) -> bytes:
        """The certificate as it goes over the wire."""
        return x509.load_pem_x509_certificate(self.certificate).public_bytes(serialization.Encoding.DER)


class Authority:
    """Signs certificates for loopback."""

    def __init__(self, name: str = "authority") -> None:
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        own = _builder(self._name, self._name, self._key.public_key())
        own = own.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.pem = own.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def sign(self, name: str) -> Pair:
        """Return a new certificate for *name* and for 127.0.0.1."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = [x509.DNSName(name), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        built = _builder(subject, self._name, key.public_key())
        built = built.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return Pair(
            built.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM),
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
        )


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - DAY)
        .not_valid_after(now + DAY)
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Files:
    """Where a server finds what it shows and whom it believes."""

    certificate: pathlib.Path
    key: pathlib.Path
    authority: pathlib.Path

    @classmethod
    def under(cls, directory: pathlib.Path, pair: Pair, authority: Authority) -> "Files":
        """Write all three."""
        made = cls(directory / "tls.crt", directory / "tls.key", directory / "ca.crt")
        made.authority.write_bytes(authority.pem)
        made.write(pair)
        return made

    def write(self, pair: Pair) -> None:
        """Put another certificate in place."""
        self.certificate.write_bytes(pair.certificate)
        self.key.write_bytes(pair.key)
