"""
Discord, and the application that users consent to.

The budgets of the limiter.
"""

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


class LimiterSettings(fields.Group):
    """The budgets that service and workers share."""

    global_budget: fields.RateField = fields.Rate(capacity=50, window=1.0)
    """Calls that one bot token may make, over all processes: tokens/seconds.
    50 a second is Discord's documented limit per bot (developers/topics/rate-limits.mdx, read 2026-08-06)."""

    user_budget: fields.RateField = fields.Rate(capacity=5, window=5.0)
    """Calls made on behalf of one user: tokens/seconds.
    Not documented by Discord: the owner's conservative figure."""

    limiter_hold: float | None = pydantic.Field(default=None, ge=0)
    """Seconds without any call after the budgets were lost with Redis: what was in flight then is not known.
    Unset, it is the longest window plus 2 s. Shorter is safe only where Discord's counters were lost as well."""

    limiter_global_credit: float = pydantic.Field(default=0.8, ge=0, le=0.9)
    """Share of the fastest round trip of the last minute by which a permit of the global budget comes back earlier.
    0 is safe whatever the network does; 0.8 is safe as long as it does not suddenly become a fifth faster."""

    limiter_user_credit: float = pydantic.Field(default=0.5, ge=0, le=0.9)
    """The same for the users' budgets, where a round trip is a smaller part of the window."""

    limiter_server_time: bool = False
    """Measure in the server's own time, where answers carry it, how long an answer was under way, and credit that too.
    Off until it has been seen on live traffic that Discord makes these headers where it counts."""

    limiter_reserve: int = pydantic.Field(default=0, ge=0, le=10)
    """Permits of the global budget that only the interactive lane may use. Pacing makes 0 enough."""

    limiter_background_share: float = pydantic.Field(default=0.2, gt=0, le=0.9)
    """Share of the global budget that the background lane gets even while the interactive lane wants all."""

    limiter_refresh_share: float = pydantic.Field(default=0.02, gt=0, le=0.9)
    """The same for the refresh lane."""

    limiter_stop_bulk: float = pydantic.Field(default=0.05, gt=0, le=1)
    """Share of the 10,000 invalid answers in 10 minutes, after which Discord bans the address, at which background
    and refresh stop."""

    limiter_stop_all: float = pydantic.Field(default=0.1, gt=0, le=1)
    """The same, at which every call stops."""
