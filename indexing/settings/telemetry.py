"""Logs and traces."""

from typing import Literal

import pydantic_settings

from indexing.settings import fields


class LogSettings(fields.Group):
    """Log lines on standard error."""

    model_config = pydantic_settings.SettingsConfigDict(env_prefix="LOG_")

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level that is written."""

    format: Literal["json", "console"] = "json"
    """json for machines, console for people."""


class TraceSettings(fields.Group):
    """OpenTelemetry's standard variables: these turn it on, its SDK reads the others, such as OTEL_SERVICE_NAME."""

    model_config = pydantic_settings.SettingsConfigDict(env_prefix="OTEL_")

    exporter_otlp_endpoint: str = ""
    """Where traces are sent, by OTLP over HTTP; empty sends none."""

    exporter_otlp_traces_endpoint: str = ""
    """The same for traces alone; it goes before the other."""

    sdk_disabled: bool = False
    """Send none although there is an endpoint."""

    @property
    def on(self) -> bool:
        """Whether traces are sent."""
        return bool(self.exporter_otlp_endpoint or self.exporter_otlp_traces_endpoint) and not self.sdk_disabled
