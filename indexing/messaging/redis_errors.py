"""What an error of Redis or of its clients means, in the words of an operator. No text contains a password or a key."""

import contextlib
import dataclasses
import enum
import re
from collections.abc import Iterator

import dramatiq.errors
import redis.exceptions

from indexing import errors
from indexing.messaging import redis_connections


class Trouble(enum.StrEnum):
    """Kinds of trouble. Those in `LASTING` do not end by waiting: somebody has to change something."""

    AWAY = "away"
    READONLY = "readonly"
    LOGIN = "login"
    RIGHTS = "rights"
    CERTIFICATE = "certificate"
    CLUSTER = "cluster"
    VERSION = "version"
    FULL = "full"
    DISK = "disk"
    OTHER = "other"


LASTING = frozenset({Trouble.LOGIN, Trouble.RIGHTS, Trouble.CERTIFICATE, Trouble.CLUSTER, Trouble.VERSION})
SILENT = "does not answer"
"""Said only of what is silent: what refuses or closes connections answers."""
CLUSTER_LINE = "Redis Cluster is not supported; use one primary, or Sentinel"


@dataclasses.dataclass(frozen=True, slots=True)
class Diagnosis:
    """An error's kind, and a predicate for the sentence "Redis ..."."""

    trouble: Trouble
    text: str


def _refused_command(text: str) -> str:
    command = re.search(r"the '?([\w|]+)'? command", text)
    if command is not None:
        return f"run {command[1].upper()}"
    return "use a key" if "key" in text else "run a command of a script"


WORDS: dict[str, Diagnosis] = {
    "READONLY": Diagnosis(Trouble.READONLY, "is a replica (READONLY)"),
    "UNBLOCKED": Diagnosis(Trouble.READONLY, "has become a replica (UNBLOCKED)"),
    "MASTERDOWN": Diagnosis(Trouble.READONLY, "is a replica without a primary (MASTERDOWN)"),
    "NOREPLICAS": Diagnosis(Trouble.AWAY, "has too few replicas to accept writes (NOREPLICAS)"),
    "LOADING": Diagnosis(Trouble.AWAY, "is loading its data (LOADING)"),
    "CLUSTERDOWN": Diagnosis(Trouble.CLUSTER, f"is a cluster: {CLUSTER_LINE}"),
    "MOVED": Diagnosis(Trouble.CLUSTER, f"is a cluster: {CLUSTER_LINE}"),
    "CROSSSLOT": Diagnosis(Trouble.CLUSTER, f"is a cluster: {CLUSTER_LINE}"),
    "NOAUTH": Diagnosis(Trouble.LOGIN, "wants a login (NOAUTH)"),
    "WRONGPASS": Diagnosis(Trouble.LOGIN, "refuses the login (WRONGPASS)"),
    "OOM": Diagnosis(Trouble.FULL, "is full (OOM)"),
    "MISCONF": Diagnosis(Trouble.DISK, "cannot write to disk (MISCONF)"),
    "BUSY": Diagnosis(Trouble.AWAY, "is busy with a script (BUSY)"),
}
"""By the server's word, anywhere in the text of its error."""
SERVER_WORD = re.compile(rf"\b({'|'.join(WORDS)})\b")
DENIED = re.compile(r"NOPERM|ACL failure|user executing the script can't|has no permissions", re.IGNORECASE)
NETWORK = (
    (
        r"CERTIFICATE_VERIFY_FAILED.*?verify failed: (.*?)(?: \(_ssl|$)",
        Trouble.CERTIFICATE,
        "certificate not accepted: {}",
    ),
    (r"WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|record layer failure", Trouble.CERTIFICATE, "does not speak TLS"),
    (r"(Sentinel knows no primary \".*\")", Trouble.AWAY, "is not known: {}"),
    (r"Error 111|Connect call failed|ECONNREFUSED|Connection refused", Trouble.AWAY, "refuses connections"),
    (r"Error -[235]\b|Errno -[235]\b|not known|Name or service", Trouble.AWAY, "has an unknown host name"),
    (r"unknown command\W+HELLO", Trouble.VERSION, "is too old: 6.2 or newer is needed"),
    (r"Timeout|timed out", Trouble.AWAY, SILENT),
    (r"No connection available|Too many connections", Trouble.AWAY, "has no free connection in this process"),
    (r"max number of clients", Trouble.AWAY, "has too many clients"),
    (r"reset by peer|closed by server|Connection lost|Broken pipe", Trouble.AWAY, "closes the connection (TLS?)"),
)
"""Patterns in the texts of redis-py and of the operating system, and what they mean."""


def diagnose(error: BaseException) -> Diagnosis:
    """Return what an error means. The first error of its chain of causes that is understood decides."""
    cause: BaseException | None = error
    while cause is not None:
        found = None if isinstance(cause, errors.IndexerError) else _understand(cause)
        if found is not None:
            return found
        cause = cause.__cause__
    word = getattr(error, "status_code", None) or type(error).__name__
    return Diagnosis(Trouble.OTHER, f"failed ({word})")


def _understand(error: BaseException) -> Diagnosis | None:
    text = redis_connections.error_text(error)
    if DENIED.search(text):
        return Diagnosis(Trouble.RIGHTS, f"user may not {_refused_command(text)} (NOPERM)")
    if isinstance(error, redis_connections.NotPrimary):
        return WORDS[error.word]
    word = SERVER_WORD.search(text)
    if word is not None and isinstance(error, redis.exceptions.RedisError):
        return WORDS[word[1]]
    if isinstance(error, redis.exceptions.AuthenticationError | redis.exceptions.AuthorizationError):
        return Diagnosis(Trouble.LOGIN, "refuses the login")
    for pattern, trouble, meaning in NETWORK:
        found = re.search(pattern, text, re.IGNORECASE)
        if found is not None:
            return Diagnosis(trouble, meaning.format(*found.groups()))
    return Diagnosis(Trouble.AWAY, SILENT) if isinstance(error, TimeoutError) else None


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Translate errors of redis-py and Dramatiq into errors.QueueUnavailable."""
    try:
        yield
    except (redis.exceptions.RedisError, dramatiq.errors.BrokerConnectionError, OSError) as error:
        raise errors.QueueUnavailable(f"Redis {diagnose(error).text}") from error
