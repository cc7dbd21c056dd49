"""
The audit log: who changed or read which user's data, one JSON line for each call.

It is kept apart from the log: on standard output, or in files that are rotated. A line holds ids and names, never a
request's other content. A line that cannot be written is lost, and the log says so: the product goes on.
"""

import datetime
import logging
import logging.handlers
import os
import sys
import time
from typing import IO, Any, NamedTuple

import msgspec

from indexing.telemetry import logs

OFF, STDOUT = "off", "stdout"
MAX_TEXT = 1200
"""Characters of the longest value: fifty ids of users."""
COMPLAINT_INTERVAL = 60.0
"""Seconds between two lines of the log about audit lines that are lost."""
_HANDLERS: list[logging.Handler] = []
"""Where lines go: one handler, or none. No logger is in between: with its LogRecord it costs 10 % of a short call."""


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
    while _HANDLERS:
        _HANDLERS.pop().close()
    if target != OFF:
        try:
            handler = _Stream(sys.stdout) if target == STDOUT else _Files(target, max_bytes, files)
        except OSError as error:
            raise CannotWrite(f"AUDIT_LOG: {target} cannot be written: {error.strerror}") from error
        handler.setFormatter(_Lines())
        _HANDLERS.append(handler)


class _Entry(NamedTuple):
    """Takes the place of a LogRecord."""

    fields: dict[str, object]


def record(**fields: object) -> None:
    """Write one line. Fields without a value are left out."""
    entry: Any = _Entry(fields)
    for handler in _HANDLERS:
        handler.emit(entry)  # without the lock of `handle`: one thread writes


class _Lines(logging.Formatter):
    """A line of JSON: the time, then the fields."""

    def format(self, record: Any) -> str:  # noqa: ANN401 -- an entry
        line = {"timestamp": datetime.datetime.now(datetime.UTC), "event": "call", "logger": "audit"}
        for name, value in record.fields.items():
            if value != "":
                line[name] = value[:MAX_TEXT] if isinstance(value, str) else value
        return msgspec.json.encode(line).decode()


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
