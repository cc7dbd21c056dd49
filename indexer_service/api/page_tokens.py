"""Page and resume tokens: opaque to callers, signed, and bound to the request that they belong to."""

import hashlib
from typing import Any

import itsdangerous

from indexing import errors


class PageTokens:
    """Signs and verifies tokens. The first key signs; all keys verify."""

    def __init__(self, keys: tuple[bytes, ...]) -> None:
        self._keys = list(reversed(keys))

    def sign(self, purpose: str, value: object) -> str:
        """Return a token with *value* (any JSON value); `verify` accepts it for the same *purpose* only."""
        return str(self._serializer(purpose).dumps(value))

    def verify(self, field: str, purpose: str, token: str) -> Any:  # noqa: ANN401 -- the value given to `sign`
        """
        Return the value of a token.

        Raises:
            errors.InvalidArgument: Names *field*; the token was changed, or signed for another purpose.
        """
        try:
            return self._serializer(purpose).loads(token)
        except itsdangerous.BadData as error:
            raise errors.InvalidArgument(field, "is not a token of this request; use it unchanged") from error

    def _serializer(self, purpose: str) -> itsdangerous.URLSafeSerializer:
        options = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
        return itsdangerous.URLSafeSerializer(self._keys, salt=f"indexer.{purpose}", signer_kwargs=options)
