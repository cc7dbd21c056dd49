"""The budgets of the limiter."""

import pydantic

from indexing.settings import fields


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
