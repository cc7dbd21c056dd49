"""The rules of indexing: ages, leases, retries, turns and the ranking of guilds."""

import json
from typing import Annotated

import pydantic
import pydantic_settings

from indexing.settings import fields


class RankWeights(pydantic.BaseModel, frozen=True, extra="forbid"):
    """The weight of each signal in the order of a user's guilds; only their proportions matter."""

    recency: float = pydantic.Field(default=0.2, ge=0)
    activity: float = pydantic.Field(default=0.25, ge=0)
    owner: float = pydantic.Field(default=0.2, ge=0)
    role: float = pydantic.Field(default=0.15, ge=0)
    new: float = pydantic.Field(default=0.1, ge=0)
    staleness: float = pydantic.Field(default=0.05, ge=0)
    demand: float = pydantic.Field(default=0.05, ge=0)

    @property
    def total(self) -> float:
        """The sum of the weights, 1 if all are 0."""
        values = (self.recency, self.activity, self.owner, self.role, self.new, self.staleness, self.demand)
        return sum(values) or 1.0

    def __str__(self) -> str:
        return self.model_dump_json()


def _parse_weights(value: object) -> object:
    if isinstance(value, str):
        try:
            return json.loads(value)
        except (ValueError, RecursionError) as error:
            raise ValueError('must be JSON, such as {"recency": 0.5}') from error
    return value


WeightsField = Annotated[RankWeights, pydantic_settings.NoDecode, pydantic.BeforeValidator(_parse_weights)]


