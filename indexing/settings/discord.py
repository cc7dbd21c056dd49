"""Discord, and the application that users consent to."""

import urllib.parse

import pydantic
import pydantic_settings

from indexing.settings import fields


class DiscordSettings(fields.Group):
    """How Discord is called."""

    model_config = pydantic_settings.SettingsConfigDict(env_prefix="DISCORD_")

    insecure: bool = False
    """Accept an http address that is not loopback, for a simulator in a private network: tokens travel in the clear."""

    api_base: str = "https://discord.com/api/v10"
    """Base URL of the API. Must be https, or http on a loopback address."""

    bot_token: pydantic.SecretStr = pydantic.Field(min_length=1)
    """The bot's token. Channels are read with it, so the bot must be installed in every guild that is to be indexed."""

    timeout: float = pydantic.Field(default=10.0, gt=0, le=60)
    """Longest time for one call, from connecting to the last byte, in seconds.
    A permit whose call never comes back is held for this long plus the budget's window."""

    connections: int = pydantic.Field(default=64, ge=1, le=1000)
    """Connections to Discord at once in one process. 50 calls a second at 150 ms need about 8."""

    max_body_bytes: int = pydantic.Field(default=8 * 2**20, ge=2**16)
    """Longest answer that is read, in bytes. 500 channels with 1,000 overwrites each would be longer: refused."""

    @pydantic.field_validator("api_base")
    @classmethod
    def _must_be_private(cls, value: str, info: pydantic.ValidationInfo) -> str:
        url = urllib.parse.urlsplit(value)
        plain = url.hostname in {"127.0.0.1", "::1", "localhost"} or info.data.get("insecure")
        if not url.hostname or not (url.scheme == "https" or (url.scheme == "http" and plain)):
            raise ValueError("must be https, or http on a loopback address")
        return value.rstrip("/")


class OAuthSettings(fields.Group):
    """The application in whose name users consent, for whoever renews their tokens."""

    model_config = pydantic_settings.SettingsConfigDict(env_prefix="DISCORD_")

    client_id: str = pydantic.Field(default="", pattern=r"^[A-Za-z0-9_-]{0,64}$")
    """The application's id. With its secret, users' tokens are renewed before they expire; with neither, a user logs in
    again when his token is dead."""

    client_secret: pydantic.SecretStr = pydantic.Field(default=pydantic.SecretStr(""), validate_default=True)
    """The application's secret. It goes to Discord's token endpoint only."""

    @pydantic.field_validator("client_secret")
    @classmethod
    def _must_go_with_the_id(cls, value: pydantic.SecretStr, info: pydantic.ValidationInfo) -> pydantic.SecretStr:
        # An id that is refused for itself is told of alone.
        if "client_id" in info.data and bool(value.get_secret_value()) != bool(info.data["client_id"]):
            raise ValueError("must be set together with DISCORD_CLIENT_ID, or neither")
        return value
