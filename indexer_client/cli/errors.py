"""Errors as one line for the terminal: the field, the reason, and the next command to run."""

from typing import Any, TypeVar

import grpc
import grpc.aio
from google.protobuf import message
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from indexer_client.cli import escape

EXIT_USAGE = 2
"""Exit code when the request must be changed."""
EXIT_FAILURE = 1
"""Exit code of every other failure."""

Detail = TypeVar("Detail", bound=message.Message)


class CliError(Exception):
    """A command failed: one line for standard error, and the exit code."""

    def __init__(self, line: str, code: int = EXIT_FAILURE) -> None:
        super().__init__(line)
        self.code = code


def describe_rpc_error(error: grpc.aio.AioRpcError, *, address: str, user: str = "USER") -> CliError:
    """
    Return the error line and exit code for a failed call.

    Args:
        error: The error raised by gRPC.

        address: The address that was called.

        user: The user's id, for the commands that the line suggests.
    """
    code, reason = error.code(), reason_of(error)
    exit_code = EXIT_USAGE if code is grpc.StatusCode.INVALID_ARGUMENT else EXIT_FAILURE
    line = _field_violations(error) or escape.visible(error.details() or "") or f"the service answered {code.name}"
    if code is grpc.StatusCode.UNAVAILABLE and not reason:
        mode = "with TLS and a certificate that --tls-ca trusts" if address.endswith(" over TLS") else "without TLS"
        line = (
            f"cannot reach the service at {address}; check that it runs {mode}, "
            "or set another address with --address or INDEXER_ADDRESS"
        )
    elif code is grpc.StatusCode.DEADLINE_EXCEEDED:
        line = f"{address} did not answer in time; try again, or check the service's log"
    elif code is grpc.StatusCode.UNIMPLEMENTED:
        line = f"the service at {address} does not support this call: {line}"
    elif reason in _ADVICE:
        line = f"{line.split('; ', maxsplit=1)[0]}; {_ADVICE[reason].format(user=user)}"
    elif code not in _ABOUT_THE_REQUEST:
        line = f"{line} ({reason or code.name})"
    return CliError(line + _retry_hint(error), exit_code)


_ADVICE = {
    "CREDENTIAL_MISSING": "store one with: indexer credential put {user}",
    "REAUTH_REQUIRED": "the user must authorize the application again, then run: indexer credential put {user}",
    "USER_NOT_FOUND": "index the user first with: indexer index {user}",
    "UNAUTHENTICATED": "pass one with --token-file or INDEXER_CLIENT_TOKEN; create one with: indexer token new",
    "JOB_NOT_FOUND": "start one with: indexer index {user}",
}
_ABOUT_THE_REQUEST = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION}


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """Return the reason in the error's ErrorInfo; empty when the error has none, as errors of gRPC itself."""
    info = _detail(error, error_details_pb2.ErrorInfo)
    return escape.visible(info.reason) if info else ""


def retry_delay(error: grpc.aio.AioRpcError) -> float | None:
    """Return the delay of the error's RetryInfo in seconds; None when the error has none."""
    info = _detail(error, error_details_pb2.RetryInfo)
    return max(0.0, info.retry_delay.ToMilliseconds() / 1000) if info else None


def _field_violations(error: grpc.aio.AioRpcError) -> str:
    """Return every invalid field with its reason."""
    bad = _detail(error, error_details_pb2.BadRequest)
    found = bad.field_violations if bad else []
    return "; ".join(f"{escape.visible(one.field)}: {escape.visible(one.description)}" for one in found)


def _retry_hint(error: grpc.aio.AioRpcError) -> str:
    delay = retry_delay(error)
    return "" if delay is None else f"; try again in {delay:g} s"


def _detail(error: grpc.aio.AioRpcError, kind: type[Detail]) -> Detail | None:
    try:
        call: Any = error  # the function takes AioRpcError too, its stubs do not say so
        status = rpc_status.from_call(call)
    except ValueError:  # the details contradict the call's own status
        return None
    for packed in status.details if status else ():
        found = kind()
        if packed.Is(kind.DESCRIPTOR) and packed.Unpack(found):
            return found
    return None
