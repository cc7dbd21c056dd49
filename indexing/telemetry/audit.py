"""
The audit log: who changed or read which user's data, one JSON line for each call.

It has a logger of its own, so that it can be kept apart from the log: on standard output, or in files that are rotated.
A line holds ids and names, never a request's other content. A line that cannot be written is lost, and the log says so:
the product goes on.
"""

import datetime
import json
import logging
import logging.handlers
import os
import sys
import time
from typing import IO

from indexing.telemetry import logs

OFF, STDOUT = "off", "stdout"
MAX_TEXT = 1200
"""Characters of the longest value: fifty ids of users."""
COMPLAINT_INTERVAL = 60.0
"""Seconds between two lines of the log about audit lines that are lost."""
_LOGGER = logging.getLogger("indexer.audit")


class CannotWrite(Exception):
    """The file of the audit log cannot be opened; the message begins with the setting."""


def configure(target: str, max_bytes: int, files: int) -> None:
    """
    Write audit lines to standard output, to a file, or nowhere.

    Args:
        target: `stdout`, `off`, or the path of a file.

        max_bytes: Size at which a file is rotated.

        files: Number of files in all.

    Raises:
        CannotWrite: The file cannot be opened.
    """
    for old in _LOGGER.handlers[:]:
        _LOGGER.removeHandler(old)
        old.close()
    _LOGGER.propagate = False
    _LOGGER.setLevel(logging.CRITICAL + 1 if target == OFF else logging.INFO)
    if target != OFF:
        try:
            handler = _Stream(sys.stdout) if target == STDOUT else _Files(target, max_bytes, files)
        except OSError as error:
            raise CannotWrite(f"AUDIT_LOG: {target} cannot be written: {error.strerror}") from error
        handler.setFormatter(_Lines())
        _LOGGER.addHandler(handler)


def record(**fields: object) -> None:
    """Write one line. Fields without a value are left out."""
    if _LOGGER.isEnabledFor(logging.INFO):
        _LOGGER.info("call", extra={"fields": fields})


class _Lines(logging.Formatter):
    """A line of JSON: the time, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.datetime.fromtimestamp(record.created, datetime.UTC).replace(tzinfo=None)
        fields: dict[str, object] = getattr(record, "fields", {})
        shown = {name: _shorten(value) for name, value in fields.items() if value != ""}
        head = {"timestamp": at.isoformat(timespec="milliseconds") + "Z", "event": "call", "logger": "audit"}
        return json.dumps({**head, **shown})


def _shorten(value: object) -> object:
    return value[:MAX_TEXT] if isinstance(value, str) else value


class _Complaining(logging.Handler):
    """Says in the log that lines are lost, once a minute."""

    _complained_at = -COMPLAINT_INTERVAL

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 -- as in the base
        """Log what prevents a line."""
        if time.monotonic() - self._complained_at >= COMPLAINT_INTERVAL:
            self._complained_at = time.monotonic()
            logs.get(__name__).error("audit_line_lost", problem=str(sys.exception()))


class _Stream(_Complaining, logging.StreamHandler[IO[str]]):
    pass


class _Files(_Complaining, logging.handlers.RotatingFileHandler):
    def __init__(self, path: str, max_bytes: int, files: int) -> None:
        super().__init__(path, maxBytes=max_bytes, backupCount=files - 1, encoding="utf-8")

    def shouldRollover(self, record: logging.LogRecord) -> bool:  # noqa: ARG002, N802 -- as in the base
        """Return whether the file is full; the base formats each line a second time to know before."""
        return self.stream is not None and self.stream.tell() >= self.maxBytes

    def _open(self) -> IO[str]:  # type: ignore[override]  # what open() returns
        """Open the file for its owner alone: it names users."""
        return open(
            self.baseFilename, self.mode, encoding=self.encoding, opener=lambda path, flags: os.open(path, flags, 0o600)
        )
