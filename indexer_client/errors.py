"""Errors of calls, typed by their gRPC code, with the reason and the details that the service sends."""

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import grpc
from google.protobuf import message
from google.rpc import error_details_pb2, status_pb2

DETAILS = "grpc-status-details-bin"
"""Trailing metadata in which gRPC carries a google.rpc.Status."""
Detail = TypeVar("Detail", bound=message.Message)


class ClientError(Exception):
    """
    A call failed.

    Attributes:
        code: The gRPC code.
        reason: Constant such as JOB_NOT_FOUND (`ErrorReason` in the proto file); empty for errors of gRPC itself.
        text: The message, in English; it may change.
        retry_after: Seconds after which a retry can succeed; None when the service named none.
        violations: Each wrong field of the request with its problem.
        metadata: What the message mentions, by name.
    """

    handles: ClassVar[grpc.StatusCode | None] = None

    def __init__(
        self,
        code: grpc.StatusCode,
        text: str,
        *,
        reason: str = "",
        retry_after: float | None = None,
        violations: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(f"{reason or code.name}: {text}")
        self.code = code
        self.text = text
        self.reason = reason
        self.retry_after = retry_after
        self.violations = violations
        self.metadata: Mapping[str, str] = {}


class InvalidRequest(ClientError):
    """A field of the request is wrong; `violations` names each one."""

    handles = grpc.StatusCode.INVALID_ARGUMENT


class NotAuthenticated(ClientError):
    """The service token is missing or not valid."""

    handles = grpc.StatusCode.UNAUTHENTICATED


class NotAllowed(ClientError):
    """The service token lacks the method's scope."""

    handles = grpc.StatusCode.PERMISSION_DENIED


class NotFound(ClientError):
    """The job, user, guild or channel does not exist, or the user may not see it."""

    handles = grpc.StatusCode.NOT_FOUND


class NotPossibleNow(ClientError):
    """Something else has to happen first, e.g. the user has to log in again; `reason` says what."""

    handles = grpc.StatusCode.FAILED_PRECONDITION


class TooMuch(ClientError):
    """The caller exceeds a rate or a number of streams for longer than the client repeats calls."""

    handles = grpc.StatusCode.RESOURCE_EXHAUSTED


class Unavailable(ClientError):
    """No server answered for as long as the client repeats calls."""

    handles = grpc.StatusCode.UNAVAILABLE


class StreamLost(Unavailable):
    """A watch made no progress for `Options.patience` seconds: its streams keep ending without an error."""


class TooSlow(ClientError):
    """The call's deadline passed."""

    handles = grpc.StatusCode.DEADLINE_EXCEEDED


class NotOffered(ClientError):
    """This version of the service does not have the method."""

    handles = grpc.StatusCode.UNIMPLEMENTED


class ServiceBug(ClientError):
    """A bug of the service; `metadata` has the request id under which its log has the error."""

    handles = grpc.StatusCode.INTERNAL


TYPES = {kind.handles: kind for kind in ClientError.__subclasses__()}


def of_rpc_error(error: Any) -> ClientError:  # noqa: ANN401 -- errors of both kinds of channels
    """Return the typed error for one that gRPC raised."""
    code = error.code()
    info = detail(error, error_details_pb2.ErrorInfo)
    bad = detail(error, error_details_pb2.BadRequest)
    made = TYPES.get(code, ClientError)(
        code,
        error.details() or "",
        reason=info.reason if info else "",
        retry_after=retry_delay(error),
        violations=tuple((one.field, one.description) for one in bad.field_violations) if bad else (),
    )
    made.metadata = dict(info.metadata) if info else {}
    return made


def retry_delay(error: Any) -> float | None:  # noqa: ANN401 -- as above
    """Return the seconds of an error's RetryInfo; None when it has none."""
    info = detail(error, error_details_pb2.RetryInfo)
    return max(0.0, info.retry_delay.ToMilliseconds() / 1000) if info else None


def detail(error: Any, kind: type[Detail]) -> Detail | None:  # noqa: ANN401 -- as above
    """Return an error's detail of this kind; None when it has none, or when the details cannot be decoded."""
    packed = dict(error.trailing_metadata() or ()).get(DETAILS)
    if not isinstance(packed, bytes):
        return None
    try:
        status = status_pb2.Status.FromString(packed)
        for each in status.details:
            found = kind()
            if each.Is(kind.DESCRIPTOR) and each.Unpack(found):
                return found
    except message.DecodeError:
        return None
    return None
