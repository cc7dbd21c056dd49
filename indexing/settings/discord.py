"""How Discord is called: its API, the application that users authorize, and the limiter's budgets."""

import urllib.parse

import pydantic
import pydantic_settings

from indexing.settings import fields


class DiscordSettings(fields.Group):
    """Discord's API."""

    model_config = pydantic_settings.SettingsConfigDict(env_prefix="DISCORD_")

    insecure: bool = False
    """Accept an http address beyond loopback, for a simulator in a private network. Tokens travel in clear text."""

    api_base: str = "https://discord.com/api/v10"
    """Base URL of the API. Must be https, or http on a loopback address."""

    bot_token: fields.SecretWord = pydantic.Field(min_length=1)
    """The bot's token. Channels are read with it, so the bot must be installed in every guild that is indexed."""

    timeout: float = pydantic.Field(default=10.0, gt=0, le=60)
    """Longest time for one call, from connecting to the last byte, in seconds.
    The permit of a call without a response is held for this time plus 2 s plus the budget's window."""

    connections: int = pydantic.Field(default=64, ge=1, le=1000)
    """Open connections to Discord in one process. 50 calls a second at 150 ms need about 8."""

    max_body_bytes: int = pydantic.Field(default=48 * 2**20, ge=2**16)
    """Largest listing of a guild's channels, in bytes. A guild with a larger one fails as GUILD_TOO_LARGE.
    500 channels with 1,000 permission overwrites each, the most that Discord allows, are about 34 MiB.
    A process holds at most two listings above 4 MiB at a time."""

    @pydantic.field_validator("api_base")
    @classmethod
    def _must_be_private(cls, value: str, info: pydantic.ValidationInfo) -> str:
        url = urllib.parse.urlsplit(value)
        plain = url.hostname in {"127.0.0.1", "::1", "localhost"} or info.data.get("insecure")
        if not url.hostname or not (url.scheme == "https" or (url.scheme == "http" and plain)):
            raise ValueError("must be https, or http on a loopback address")
        return value.rstrip("/")


class OAuthSettings(fields.Group):
    """The application that users authorize."""

    model_config = pydantic_settings.SettingsConfigDict(env_prefix="DISCORD_")

    client_id: str = pydantic.Field(default="", pattern=r"^[A-Za-z0-9_-]{0,64}$")
    """The application's id. With id and secret, users' tokens are renewed before they expire.
    Without them, users log in again when their token expires, and stored tokens of other applications are accepted."""

    client_secret: fields.SecretWord = pydantic.Field(default=pydantic.SecretStr(""), validate_default=True)
    """The application's secret. It is sent to Discord's token endpoint only. Must be set together with the id."""

    @pydantic.field_validator("client_secret")
    @classmethod
    def _must_be_set_with_the_id(cls, value: pydantic.SecretStr, info: pydantic.ValidationInfo) -> pydantic.SecretStr:
        # An id that is invalid itself is reported alone.
        if "client_id" in info.data and bool(value.get_secret_value()) != bool(info.data["client_id"]):
            raise ValueError("must be set together with DISCORD_CLIENT_ID, or neither")
        return value


class LimiterSettings(fields.Group):
    """The limiter's budgets, shared by service and workers."""

    global_budget: fields.RateField = fields.Rate(capacity=50, window=1.0)
    """Calls of one bot token over all processes, as calls/seconds.
    50 a second is Discord's documented limit per bot (developers/topics/rate-limits.mdx, read 2026-08-06)."""

    user_budget: fields.RateField = fields.Rate(capacity=5, window=5.0)
    """Calls on behalf of one user, as calls/seconds.
    Discord documents no such limit: this is the product owner's conservative figure."""

    global_budget_user_tokens: bool = True
    """Whether calls with a user's own token also take a permit of the global budget.
    Discord documents limits per authentication (developers/topics/rate-limits.mdx, read 2026-08-06), so a user's token
    should have a limit of its own; nothing promises it. Pauses and stops apply to these calls either way."""

    user_budget_bot_reads: bool = True
    """Whether reading a guild's channels with the bot's token also takes a permit of the budget of the user it is for.
    Discord sees only the bot's token there. It costs time: 60 guilds take at least 55 s at 5 per 5 s."""

    limiter_hold: float | None = pydantic.Field(default=None, ge=0)
    """Seconds without calls after Redis lost the budgets, because the calls in flight are then unknown.
    Unset, it is the longest window plus DISCORD_TIMEOUT plus 2 s.
    A shorter hold is safe only where Discord's counters were lost as well."""

    limiter_global_credit: float = pydantic.Field(default=0.8, ge=0, le=0.9)
    """Share of the fleet's shortest recent round trip by which a permit of the global budget is released earlier than
    one window after its call's answer. 0 is safe however Discord counts and whatever the network does.
    0.8 assumes that the way back of one call plus the way there of a later one take at least 80 % of it."""

    limiter_user_credit: float = pydantic.Field(default=0.5, ge=0, le=0.9)
    """The same share for user and route budgets, where a round trip is a smaller part of the window."""

    limiter_background_share: float = pydantic.Field(default=0.2, gt=0, le=0.9)
    """Share of the global budget that the background lane gets when the interactive lane could use all of it."""

    limiter_refresh_share: float = pydantic.Field(default=0.02, gt=0, le=0.9, validate_default=True)
    """The same share for the refresh lane. Both shares together must be below 1: the interactive lane gets the rest."""

    limiter_stop_bulk: float = pydantic.Field(default=0.05, gt=0, le=1)
    """Share of Discord's invalid-request limit at which background and refresh calls stop.
    Discord bans an address after 10,000 responses with 401, 403 or 429 in 10 minutes."""

    limiter_stop_all: float = pydantic.Field(default=0.1, gt=0, le=1, validate_default=True)
    """The share at which every call stops. Must not be below LIMITER_STOP_BULK."""

    @pydantic.field_validator("limiter_refresh_share")
    @classmethod
    def _must_leave_a_share(cls, value: float, info: pydantic.ValidationInfo) -> float:
        background = info.data.get("limiter_background_share", 0.0)
        if value + background >= 1:
            raise ValueError(f"{value} plus LIMITER_BACKGROUND_SHARE ({background}) must be below 1")
        return value

    @pydantic.field_validator("limiter_stop_all")
    @classmethod
    def _must_not_stop_before_bulk(cls, value: float, info: pydantic.ValidationInfo) -> float:
        bulk = info.data.get("limiter_stop_bulk", 0.0)
        if value < bulk:
            raise ValueError(f"{value} must not be below LIMITER_STOP_BULK ({bulk})")
        return value
