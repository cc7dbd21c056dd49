"""Around every call: our errors become google.rpc.Status with details, anything else INTERNAL, logged once."""

import math
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc
import grpc.aio
from google.protobuf import any_pb2, duration_pb2, message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from indexer_service.interceptors import chain
from indexing import errors
from indexing.telemetry import logs

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
DOMAIN = "indexer"
CODES: dict[type[errors.IndexerError], int] = {
    errors.InvalidArgument: code_pb2.INVALID_ARGUMENT,
    errors.RequestIdReused: code_pb2.INVALID_ARGUMENT,
    errors.JobNotFound: code_pb2.NOT_FOUND,
    errors.JobRunning: code_pb2.FAILED_PRECONDITION,
    errors.NothingFailed: code_pb2.FAILED_PRECONDITION,
    errors.UserNotFound: code_pb2.NOT_FOUND,
    errors.CredentialMissing: code_pb2.FAILED_PRECONDITION,
    errors.ReauthRequired: code_pb2.FAILED_PRECONDITION,
    errors.Unauthenticated: code_pb2.UNAUTHENTICATED,
    errors.ScopeMissing: code_pb2.PERMISSION_DENIED,
    errors.TooManyRequests: code_pb2.RESOURCE_EXHAUSTED,
    errors.TooManyWatchers: code_pb2.RESOURCE_EXHAUSTED,
    errors.SlowConsumer: code_pb2.UNAVAILABLE,
    errors.Leaving: code_pb2.UNAVAILABLE,
    errors.StoreUnavailable: code_pb2.UNAVAILABLE,
    errors.QueueUnavailable: code_pb2.UNAVAILABLE,
    errors.LimiterUnavailable: code_pb2.UNAVAILABLE,
    errors.RateLimited: code_pb2.UNAVAILABLE,
}
"""What a caller sees of our errors; one that is not here is a bug of ours and becomes INTERNAL."""


def status_of(problem: errors.IndexerError) -> status_pb2.Status:
    """Return the status for one of our errors."""
    status = status_pb2.Status(code=CODES[type(problem)], message=str(problem))
    for detail in _details(problem):
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def _details(problem: errors.IndexerError) -> list[message.Message]:
    info = error_details_pb2.ErrorInfo(reason=problem.reason, domain=DOMAIN)
    if isinstance(problem, errors.ScopeMissing) and problem.scope:
        info.metadata["scope"] = problem.scope
    found: list[message.Message] = [info]
    if isinstance(problem, errors.InvalidArgument):
        violation = error_details_pb2.BadRequest.FieldViolation(field=problem.field, description=problem.problem)
        found.append(error_details_pb2.BadRequest(field_violations=[violation]))
    subject = _subject(problem)
    if subject:
        failure = error_details_pb2.PreconditionFailure.Violation(
            type=problem.reason, subject=subject, description=str(problem)
        )
        found.append(error_details_pb2.PreconditionFailure(violations=[failure]))
    quota = _quota(problem)
    if quota:
        excess = error_details_pb2.QuotaFailure.Violation(subject=quota, description=str(problem))
        found.append(error_details_pb2.QuotaFailure(violations=[excess]))
    retry_after = getattr(problem, "retry_after", None)
    if retry_after is not None:
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(math.ceil(retry_after * 1000))
        found.append(error_details_pb2.RetryInfo(retry_delay=delay))
    return found


def _quota(problem: errors.IndexerError) -> str:
    """Return whose quota is used up, or nothing."""
    if isinstance(problem, errors.TooManyWatchers):
        return f"watchers of this {problem.whose}"
    return f"callers/{problem.caller}" if isinstance(problem, errors.TooManyRequests) else ""


def _subject(problem: errors.IndexerError) -> str:
    """Return what fails a precondition, or nothing."""
    if isinstance(problem, errors.CredentialMissing | errors.ReauthRequired):
        return f"users/{problem.user_id}"
    if isinstance(problem, errors.JobRunning | errors.NothingFailed):
        return f"jobs/{problem.job_id}"
    return ""


class Failures(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    """Translates what handlers raise."""

    def __init__(self) -> None:
        self._log = logs.get(__name__)
        self._handlers = chain.Wrapped(self._guarded)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Wrap the handler, unary or streaming answers alike."""
        handler: Any = await continuation(handler_call_details)
        return self._handlers.get(handler_call_details.method, handler)  # type: ignore[no-any-return]  # untyped there

    def _guarded(self, method: str, handler: Any) -> Any:  # noqa: ANN401 -- gRPC's handlers have no common type
        if handler is None or not method.startswith("/indexer_service."):
            return handler
        if handler.response_streaming:
            wrapped = self._stream(handler.unary_stream, method)
            kind: Any = grpc.unary_stream_rpc_method_handler
        else:
            wrapped = self._unary(handler.unary_unary, method)
            kind = grpc.unary_unary_rpc_method_handler
        return kind(
            wrapped,
            request_deserializer=handler.request_deserializer,
            response_serializer=chain.passing(handler.response_serializer),
        )

    def _unary(self, behave: Any, method: str) -> Any:  # noqa: ANN401 -- gRPC's handlers have no common type
        async def call(request: message.Message, context: Context) -> message.Message | bytes:
            try:
                return await behave(request, context)  # type: ignore[no-any-return]  # as above
            except Exception as problem:
                await self._fail(problem, method, context)
                raise

        return call

    def _stream(self, behave: Any, method: str) -> Any:  # noqa: ANN401 -- as above
        async def call(request: message.Message, context: Context) -> None:
            try:
                await behave(request, context)
            except Exception as problem:
                await self._fail(problem, method, context)
                raise

        return call

    async def _fail(self, problem: Exception, method: str, context: Context) -> None:
        if isinstance(problem, grpc.aio.AbortError):
            return
        if isinstance(problem, errors.IndexerError) and type(problem) in CODES:
            status = status_of(problem)
        elif isinstance(problem, NotImplementedError):
            status = status_pb2.Status(code=code_pb2.UNIMPLEMENTED, message=f"{method} is not offered by this version")
        else:
            request_id = logs.field("request_id") or uuid.uuid4().hex
            self._log.error("call_crashed", method=method, request_id=request_id, exc_info=problem)
            text = f"something broke here; the log has it under request id {request_id}"
            status = status_pb2.Status(code=code_pb2.INTERNAL, message=text)
        abort: Any = context
        told: Any = rpc_status.to_status(status)
        if request_id := logs.field("request_id"):
            # Ending a call replaces the metadata that its answer would have had.
            told = told._replace(trailing_metadata=(*told.trailing_metadata, ("x-request-id", request_id)))
        await abort.abort_with_status(told)  # missing in the stubs
