"""
Settings from environment variables, one frozen group per concern; the only place that reads the environment.

Under each field stands its meaning, its unit and why the default is what it is; docs/settings.md is made from this file.
"""

import re
from typing import Annotated, Any

import pydantic
import pydantic_settings


class Rate(pydantic.BaseModel, frozen=True):
    """A budget's size: `capacity` calls in any `window` seconds. Written as `50/1`."""

    capacity: int = pydantic.Field(gt=0, le=100_000)
    window: float = pydantic.Field(gt=0, le=86_400)

    def __str__(self) -> str:
        return f"{self.capacity}/{self.window:g}"


def _parse_rate(value: object) -> object:
    if isinstance(value, str):
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6}(?:\.\d{1,3})?)", value)
        if match is None:
            raise ValueError("must look like 50/1 (tokens/seconds)")
        return Rate(capacity=int(match[1]), window=float(match[2]))
    return value


RateField = Annotated[Rate, pydantic.BeforeValidator(_parse_rate)]


class _Group(pydantic_settings.BaseSettings):
    model_config = pydantic_settings.SettingsConfigDict(
        frozen=True, use_attribute_docstrings=True, extra="ignore", hide_input_in_errors=True
    )


class LimiterSettings(_Group):
    """The budgets that service and workers share."""

    global_budget: RateField = Rate(capacity=50, window=1.0)
    """Calls that one bot token may make, over all processes: tokens/seconds.
    50 a second is Discord's documented limit per bot (developers/topics/rate-limits.mdx, read 2026-08-06)."""

    user_budget: RateField = Rate(capacity=5, window=5.0)
    """Calls made on behalf of one user: tokens/seconds.
    Not documented by Discord: the owner's conservative figure."""
