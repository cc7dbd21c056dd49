"""
Credentials at rest: AES-256-GCM with a random nonce, a key ring, and the user's id bound as associated data.

A stored value is the first 4 bytes of the key's SHA-256 (which key), 12 bytes of nonce, then the sealed text. Moved to
another user's row it does not open.
"""

import hashlib
import os

from cryptography import exceptions
from cryptography.hazmat.primitives.ciphers import aead

ID_BYTES = 4
NONCE_BYTES = 12


class CannotOpen(Exception):
    """The value was sealed by a key that is not in the ring, belongs to another user, or was changed."""


class Vault:
    """Seals and opens values; the first key seals, all open."""

    def __init__(self, keys: tuple[bytes, ...]) -> None:
        self._ring = {hashlib.sha256(key).digest()[:ID_BYTES]: aead.AESGCM(key) for key in keys}
        self._first = hashlib.sha256(keys[0]).digest()[:ID_BYTES]

    def seal(self, user_id: int, text: bytes) -> bytes:
        """Return *text* sealed for this user."""
        nonce = os.urandom(NONCE_BYTES)
        return self._first + nonce + self._ring[self._first].encrypt(nonce, text, str(user_id).encode())

    def is_newest(self, sealed: bytes) -> bool:
        """Return whether the first key sealed a value."""
        return sealed[:ID_BYTES] == self._first

    def open(self, user_id: int, sealed: bytes) -> bytes:
        """Return the text. Raises CannotOpen."""
        key = self._ring.get(sealed[:ID_BYTES])
        if key is None:
            raise CannotOpen
        nonce, rest = sealed[ID_BYTES : ID_BYTES + NONCE_BYTES], sealed[ID_BYTES + NONCE_BYTES :]
        try:
            return key.decrypt(nonce, rest, str(user_id).encode())
        except (exceptions.InvalidTag, ValueError) as error:
            raise CannotOpen from error
