"""Structured logs: one line per event that an operator acts on; constant event names, data as fields."""

import logging
import sys
from typing import Any

import structlog

from indexing.telemetry import tracing

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure(level: str, form: str) -> None:
    """Send our lines and those of libraries to standard error; *form* is json or console."""
    shared: list[Any] = [
        _with_work,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    last = structlog.dev.ConsoleRenderer() if form == "console" else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(LEVELS[level])
    for noisy in ("pymongo", "aiohttp.access", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


bound = tracing.bound


def field(name: str) -> str:
    """Return a field that `bound` added, empty when there is none."""
    return str(tracing.fields().get(name, ""))


def _with_work(_logger: object, _method: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return {**tracing.fields(), **line, **(tracing.exemplar() or {})}


def get(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger for a module."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(name)
    return logger
