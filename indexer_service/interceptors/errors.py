"""Translation of errors: known ones become a google.rpc.Status with details, all others INTERNAL, logged once."""

import math
import uuid
from typing import Any

import grpc.aio
from google.protobuf import any_pb2, duration_pb2, message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from indexer_service.interceptors import base, request_context
from indexing import errors
from indexing.telemetry import logs

DOMAIN = "discord-channel-indexer.internal"
"""Domain of the reasons (AIP-193). Nobody can register a name under .internal (ICANN, 2024-07-29)."""
METADATA = ("scope", "job_id", "user_id", "guild_id", "channel_id", "caller", "limit")
"""Attributes of errors that ErrorInfo repeats, because messages mention them."""
CODES: dict[type[errors.IndexerError], int] = {
    errors.InvalidArgument: code_pb2.INVALID_ARGUMENT,
    errors.RequestIdReused: code_pb2.INVALID_ARGUMENT,
    errors.CredentialOfAnotherUser: code_pb2.INVALID_ARGUMENT,
    errors.CredentialOfAnotherApplication: code_pb2.INVALID_ARGUMENT,
    errors.IdentifyScopeMissing: code_pb2.INVALID_ARGUMENT,
    errors.CredentialRefused: code_pb2.INVALID_ARGUMENT,
    errors.JobNotFound: code_pb2.NOT_FOUND,
    errors.JobRunning: code_pb2.FAILED_PRECONDITION,
    errors.NothingFailed: code_pb2.FAILED_PRECONDITION,
    errors.UserNotFound: code_pb2.NOT_FOUND,
    errors.GuildNotFound: code_pb2.NOT_FOUND,
    errors.ChannelNotFound: code_pb2.NOT_FOUND,
    errors.CredentialMissing: code_pb2.FAILED_PRECONDITION,
    errors.ReauthRequired: code_pb2.FAILED_PRECONDITION,
    errors.Unauthenticated: code_pb2.UNAUTHENTICATED,
    errors.ScopeMissing: code_pb2.PERMISSION_DENIED,
    errors.TooManyRequests: code_pb2.RESOURCE_EXHAUSTED,
    errors.CallerStopped: code_pb2.RESOURCE_EXHAUSTED,
    errors.Overloaded: code_pb2.RESOURCE_EXHAUSTED,
    errors.TooManyWatchers: code_pb2.RESOURCE_EXHAUSTED,
    errors.SlowSender: code_pb2.UNAVAILABLE,
    errors.SlowConsumer: code_pb2.UNAVAILABLE,
    errors.Leaving: code_pb2.UNAVAILABLE,
    errors.StoreUnavailable: code_pb2.UNAVAILABLE,
    errors.QueueUnavailable: code_pb2.UNAVAILABLE,
    errors.LimiterUnavailable: code_pb2.UNAVAILABLE,
    errors.RateLimited: code_pb2.UNAVAILABLE,
}
"""Code of each error that a caller may see; any other error is a bug and becomes INTERNAL."""


def status_of(problem: errors.IndexerError) -> status_pb2.Status:
    """Return the status for an error that CODES has."""
    return _status(CODES[type(problem)], str(problem), *_details(problem))


def _status(code: int, text: str, *details: message.Message) -> status_pb2.Status:
    status = status_pb2.Status(code=code, message=text)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def _details(problem: errors.IndexerError) -> list[message.Message]:
    info = error_details_pb2.ErrorInfo(reason=problem.reason, domain=DOMAIN)
    for name in METADATA:
        if value := getattr(problem, name, None):
            info.metadata[name] = str(value)
    details: list[message.Message] = [info]
    if isinstance(problem, errors.InvalidArgument):
        violations = [
            error_details_pb2.BadRequest.FieldViolation(field=field, description=text)
            for field, text in problem.violations
        ]
        details.append(error_details_pb2.BadRequest(field_violations=violations))
    if subject := _precondition_subject(problem):
        failure = error_details_pb2.PreconditionFailure.Violation(
            type=problem.reason, subject=subject, description=str(problem)
        )
        details.append(error_details_pb2.PreconditionFailure(violations=[failure]))
    if quota := _quota_subject(problem):
        excess = error_details_pb2.QuotaFailure.Violation(subject=quota, description=str(problem))
        details.append(error_details_pb2.QuotaFailure(violations=[excess]))
    retry_after = getattr(problem, "retry_after", None)
    if retry_after is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(math.ceil(retry_after * 1000))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    return details


def _quota_subject(problem: errors.IndexerError) -> str:
    """Return whose quota is exhausted; empty for other errors."""
    if isinstance(problem, errors.TooManyWatchers):
        return f"callers/{problem.caller}/watchers" if problem.caller else f"watchers of this {problem.limit}"
    if isinstance(problem, errors.CallerStopped):
        return f"callers/{problem.caller}/invalid_requests"
    return f"callers/{problem.caller}" if isinstance(problem, errors.TooManyRequests) else ""


def _precondition_subject(problem: errors.IndexerError) -> str:
    """Return what fails a precondition; empty for other errors."""
    if isinstance(problem, errors.CredentialMissing | errors.ReauthRequired):
        return f"users/{problem.user_id}"
    if isinstance(problem, errors.JobRunning | errors.NothingFailed):
        return f"jobs/{problem.job_id}"
    return ""


class ErrorInterceptor(base.Interceptor):
    """Ends a call whose handler raises with the status that the error stands for."""

    def __init__(self) -> None:
        self._log = logs.get(__name__)

    def wrap(self, method: base.Method, inner: base.Call) -> base.Call:
        """Return a handler that raises nothing but gRPC's own AbortError."""

        async def call(request: message.Message, context: base.Context) -> Any:  # noqa: ANN401 -- any response
            try:
                return await inner(request, context)
            except Exception as problem:
                await self._abort(problem, method.path, context)
                raise

        return call

    async def _abort(self, problem: Exception, path: str, context: base.Context) -> None:
        if isinstance(problem, grpc.aio.AbortError):
            return
        if isinstance(problem, errors.IndexerError) and type(problem) in CODES:
            status = status_of(problem)
        elif isinstance(problem, NotImplementedError):
            info = error_details_pb2.ErrorInfo(reason="METHOD_NOT_OFFERED", domain=DOMAIN)
            status = _status(code_pb2.UNIMPLEMENTED, f"{path} is not offered by this version", info)
        else:
            request_id = logs.field("request_id") or uuid.uuid4().hex
            self._log.error("call_crashed", method=path, request_id=request_id, exc_info=problem)
            text = f"internal error; the service's log has the details under request id {request_id}"
            info = error_details_pb2.ErrorInfo(
                reason=errors.IndexerError.reason, domain=DOMAIN, metadata={"request_id": request_id}
            )
            status = _status(code_pb2.INTERNAL, text, info)
        abort: Any = context
        ending: Any = rpc_status.to_status(status)
        if request_id := logs.field("request_id"):
            # Aborting replaces the trailing metadata that the response would have had.
            trailing = (*ending.trailing_metadata, (request_context.HEADER, request_id))
            ending = ending._replace(trailing_metadata=trailing)
        await abort.abort_with_status(ending)  # missing in the stubs
