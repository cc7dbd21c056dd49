"""What went wrong, in one line for the person at the keyboard: which field, why, and what to do next."""

from typing import Any, TypeVar

import grpc
import grpc.aio
from google.protobuf import message
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from indexer_client.cli import escape

EXIT_USAGE = 2
"""Exit code when the caller has to change what he asks for."""
EXIT_FAILURE = 1
"""Exit code for everything else."""

Detail = TypeVar("Detail", bound=message.Message)


class CliError(Exception):
    """The end of a command: one line for standard error, and the exit code."""

    def __init__(self, line: str, code: int = EXIT_FAILURE) -> None:
        super().__init__(line)
        self.code = code


def describe_rpc_error(error: grpc.aio.AioRpcError, *, address: str, user: str = "USER") -> CliError:
    """
    Return what to tell of a call that failed.

    Args:
        error: What gRPC raised.

        address: Where the call went.

        user: The user whom the command was about, for the commands that it suggests.
    """
    code, reason = error.code(), reason_of(error)
    exit_code = EXIT_USAGE if code is grpc.StatusCode.INVALID_ARGUMENT else EXIT_FAILURE
    line = _field_violations(error) or escape.visible(error.details() or "") or f"the server answered {code.name}"
    if code is grpc.StatusCode.UNAVAILABLE and not reason:
        terms = "with TLS and a certificate that --tls-ca believes" if address.endswith(" over TLS") else "without TLS"
        line = f"no indexer answers at {address}: is it running, {terms}? --address or INDEXER_ADDRESS names another"
    elif code is grpc.StatusCode.DEADLINE_EXCEEDED:
        line = f"{address} did not answer in time: try again, or look at the server's log"
    elif code is grpc.StatusCode.UNIMPLEMENTED:
        line = f"the server at {address} does not offer this: {line}"
    elif reason in _ADVICE:
        line = f"{line.split('; ', maxsplit=1)[0]}; {_ADVICE[reason].format(user=user)}"
    elif code not in _ABOUT_THE_REQUEST:
        line = f"{line} ({reason or code.name})"
    return CliError(line + _retry_hint(error), exit_code)


_ADVICE = {
    "CREDENTIAL_MISSING": "store one with: indexer credential put {user}",
    "REAUTH_REQUIRED": "let the user consent again, then: indexer credential put {user}",
    "USER_NOT_FOUND": "index first with: indexer index {user}",
    "UNAUTHENTICATED": "show one with --token-file or INDEXER_CLIENT_TOKEN; who runs the service makes them",
    "JOB_NOT_FOUND": "start one with: indexer index {user}",
}
_ABOUT_THE_REQUEST = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION}


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """Return the constant that the server gives as the reason; empty when it was not our server that refused."""
    info = _detail(error, error_details_pb2.ErrorInfo)
    return escape.visible(info.reason) if info else ""


def retry_delay(error: grpc.aio.AioRpcError) -> float | None:
    """Return after how many seconds the server wants to be asked again; None when it does not say."""
    info = _detail(error, error_details_pb2.RetryInfo)
    return max(0.0, info.retry_delay.ToMilliseconds() / 1000) if info else None


def _field_violations(error: grpc.aio.AioRpcError) -> str:
    """Return every refused field with its cause."""
    bad = _detail(error, error_details_pb2.BadRequest)
    found = bad.field_violations if bad else []
    return "; ".join(f"{escape.visible(one.field)}: {escape.visible(one.description)}" for one in found)


def _retry_hint(error: grpc.aio.AioRpcError) -> str:
    delay = retry_delay(error)
    return "" if delay is None else f"; try again in {delay:g} s"


def _detail(error: grpc.aio.AioRpcError, kind: type[Detail]) -> Detail | None:
    try:
        call: Any = error  # the function takes calls of either kind, its stubs one
        status = rpc_status.from_call(call)
    except ValueError:  # details of another status than the call's: not to be trusted
        return None
    for packed in status.details if status else ():
        found = kind()
        if packed.Is(kind.DESCRIPTOR) and packed.Unpack(found):
            return found
    return None