class IndexingSettings(fields.Group):
    """The rules of indexing, the same in service and workers."""

    model_config = pydantic_settings.SettingsConfigDict(env_prefix="INDEXING_")

    max_age: float = pydantic.Field(default=600.0, ge=0)
    """Seconds for which a guild's channels count as fresh, so that another user's job does not read them again.
    The longer a guild stays unchanged, the longer it counts as fresh, up to half a day."""

    install_url: str = pydantic.Field(default="", pattern=r"^(https://[^\s#]+\?[^\s#]*)?$")
    """Link that installs the bot, with a query, such as
    https://discord.com/oauth2/authorize?client_id=1&scope=bot&permissions=1024. The guild's id is appended.
    It is returned with guilds that lack the bot; empty returns none."""

    retention: float = pydantic.Field(default=30 * 86_400.0, gt=0)
    """Seconds after which obsolete data is erased: hidden channels, ended memberships, guilds without members."""

    refresh_interval: float = pydantic.Field(default=15.0, gt=0)
    """Seconds between two searches for guilds that are due for a refresh."""

    refresh_width: int = pydantic.Field(default=8, ge=1, le=50)
    """Guilds that are refreshed at the same time."""

    list_max_age: float = pydantic.Field(default=60.0, ge=0)
    """Seconds after the start of a successful job during which another start returns FRESH without calling Discord."""

    rank_weights: WeightsField = RankWeights()
    """Weight of each signal in the order of a user's guilds, as JSON with any of these names.
    `recency`: when the user last opened the guild. `activity`: its newest message, or its member count before it is
    read. `owner`: the user owns it. `role`: the user's permissions. `new`: it was never read. `staleness`: the age of
    its channels. `demand`: how often users asked for it since it was
    read. The defaults are our guess of what is opened first."""

    roles_max_age: float = pydantic.Field(default=2 * 86_400.0, ge=0)
    """Seconds after which a user's role ids in a guild are read again, if they can change what the user sees.
    That is one call for each such guild. A revoked role is noticed after this time at the latest.
    A forced job reads the roles at once."""

    fed_roles_max_age: float = pydantic.Field(default=900.0, ge=0)
    """The same for guilds that Discord's Gateway feeds (GATEWAY_ENABLED): role ids are read again over the Gateway, at
    no call. When it does not answer, known ones are kept until INDEXING_ROLES_MAX_AGE."""

    roles_hard_age: float = pydantic.Field(default=7 * 86_400.0, ge=0, validate_default=True)
    """Seconds after which a user's permissions are no longer trusted. Must not be below INDEXING_ROLES_MAX_AGE.
    Role ids: channels that depend on a role are hidden until the roles are read.
    The guild list with the user's permissions: all channels are hidden until the user is indexed again."""

    channels_hard_age: float = pydantic.Field(default=8 * 86_400.0, ge=0, validate_default=True)
    """Seconds after which a guild's channels and their overwrites are no longer trusted, because the guild could not be
    read or nobody read it. Only owners and administrators still see the channels, as they do at once after a 403.
    The default is one day beyond the longest refresh interval. Must not be below INDEXING_MAX_AGE."""

    reauth_grace: float = pydantic.Field(default=3_600.0, ge=0)
    """Seconds for which what is stored is still shown to a user whose credential Discord refuses. Afterwards nothing is
    shown until a credential is proven again: the user may have withdrawn their consent. The default leaves time for a
    new login when tokens are refused for another reason."""

    revoke_grace: float = pydantic.Field(default=0.0, ge=0)
    """The same after RevokeCredential. 0 hides at once what is stored."""

    turn_width: int = pydantic.Field(default=0, ge=0, le=25)
    """Guilds that one turn works on side by side. 0 takes the capacity of USER_BUDGET, at least 5 and at most 12: more
    than a user's budget allows at once would only wait, and calls of all users wait in one queue."""

    turn_time: float = pydantic.Field(default=5.0, gt=0, le=60)
    """Seconds after which a turn starts no further guild, so that many users share few threads. While its process has
    a spare thread, results extend the turn by as much, up to 30 s."""

    turn_lease: float = pydantic.Field(default=40.0, gt=0, le=300)
    """Seconds after which a turn without a sign of life is given to another worker.
    Must exceed INDEXING_TURN_TIME plus twice DISCORD_TIMEOUT; the default adds 15 s for slow stores."""

    max_attempts: int = pydantic.Field(default=5, ge=1, le=20)
    """Attempts for a guild with transient failures, before it is FAILED."""

    retry_base: float = pydantic.Field(default=5.0, gt=0)
    """Seconds before the second attempt; doubled for each further one, with jitter."""

    guild_lease: float = pydantic.Field(default=25.0, gt=0, le=300)
    """Seconds for which one process may read a guild alone.
    Must exceed DISCORD_TIMEOUT; the default adds 15 s for slow stores."""

    bot_guilds_age: float = pydantic.Field(default=86_400.0, gt=0)
    """Seconds for which the cached list of the bot's guilds is used.
    A forced job of a user with guilds outside the list reads it earlier.
    A listed guild that refuses the bot is verified on its own."""

    read_cache_max_age: float = pydantic.Field(default=0.0, ge=0, le=1)
    """Seconds for which a page may be shown without asking MongoDB whether what it is made of has changed. 0 asks for
    each page, so that nothing is shown that a version stored before the page was asked for hides."""

    read_cache_bytes: int = pydantic.Field(default=64 << 20, ge=1 << 20)
    """About the most bytes that a service process keeps of decoded guilds: 64 MiB hold some 130,000 channels."""

    sweep_interval: float = pydantic.Field(default=15.0, gt=0)
    """Seconds between two searches for jobs whose next turn is overdue."""

    job_retention: float = pydantic.Field(default=7 * 86_400.0, gt=0)
    """Seconds for which an ended job can be read."""

    @pydantic.field_validator("roles_hard_age")
    @classmethod
    def _must_outlast_the_soft_age(cls, value: float, info: pydantic.ValidationInfo) -> float:
        soft = info.data.get("roles_max_age", 0.0)
        if value < soft:
            raise ValueError(f"{value} must not be below INDEXING_ROLES_MAX_AGE ({soft})")
        return value

    @pydantic.field_validator("channels_hard_age")
    @classmethod
    def _must_outlast_the_fresh_age(cls, value: float, info: pydantic.ValidationInfo) -> float:
        fresh = info.data.get("max_age", 0.0)
        if value < fresh:
            raise ValueError(f"{value} must not be below INDEXING_MAX_AGE ({fresh})")
        return value
