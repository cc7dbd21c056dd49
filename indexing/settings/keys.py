"""The keys that encrypt and sign."""

import base64

import pydantic
import pydantic_settings

from indexing.settings import fields

KEY_BYTES = 32
"""Length of an AES-256 key."""


def _keys_of(value: str) -> tuple[bytes, ...]:
    keys = []
    for number, text in enumerate(filter(None, (part.strip() for part in value.split(","))), start=1):
        try:
            key = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except ValueError as error:
            raise ValueError(f"key {number} is not base64url") from error
        if len(key) != KEY_BYTES:
            raise ValueError(f"key {number} must have {KEY_BYTES} bytes")
        keys.append(key)
    if not keys:
        raise ValueError("needs at least one key; make one with: openssl rand -base64 32 | tr '+/' '-_'")
    return tuple(keys)


class SecretSettings(fields.Group):
    """Keys that never leave the process."""

    model_config = pydantic_settings.SettingsConfigDict(env_prefix="INDEXER_")

    credential_keys: pydantic.SecretStr
    """Comma-separated base64url keys of 32 bytes for stored credentials and tokens handed out.
    The first encrypts, all decrypt. To rotate: put a new one behind in all processes, then in front, then run
    `indexer keys rotate`, then take the old one out."""

    @pydantic.field_validator("credential_keys")
    @classmethod
    def _must_be_keys(cls, value: pydantic.SecretStr) -> pydantic.SecretStr:
        _keys_of(value.get_secret_value())
        return value

    @property
    def keys(self) -> tuple[bytes, ...]:
        """The decoded keys, the encrypting one first."""
        return _keys_of(self.credential_keys.get_secret_value())
