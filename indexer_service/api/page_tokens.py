"""Page and resume tokens: opaque to callers, signed, and bound to the request that they belong to."""

import functools
import hashlib
import hmac
from typing import Any

import itsdangerous
import msgspec
from itsdangerous import encoding, signer

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
        options = {"key_derivation": "hmac", "digest_method": hashlib.sha256, "algorithm": _HmacSha256()}
        return _Serializer(self._keys, salt=f"indexer.{purpose}", signer=_Signer, signer_kwargs=options)


class _HmacSha256(signer.SigningAlgorithm):
    """The library's algorithm with that digest, which prepares each key once, at a quarter of the cost."""

    def __init__(self) -> None:
        self._prepare = functools.cache(functools.partial(hmac.new, digestmod=hashlib.sha256))

    def get_signature(self, key: bytes, value: bytes) -> bytes:
        """Return the signature of *value*."""
        mac = self._prepare(key).copy()
        mac.update(value)
        return mac.digest()


class _Signer(itsdangerous.Signer):
    """Derives its keys once; the library derives them for each token."""

    def __init__(self, *values: Any, **options: Any) -> None:  # noqa: ANN401 -- the library's
        super().__init__(*values, **options)
        self.derive_key = functools.cache(self.derive_key)  # type: ignore[method-assign]


class _Serializer(itsdangerous.URLSafeSerializer):
    """Makes short tokens, of pages, at a quarter of the library's cost; long ones, of streams, as the library does."""

    @functools.cached_property
    def _signer(self) -> itsdangerous.Signer:
        return self.make_signer()

    def dumps(self, obj: object, salt: str | bytes | None = None) -> str:  # noqa: ARG002 -- as in the base
        """Return a token."""
        return self._signer.sign(self.dump_payload(obj)).decode()

    def loads(self, s: str | bytes, salt: str | bytes | None = None, **options: Any) -> Any:  # noqa: ANN401, ARG002 -- as in the base
        """Return the value of a token. Raises itsdangerous.BadData."""
        return self.load_payload(self._signer.unsign(s))

    def dump_payload(self, obj: object) -> bytes:
        """Return the JSON of *obj* in the alphabet of URLs, compressed if it is long."""
        plain = msgspec.json.encode(obj)
        return encoding.base64_encode(plain) if len(plain) <= MOST_PLAIN else super().dump_payload(obj)

    def load_payload(self, payload: bytes, *values: Any, **options: Any) -> Any:  # noqa: ANN401 -- the library's
        """Return the value of a payload whose signature was verified."""
        if payload.startswith(b"."):
            return super().load_payload(payload, *values, **options)
        return msgspec.json.decode(encoding.base64_decode(payload))
