"""The feed from Discord's Gateway."""

import pydantic
import pydantic_settings

from indexing.settings import fields


class GatewaySettings(fields.Group):
    """The feed from Discord's Gateway, an optional process."""

    model_config = pydantic_settings.SettingsConfigDict(env_prefix="GATEWAY_")

    enabled: bool = False
    """Whether guilds are fed by `python -m workers.gateway`. Set it for services, workers and that process together.
    Without it, everything is read by REST."""

    members: bool = False
    """Whether Discord has granted the application the privileged intent GUILD_MEMBERS."""

    shards: int = pydantic.Field(default=0, ge=0, le=100_000)
    """Number of shards; 0 takes the number that Discord recommends. A shard has at most 2,500 guilds."""

    max_shards: int = pydantic.Field(default=64, ge=1)
    """Shards that one process owns at most."""

    lease: float = pydantic.Field(default=15.0, ge=3, le=300)
    """Seconds without a sign of a process after which another one owns its shards."""

    audit_interval: float = pydantic.Field(default=600.0, ge=0)
    """Seconds between two guilds that are compared with Discord's HTTP API while a shard brings no change for six
    times as long; 0 compares none. One that brings changes is compared every 24 times as long: 6 calls a day with 600.
    """

    audit_wait: float = pydantic.Field(default=10.0, ge=0)
    """Seconds for which a difference must last before the audit believes it: events may be under way."""

    list_interval: float = pydantic.Field(default=86_400.0, ge=0)
    """Most seconds of age of the bot's guild list that the guilds of a process are compared with every hour; 0 compares
    none. A listing is one call for each 200 guilds; one a day is made without the feed as well."""

    identify_reserve: float = pydantic.Field(default=0.2, ge=0, lt=1)
    """Share of the day's identifies that is never used. Beyond the last one, Discord resets the bot's token
    (developers/events/gateway.mdx, read 2026-08-06), so a fleet that crashes in a loop must stop before."""

    role_wait: float = pydantic.Field(default=1.0, gt=0, le=10)
    """Longest wait for a member's roles over the Gateway, in seconds; then they are read by REST."""

    metrics_port: int = pydantic.Field(default=9468, ge=0, le=65_535)
    """Port of /metrics, /livez and /readyz; 0 serves none."""

    metrics_host: fields.HostField = ""
    """Address of that port; empty is all addresses."""

    insecure: bool = False
    """Accept a ws address beyond loopback, for a simulator in a private network. The token travels in clear text."""

    @property
    def metrics_address(self) -> tuple[str, int]:
        """Host and port of /metrics."""
        return self.metrics_host, self.metrics_port
