"""The rules of indexing."""

import pydantic
import pydantic_settings

from indexing.settings import fields


class RankWeights(pydantic.BaseModel, frozen=True, extra="forbid"):
    """How much each signal counts for the order of a user's guilds; only their proportions matter."""

    recency: float = pydantic.Field(default=0.2, ge=0)
    activity: float = pydantic.Field(default=0.25, ge=0)
    owner: float = pydantic.Field(default=0.2, ge=0)
    role: float = pydantic.Field(default=0.15, ge=0)
    new: float = pydantic.Field(default=0.1, ge=0)
    staleness: float = pydantic.Field(default=0.05, ge=0)
    demand: float = pydantic.Field(default=0.05, ge=0)

    @property
    def total(self) -> float:
        """Their sum, 1 if all are 0."""
        values = (self.recency, self.activity, self.owner, self.role, self.new, self.staleness, self.demand)
        return sum(values) or 1.0

    def __str__(self) -> str:
        return self.model_dump_json()


class IndexingSettings(fields.Group):
    """The rules of indexing; the same in service and workers."""

    model_config = pydantic_settings.SettingsConfigDict(env_prefix="INDEXING_")

    max_age: float = pydantic.Field(default=600.0, ge=0)
    """Seconds for which a guild's channels surely count as fresh, so that another user's job does not fetch them again.
    A guild that has not changed for long counts as fresh for longer, up to half a day."""

    install_url: str = pydantic.Field(default="", pattern=r"^(https://[^\s#]+\?[^\s#]*)?$")
    """Link that installs the bot, with its query, such as
    https://discord.com/oauth2/authorize?client_id=1&scope=bot&permissions=1024; the guild's id is added.
    Shown with guilds that lack the bot; empty shows none."""

    retention: float = pydantic.Field(default=30 * 86_400.0, gt=0)
    """Seconds after which what is gone is erased: hidden channels, ended memberships, guilds without members."""

    refresh_interval: float = pydantic.Field(default=15.0, gt=0)
    """Seconds between two looks for guilds that are to be read again though nobody asks."""

    refresh_width: int = pydantic.Field(default=8, ge=1, le=50)
    """Guilds read again side by side."""

    list_max_age: float = pydantic.Field(default=60.0, ge=0)
    """Seconds after a successful job's start during which another start is answered FRESH, without asking Discord."""

    rank_weights: RankWeights = RankWeights()
    """How much each signal counts for the order of a user's guilds, as JSON with any of these names: when the user last
    opened the guild, its newest message (or its people, before it is read), his ownership, his role, whether it was
    never read, how old its channels are, how many users ask for it. Our guess of what is opened first."""

    roles_max_age: float = pydantic.Field(default=2 * 86_400.0, ge=0)
    """Seconds after which a user's role ids in a guild are asked for again, if they can change what he sees: one call
    for each such guild. A role that was taken away is noticed so late at worst; a forced job asks at once."""

    roles_hard_age: float = pydantic.Field(default=7 * 86_400.0, ge=0)
    """Seconds after which what a user may do is no longer believed. Role ids: what depends on a role is hidden until
    they are read. His guild list, with his permissions: all channels are hidden until he is indexed again."""

    turn_width: int = pydantic.Field(default=5, ge=1, le=25)
    """Guilds that one turn works on side by side. Five is what a user's budget allows at once."""

    turn_time: float = pydantic.Field(default=5.0, gt=0, le=60)
    """Seconds after which a turn starts no further guild, so that many users take turns on few threads."""

    turn_lease: float = pydantic.Field(default=40.0, gt=0)
    """Seconds after which a turn that was not heard of is given to somebody else.
    Must exceed the time of a turn plus two timeouts of Discord."""

    max_attempts: int = pydantic.Field(default=5, ge=1, le=20)
    """Attempts for a guild that fails for a passing cause, before it counts as FAILED."""

    retry_base: float = pydantic.Field(default=5.0, gt=0)
    """Seconds before the second attempt; doubled for each further one, with jitter."""

    guild_lease: float = pydantic.Field(default=25.0, gt=0)
    """Seconds for which one process may fetch a guild alone. Must exceed the timeout of a call to Discord."""

    bot_guilds_age: float = pydantic.Field(default=86_400.0, gt=0)
    """Seconds for which the list of guilds that have our bot is believed. It is read again on doubt: when a job is
    forced for a user with guilds outside it. A guild in it that refuses is asked about alone."""

    sweep_interval: float = pydantic.Field(default=15.0, gt=0)
    """Seconds between two looks for jobs whose next turn is overdue."""

    job_retention: float = pydantic.Field(default=7 * 86_400.0, gt=0)
    """Seconds for which an ended job can be asked for."""
