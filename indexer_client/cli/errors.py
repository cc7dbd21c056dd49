"""Errors as one line for the terminal: the field, the reason, and the next command to run."""

import re

import grpc

from indexer_client import errors as client_errors
from indexer_client.cli import escape

EXIT_USAGE = 2
"""Exit code when the request must be changed."""
EXIT_FAILURE = 1
"""Exit code of every other failure."""


class CliError(Exception):
    """A command failed: one line for standard error, and the exit code."""

    def __init__(self, line: str, code: int = EXIT_FAILURE) -> None:
        super().__init__(line)
        self.code = code


def describe(error: client_errors.ClientError, *, address: str, user: str = "USER") -> CliError:
    """
    Return the error line and exit code for a failed call.

    Args:
        error: The error raised by the client.

        address: The address that was called.

        user: The user's id, for the commands that the line suggests.
    """
    code, reason = error.code, escape.visible(error.reason)
    exit_code = EXIT_USAGE if code is grpc.StatusCode.INVALID_ARGUMENT else EXIT_FAILURE
    line = (
        _field_violations(error)
        or escape.visible(_FIELD.sub("", error.text, count=1))
        or f"the service answered {code.name}"
    )
    if code is grpc.StatusCode.UNAVAILABLE and not reason:
        mode = "with TLS and a certificate that --tls-ca trusts" if address.endswith(" over TLS") else "without TLS"
        line = (
            f"cannot reach the service at {address}; check that it runs {mode}, "
            "or set another address with --address, INDEXER_ADDRESS or: indexer context set"
        )
    elif code is grpc.StatusCode.DEADLINE_EXCEEDED:
        line = f"{address} did not answer in time; try again, or check the service's log"
    elif code is grpc.StatusCode.UNIMPLEMENTED:
        line = f"the service at {address} does not support this call: {line}"
    elif reason in _ADVICE:
        line = f"{line.split('; ', maxsplit=1)[0]}; {_ADVICE[reason].format(user=user)}"
    elif code not in _ABOUT_THE_REQUEST:
        line = f"{line} ({reason or code.name})"
    hint = "" if error.retry_after is None else f"; try again in {error.retry_after:g} s"
    return CliError(line + hint, exit_code)


_ADVICE = {
    "CREDENTIAL_MISSING": "store one with: indexer credential put {user}",
    "REAUTH_REQUIRED": "the user must authorize the application again, then run: indexer credential put {user}",
    "USER_NOT_FOUND": "index the user first with: indexer index {user}",
    "UNAUTHENTICATED": "pass one with --token-file or INDEXER_CLIENT_TOKEN; create one with: indexer token new",
    "NOTHING_FAILED": "fetch all guilds again with: indexer index {user} --force",
    "JOB_NOT_FOUND": "start one with: indexer index {user}",
}
_ABOUT_THE_REQUEST = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION}


def advice_for(reason: str, user: str) -> str:
    """Return the next command after a reason; empty when there is none."""
    return _ADVICE.get(reason, "").format(user=user)


_ARGUMENTS = {
    "user_id": "USER",
    "user_ids": "--user",
    "job_id": "JOB",
    "guild_id": "GUILD",
    "channel_id": "CHANNEL",
    "channel_ids": "CHANNEL",
    "query": "QUERY",
    "wait": "--wait",
    "pinned_guild_ids": "--pin",
    "muted_guild_ids": "--mute",
    "scopes": "--scope",
    "expires_in": "--expires-in",
    "name_prefix": "--prefix",
}
"""What the command line calls the fields of requests; others have the same name there but for dashes."""

_FIELD = re.compile(rf"^({'|'.join(_ARGUMENTS)}): ")
"""The field with which the service begins a sentence that names the object anyway."""


def _field_violations(error: client_errors.ClientError) -> str:
    """Return every invalid field, by its argument's name, with its reason."""
    return "; ".join(f"{_argument(field)}: {escape.visible(text)}" for field, text in error.violations)


def _argument(field: str) -> str:
    name, _, index = field.partition("[")
    return escape.visible(_ARGUMENTS.get(name, name) + (f"[{index}" if index else ""))
