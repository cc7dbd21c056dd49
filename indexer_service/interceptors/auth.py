"""
Lets through who shows a service token that opens the method, within his rate; nothing of it needs another server.

Tokens are found by their hash, so how long it takes says nothing of how much of a guess is right.

Who may call: one line a token, with its hash, what it opens, and how many requests its caller may make.

    # caller  sha256 of the token  scopes  requests/seconds
    shop      9f86d081…            index,read,credentials  100/1

A caller may have two lines, so that it can move from one token to the next. Its rate is one: it belongs to the name.
"""

import asyncio
import contextlib
import dataclasses
import enum
import hashlib
import hmac
import math
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import grpc
import grpc.aio
import pydantic
from google.protobuf import message

from indexer_service import file_watch
from indexer_service.interceptors import chain
from indexer_service.v1 import indexer_pb2 as pb
from indexing import errors, settings
from indexing.domain import ports
from indexing.telemetry import logs

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
DIGEST = re.compile(r"[0-9a-f]{64}")
FIELDS = 4
ROUNDING = 1e-6
"""Seconds by which a request may come too early."""
RATES: pydantic.TypeAdapter[settings.Rate] = pydantic.TypeAdapter(settings.RateField)


class Scope(enum.StrEnum):
    """What a token opens; none contains another."""

    INDEX = "index"
    READ = "read"
    CREDENTIALS = "credentials"
    ADMIN = "admin"


class Bucket:
    """The requests of one caller: `capacity` at once, and `capacity` in each `window` in the long run."""

    def __init__(self, rate: settings.Rate) -> None:
        self.rate = rate
        self._each = rate.window / rate.capacity
        self._full = -math.inf

    def take(self, now: float) -> float:
        """Take one at *now*; returns 0, or the seconds until there is one, in which case nothing was taken."""
        full = max(now, self._full) + self._each
        wait = full - now - self.rate.window
        # A sum of a thousand shares is not exactly the window.
        if wait > ROUNDING:
            return wait
        self._full = full
        return 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Caller:
    """One token, by its hash, and whose it is."""

    name: str
    digest: bytes = dataclasses.field(repr=False)
    scopes: frozenset[Scope]
    bucket: Bucket = dataclasses.field(repr=False, compare=False)


Table: TypeAlias = "dict[bytes, Caller]"
"""Callers by the hash of their token."""


def read(content: bytes, before: Mapping[bytes, Caller]) -> Table:
    """
    Return the callers of a file; whoever was there *before* with the same rate goes on with what he has used.

    Raises:
        reloaded.Unacceptable: With the number of the line, and nothing of what stands there.
    """
    buckets = {caller.name: caller.bucket for caller in before.values()}
    found: Table = {}
    rates: dict[str, settings.Rate] = {}
    for number, line in enumerate(content.decode("ascii", "replace").splitlines(), start=1):
        fields = line.split("#", 1)[0].split()
        if not fields:
            continue
        try:
            caller = _caller(fields, buckets)
            if caller.digest in found:
                raise ValueError("the same token stands above")  # noqa: TRY301 -- one place tells the line
            if rates.setdefault(caller.name, caller.bucket.rate) != caller.bucket.rate:
                raise ValueError("the same caller has another rate above")  # noqa: TRY301 -- as above
        except ValueError as error:
            raise file_watch.Unacceptable(f"INDEXER_SERVICE_TOKENS_FILE: line {number}: {_said(error)}") from None
        found[caller.digest] = caller
    if not found:
        raise file_watch.Unacceptable("INDEXER_SERVICE_TOKENS_FILE: names no caller")
    return found


def _caller(fields: list[str], buckets: dict[str, Bucket]) -> Caller:
    if len(fields) != FIELDS:
        raise ValueError("must be: caller, sha256 of the token, scopes, requests/seconds")
    name, digest, scopes, rate_text = fields
    if not NAME.fullmatch(name):
        raise ValueError("a caller's name has 1 to 64 of a-z, 0-9, dot, dash and underscore")
    if not DIGEST.fullmatch(digest):
        raise ValueError("the hash must be 64 hexadecimal digits; never write the token itself here")
    if not set(scopes.split(",")) <= {*Scope}:
        raise ValueError(f"scopes are some of {','.join(Scope)}")
    rate = RATES.validate_python(rate_text)
    if name not in buckets or buckets[name].rate != rate:
        buckets[name] = Bucket(rate)
    return Caller(name, bytes.fromhex(digest), frozenset(map(Scope, scopes.split(","))), buckets[name])


def _said(error: ValueError) -> str:
    """Return the rule that is broken; pydantic's text would repeat the input."""
    return (
        "the rate must look like 100/1 (requests/seconds)"
        if isinstance(error, pydantic.ValidationError)
        else str(error)
    )


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
        self._callers: Table = {}
        self._streams: set[_Stream] = set()
        self._handlers = chain.Wrapped(self._guarded)

    def accept(self, contents: Sequence[bytes]) -> None:
        """Take the file of tokens as it is now. Raises reloaded.Unacceptable."""
        self._callers = read(contents[0], self._callers)

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

    def _admitted(self, context: Context, scope: Scope | None) -> Caller:
        digest = hashlib.sha256(_token(context)).digest()
        found = self._callers.get(digest)
        if found is None or not hmac.compare_digest(found.digest, digest):
            raise errors.Unauthenticated
        wait = found.bucket.take(self._clock())
        if wait:
            raise errors.TooManyRequests(found.name, wait)
        return self._allowed(found, scope)

    @staticmethod
    def _allowed(found: Caller | None, scope: Scope | None) -> Caller:
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
