"""Page and resume tokens: opaque to callers, signed, and bound to the request that they belong to."""

import functools
import hashlib
from typing import Any

import itsdangerous
import msgspec
from itsdangerous import encoding

from indexing import errors

MOST_PURPOSES = 1_000
"""Purposes whose serializers are kept: a caller that reads page after page has the same purpose."""

MOST_PLAIN = 400
"""Bytes of a value up to which compression costs more than it saves."""


class PageTokens:
    """Signs and verifies tokens. The first key signs; all keys verify."""

    def __init__(self, keys: tuple[bytes, ...]) -> None:
        self._keys = list(reversed(keys))
        self._serializer = functools.lru_cache(MOST_PURPOSES)(self._make_serializer)

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

    def _make_serializer(self, purpose: str) -> "_Serializer":
        options = {"key_derivation": "hmac", "digest_method": hashlib.sha256}
        return _Serializer(self._keys, salt=f"indexer.{purpose}", signer_kwargs=options)


class _Serializer(itsdangerous.URLSafeSerializer):
    """Makes short tokens, of pages, at a third of the library's cost, and long ones of streams as the library does."""

    def dump_payload(self, obj: object) -> bytes:
        """Return the JSON of *obj* in the alphabet of URLs, compressed if it is long."""
        plain = msgspec.json.encode(obj)
        return encoding.base64_encode(plain) if len(plain) <= MOST_PLAIN else super().dump_payload(obj)
