"""
Lets through who shows a service token that opens the method, within his rate; nothing of it needs another server.

Tokens are found by their hash, so how long it takes says nothing of how much of a guess is right.
"""

import asyncio
import contextlib
import hashlib
import hmac
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, TypeAlias

import grpc
import grpc.aio
from google.protobuf import message

from indexer_service.interceptors import callers, chain
from indexer_service.interceptors.callers import Scope
from indexer_service.v1 import indexer_pb2 as pb
from indexing import errors
from indexing.domain import ports
from indexing.telemetry import logs

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
SERVICE: str = pb.DESCRIPTOR.services_by_name["IndexerService"].full_name
OPEN = ("/grpc.health.v1.Health/", "/grpc.reflection.")
"""What asks for no token: it tells nothing of any user. Reflection is not served unless a setting says so."""
SCOPES = {
    "StartIndexing": Scope.INDEX,
    "CancelJob": Scope.INDEX,
    "RetryJob": Scope.INDEX,
    "UpdatePreferences": Scope.INDEX,
    "WatchProgress": Scope.READ,
    "WaitJob": Scope.READ,
    "GetJob": Scope.READ,
    "ListJobs": Scope.READ,
    "ListGuilds": Scope.READ,
    "ListChannels": Scope.READ,
    "GetPreferences": Scope.READ,
    "GetRateLimits": Scope.READ,
    "PutCredential": Scope.CREDENTIALS,
    "GetCredentialStatus": Scope.CREDENTIALS,
    "RevokeCredential": Scope.CREDENTIALS,
    "DeleteUserData": Scope.ADMIN,
}
"""What opens each method; one that is not here is opened by nothing."""
SCHEME = "bearer "
LONGEST = 512
"""Characters of the longest header that is looked at; ours have 54."""


class _Stream:
    """One stream that is open, and the refusal it has to end with once its token counts no more."""

    __slots__ = ("digest", "refusal", "scope", "task")

    def __init__(self, digest: bytes, scope: Scope | None) -> None:
        self.digest = digest
        self.scope = scope
        self.refusal: errors.IndexerError | None = None
        self.task: asyncio.Task[Any] = asyncio.current_task()  # type: ignore[assignment]  # a handler is always in one

    def end(self, refusal: errors.IndexerError) -> None:
        """Break off; again when it is still there at the next look, because a cancellation can be swallowed."""
        self.refusal = refusal
        self.task.cancel()


class Admission(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    """Stands after what translates errors and before all else."""

    def __init__(self, clock: ports.Clock) -> None:
        self._clock = clock
        self._callers: callers.Table = {}
        self._streams: set[_Stream] = set()
        self._handlers = chain.Wrapped(self._guarded)

    def accept(self, contents: Sequence[bytes]) -> None:
        """Take the file of tokens as it is now. Raises reloaded.Unacceptable."""
        self._callers = callers.read(contents[0], self._callers)

    def end_refused(self) -> None:
        """End the streams of tokens that do not open them any more."""
        for stream in self._streams:
            try:
                self._allowed(self._callers.get(stream.digest), stream.scope)
            except errors.IndexerError as refusal:
                stream.end(refusal)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Wrap the handler, unary or streaming answers alike."""
        handler: Any = await continuation(handler_call_details)
        return self._handlers.get(handler_call_details.method, handler)  # type: ignore[no-any-return]  # untyped there

    def _guarded(self, method: str, handler: Any) -> Any:  # noqa: ANN401 -- gRPC's handlers have no common type
        if handler is None or method.startswith(OPEN):
            return handler
        service, _, name = method.lstrip("/").partition("/")
        if service != SERVICE:
            return None  # to gRPC: there is no such method
        scope = SCOPES.get(name)
        if handler.response_streaming:
            wrapped = self._stream(handler.unary_stream, scope)
            kind: Any = grpc.unary_stream_rpc_method_handler
        else:
            wrapped = self._unary(handler.unary_unary, scope)
            kind = grpc.unary_unary_rpc_method_handler
        return kind(
            wrapped, request_deserializer=handler.request_deserializer, response_serializer=handler.response_serializer
        )

    def _unary(self, behave: Any, scope: Scope | None) -> Any:  # noqa: ANN401 -- gRPC's handlers have no common type
        async def call(request: message.Message, context: Context) -> message.Message | bytes:
            with logs.bound(caller=self._admitted(context, scope).name):
                return await behave(request, context)  # type: ignore[no-any-return]  # as above

        return call

    def _stream(self, behave: Any, scope: Scope | None) -> Any:  # noqa: ANN401 -- as above
        async def call(request: message.Message, context: Context) -> None:
            caller = self._admitted(context, scope)
            with logs.bound(caller=caller.name), self._open(_Stream(caller.digest, scope)):
                await behave(request, context)

        return call

    def _admitted(self, context: Context, scope: Scope | None) -> callers.Caller:
        digest = hashlib.sha256(_token(context)).digest()
        found = self._callers.get(digest)
        if found is None or not hmac.compare_digest(found.digest, digest):
            raise errors.Unauthenticated
        wait = found.bucket.take(self._clock())
        if wait:
            raise errors.TooManyRequests(found.name, wait)
        return self._allowed(found, scope)

    @staticmethod
    def _allowed(found: callers.Caller | None, scope: Scope | None) -> callers.Caller:
        if found is None:
            raise errors.Unauthenticated
        if scope not in found.scopes:
            raise errors.ScopeMissing(scope or "")
        return found

    @contextlib.contextmanager
    def _open(self, stream: _Stream) -> Iterator[None]:
        self._streams.add(stream)
        try:
            yield
        except asyncio.CancelledError:
            if stream.refusal is None:
                raise
            # It was us who cancelled, not the caller: the call still has to be told why.
            while stream.task.uncancel():
                pass
        finally:
            self._streams.discard(stream)
        if stream.refusal:
            raise stream.refusal


def _token(context: Context) -> bytes:
    """Return the token that a call shows. Raises errors.Unauthenticated."""
    told: Any = context.invocation_metadata() or ()
    shown = [value for key, value in told if key == "authorization"]
    if len(shown) != 1 or len(shown[0]) > LONGEST or shown[0][: len(SCHEME)].lower() != SCHEME:
        raise errors.Unauthenticated
    return shown[0][len(SCHEME) :].strip().encode()  # type: ignore[no-any-return]  # untyped there
