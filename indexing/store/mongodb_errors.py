"""What an error of MongoDB or its driver means, in the words of an operator. No text holds a password or a document."""

import dataclasses
import enum
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pymongo.errors


class Trouble(enum.StrEnum):
    """Kinds of trouble. Those in `LASTING` do not end by waiting: somebody has to change something."""

    AWAY = "away"
    READONLY = "readonly"
    LOGIN = "login"
    RIGHTS = "rights"
    CERTIFICATE = "certificate"
    UNSUPPORTED = "unsupported"
    FULL = "full"
    OTHER = "other"


LASTING = frozenset({Trouble.LOGIN, Trouble.RIGHTS, Trouble.CERTIFICATE, Trouble.UNSUPPORTED})
SILENT = "does not answer"
"""Said only of what is silent: what refuses or closes connections answers."""


@dataclasses.dataclass(frozen=True, slots=True)
class Diagnosis:
    """An error's kind, and a predicate for the sentence "MongoDB ..."."""

    trouble: Trouble
    text: str


READONLY = Diagnosis(Trouble.READONLY, "has no primary that accepts writes (NotWritablePrimary)")
CODES: dict[int, Diagnosis] = {
    18: Diagnosis(Trouble.LOGIN, "refuses the login (AuthenticationFailed)"),
    8000: Diagnosis(Trouble.LOGIN, "refuses the login (AtlasError)"),
    **dict.fromkeys((10107, 13435, 13436, 11602, 11600, 189, 91), READONLY),
    59: Diagnosis(Trouble.UNSUPPORTED, "lacks a command (CommandNotFound)"),
    67: Diagnosis(Trouble.UNSUPPORTED, "lacks a kind of index (CannotCreateIndex)"),
    115: Diagnosis(Trouble.UNSUPPORTED, "lacks a command (CommandNotSupported)"),
    238: Diagnosis(Trouble.UNSUPPORTED, "lacks a feature (NotImplemented)"),
    **dict.fromkeys((301, 303, 304), Diagnosis(Trouble.UNSUPPORTED, "lacks a feature (FeatureNotSupported)")),
    14031: Diagnosis(Trouble.FULL, "has no disk space left (OutOfDiskSpace)"),
    16500: Diagnosis(Trouble.AWAY, "is throttled (16500)"),
    **dict.fromkeys((50, 262), Diagnosis(Trouble.AWAY, "is too slow (MaxTimeMSExpired)")),
}
"""By code: src/mongo/base/error_codes.yml of MongoDB 8.0; 301 to 304 and 16500 are DocumentDB's (read 2026-11)."""
UNAUTHORIZED = 13
NEVER_SENT = "operation would exceed time limit"
"""The driver's words for a command that it did not send, since it found a server only when the time was over. It uses
the code of MaxTimeMSExpired for it (`Connection.apply_timeout` of pymongo 4.20, read 2026-11-29)."""
CLASSES: tuple[tuple[type[Exception], Diagnosis], ...] = (
    (pymongo.errors.NetworkTimeout, Diagnosis(Trouble.AWAY, SILENT)),
    (pymongo.errors.ServerSelectionTimeoutError, Diagnosis(Trouble.AWAY, SILENT)),
    (pymongo.errors.AutoReconnect, Diagnosis(Trouble.AWAY, "closes the connection")),
    (pymongo.errors.WriteConcernError, Diagnosis(Trouble.AWAY, "did not confirm a write (WriteConcernError)")),
)
"""Where neither a code nor the text decides."""
NETWORK = (
    (
        r"CERTIFICATE_VERIFY_FAILED.*?verify failed: (.*?)(?: \(_ssl|\)?,|$)",
        Trouble.CERTIFICATE,
        "certificate not accepted: {}",
    ),
    (r"WRONG_VERSION_NUMBER|record layer failure", Trouble.CERTIFICATE, "does not speak TLS"),
    (r"requires at least \d+", Trouble.UNSUPPORTED, "is too old: 4.4 or newer is needed"),
    (r"No (?:replica set members|primary|servers?) (?:available|match|found)", Trouble.READONLY, "has no primary"),
    (r"Connection refused|Errno 111", Trouble.AWAY, "refuses connections"),
    (r"Errno -[235]\b|not known|does not exist|Name or service", Trouble.AWAY, "has an unknown host name"),
    (r"connection closed|reset by peer|Broken pipe|EOF occurred", Trouble.AWAY, "closes the connection (TLS?)"),
    (r"timed out|timeout|deadline", Trouble.AWAY, SILENT),
)
"""Patterns in the texts of pymongo and of the operating system, and what they mean."""


def diagnose(error: BaseException) -> Diagnosis:
    """Return what an error of the driver means."""
    if isinstance(error, pymongo.errors.ExecutionTimeout) and str(error).startswith(NEVER_SENT):
        return Diagnosis(Trouble.AWAY, "was not ready in time")
    for code, details in _codes(error):
        if code == UNAUTHORIZED:
            command = re.search(r"execute command \{ (\w+)", str(details.get("errmsg", "")))
            refused = command[1] if command else "a command"
            return Diagnosis(Trouble.RIGHTS, f"user may not run {refused} (Unauthorized)")
        if code in CODES:
            return CODES[code]
    text = str(error)
    for pattern, trouble, meaning in NETWORK:
        found = re.search(pattern, text)
        if found is not None:
            return Diagnosis(trouble, meaning.format(*found.groups()))
    by_class = [meaning for kind, meaning in CLASSES if isinstance(error, kind)]
    return by_class[0] if by_class else Diagnosis(Trouble.OTHER, f"failed ({_first_word(error)})")


def _codes(error: BaseException) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """
    Yield the codes of an error with their details, also those within a bulk.

    Where no server can be chosen, the reason is the last error of a server, which the driver only quotes.
    """
    if isinstance(error, pymongo.errors.ServerSelectionTimeoutError):
        yield from ((int(code), {}) for code in re.findall(r"'code': (\d+)", str(error)))
    details = getattr(error, "details", None)
    if not isinstance(details, Mapping):
        details = {}
    for item in (*details.get("writeErrors", ()), *details.get("writeConcernErrors", ())):
        yield int(item.get("code", 0)), item
    code = details.get("code", getattr(error, "code", None))
    if isinstance(code, int):
        yield code, details


def _first_word(error: BaseException) -> str:
    """Return the server's name of an error, such as CursorNotFound, with its code; else the driver's."""
    details = getattr(error, "details", None)
    name = details.get("codeName") if isinstance(details, Mapping) else None
    code = getattr(error, "code", None)
    return " ".join(str(part) for part in (name or type(error).__name__, code) if part)
