"""Page and watch tokens: opaque to the caller, signed, and bound to what they were made for."""

import hashlib
from typing import Any

import itsdangerous

from indexing import errors


class Tokens:
    """Makes and reads tokens; the first key signs, all keys are accepted."""

    def __init__(self, keys: tuple[bytes, ...]) -> None:
        self._keys = list(reversed(keys))

    def make(self, purpose: str, value: object) -> str:
        """Return a token that only `read` with the same *purpose* accepts; *value* is anything JSON can say."""
        return str(self._serializer(purpose).dumps(value))

    def read(self, field: str, purpose: str, token: str) -> Any:  # noqa: ANN401 -- what `make` was given
        """
        Return the value.

        Raises:
            errors.InvalidArgument: Naming *field*, when the token was changed, or made for something else.
        """
        try:
            return self._serializer(purpose).loads(token)
        except itsdangerous.BadData as error:
            raise errors.InvalidArgument(field, "is not a token of this request") from error

    def _serializer(self, purpose: str) -> itsdangerous.URLSafeSerializer:
        options = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
        return itsdangerous.URLSafeSerializer(self._keys, salt=f"indexer.{purpose}", signer_kwargs=options)
