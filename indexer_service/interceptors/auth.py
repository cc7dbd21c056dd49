"""
Authentication and authorization of callers by service tokens, and the request rate of each caller.

The tokens file has one line for each token: the caller, the SHA-256 hash of the token, its scopes, and the caller's
rate. Everything after `#` is a comment.

    # caller  sha256 of the token  scopes  requests/seconds
    shop      9f86d081…            index,read,credentials  100/1

A caller may have two tokens, so that it can move from one to the next; they share one rate. Tokens are looked up by
their hash, so the time of a lookup reveals nothing about how much of a guess is right. No check needs another server.
"""

import asyncio
import collections
import contextlib
import dataclasses
import enum
import hashlib
import hmac
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import pydantic
from google.protobuf import message

from indexer_service import caller, file_watch
from indexer_service.interceptors import base, open_methods
from indexing import errors, settings
from indexing.domain import ports
from indexing.telemetry import logs

SETTING = "INDEXER_SERVICE_TOKENS_FILE"
CALLER_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
DIGEST = re.compile(r"[0-9a-f]{64}")
FIELD_COUNT = 4
TOLERANCE = 1e-6
"""Seconds by which a request may be early: the sum of a thousand shares is not exactly the window."""
RATE: pydantic.TypeAdapter[settings.Rate] = pydantic.TypeAdapter(settings.RateField)
SCHEME = "bearer "
MAX_HEADER = 512
"""Characters of the longest authorization header that is hashed; the service's own tokens make 54."""


class Scope(enum.StrEnum):
    """A group of methods that a token can be allowed to call; no scope contains another."""

    INDEX = "index"
    READ = "read"
    CREDENTIALS = "credentials"
    ADMIN = "admin"


METHOD_SCOPES = {
    "StartIndexing": Scope.INDEX,
    "CancelJob": Scope.INDEX,
    "RetryJob": Scope.INDEX,
    "UpdatePreferences": Scope.INDEX,
    "WatchProgress": Scope.READ,
    "WatchIndex": Scope.READ,
    "WaitJob": Scope.READ,
    "GetJob": Scope.READ,
    "ListJobs": Scope.READ,
    "ListGuilds": Scope.READ,
    "ListChannels": Scope.READ,
    "GetGuild": Scope.READ,
    "GetChannel": Scope.READ,
    "BatchGetChannels": Scope.READ,
    "SearchChannels": Scope.READ,
    "GetPreferences": Scope.READ,
    "GetRateLimits": Scope.READ,
    "PutCredential": Scope.CREDENTIALS,
    "GetCredentialStatus": Scope.CREDENTIALS,
    "RevokeCredential": Scope.CREDENTIALS,
    "DeleteUserData": Scope.ADMIN,
}
"""The scope that each method requires. No token may call a method that is missing here."""


class RequestBucket:
    """The requests of one caller: `capacity` at once, and `capacity` in each `window` in the long run."""

    def __init__(self, rate: settings.Rate) -> None:
        self.rate = rate
        self._share = rate.window / rate.capacity
        self._full_at = -math.inf

    def take(self, now: float) -> float:
        """Take one request at *now*; returns 0, or the seconds until one is free, in which case none is taken."""
        full_at = max(now, self._full_at) + self._share
        wait = full_at - now - self.rate.window
        if wait > TOLERANCE:
            return wait
        self._full_at = full_at
        return 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class ServiceToken:
    """A token, by its hash, with its scopes and the bucket that it shares with its caller's other tokens."""

    caller: str
    digest: bytes = dataclasses.field(repr=False)
    scopes: frozenset[Scope]
    bucket: RequestBucket = dataclasses.field(repr=False, compare=False)


TokenTable: TypeAlias = "dict[bytes, ServiceToken]"
"""Tokens by their hash."""


def parse_tokens(content: bytes, previous: Mapping[bytes, ServiceToken]) -> TokenTable:
    """
    Return the tokens of a file. A caller of *previous* whose rate is unchanged keeps its bucket.

    Raises:
        file_watch.InvalidFile: Names the line, and repeats nothing of its content.
    """
    buckets = {token.caller: token.bucket for token in previous.values()}
    tokens: TokenTable = {}
    rates: dict[str, settings.Rate] = {}
    for number, line in enumerate(content.decode("ascii", "replace").splitlines(), start=1):
        fields = line.split("#", 1)[0].split()
        if not fields:
            continue
        try:
            token = _parse_line(fields, buckets)
            if token.digest in tokens:
                raise ValueError("an earlier line has the same token")  # noqa: TRY301 -- the handler adds the line
            if rates.setdefault(token.caller, token.bucket.rate) != token.bucket.rate:
                raise ValueError("an earlier line gives this caller another rate")  # noqa: TRY301 -- as above
        except ValueError as error:
            raise file_watch.InvalidFile(f"{SETTING}: line {number}: {_broken_rule(error)}") from None
        tokens[token.digest] = token
    if not tokens:
        raise file_watch.InvalidFile(f"{SETTING}: has no token; add a line with: indexer token new CALLER")
    return tokens


def _parse_line(fields: list[str], buckets: dict[str, RequestBucket]) -> ServiceToken:
    if len(fields) != FIELD_COUNT:
        raise ValueError("must be: caller, sha256 of the token, scopes, requests/seconds")
    caller, digest, scopes, rate_text = fields
    if not CALLER_NAME.fullmatch(caller):
        raise ValueError("a caller's name must be 1 to 64 of a-z, 0-9, dot, dash and underscore")
    if not DIGEST.fullmatch(digest):
        raise ValueError("the hash must be 64 hexadecimal digits; never write the token itself here")
    if not set(scopes.split(",")) <= {*Scope}:
        raise ValueError(f"scopes must be some of {','.join(Scope)}")
    rate = RATE.validate_python(rate_text)
    if caller not in buckets or buckets[caller].rate != rate:
        buckets[caller] = RequestBucket(rate)
    return ServiceToken(caller, bytes.fromhex(digest), frozenset(map(Scope, scopes.split(","))), buckets[caller])


def _broken_rule(error: ValueError) -> str:
    """Return the rule that a line breaks; pydantic's text would repeat the input."""
    if isinstance(error, pydantic.ValidationError):
        return "the rate must look like 100/1 (requests/seconds)"
    return str(error)


class _OpenStream:
    """An open stream, and the error that it ends with once its token is revoked."""

    __slots__ = ("digest", "refusal", "scope", "task")

    def __init__(self, digest: bytes, scope: Scope | None) -> None:
        self.digest = digest
        self.scope = scope
        self.refusal: errors.IndexerError | None = None
        self.task: asyncio.Task[Any] = asyncio.current_task()  # type: ignore[assignment]  # a handler is always in one

    def end(self, refusal: errors.IndexerError) -> None:
        """Cancel the stream. The caller repeats this until the stream is gone: a cancellation can be swallowed."""
        self.refusal = refusal
        self.task.cancel()


class AuthInterceptor(base.Interceptor):
    """Rejects calls without a valid token, without the method's scope, or beyond the caller's rate."""

    def __init__(self, clock: ports.Clock) -> None:
        self._clock = clock
        self._tokens: TokenTable = {}
        self._peers: collections.Counter[Scope | None] = collections.Counter()
        self._streams: set[_OpenStream] = set()

    def load_tokens(self, contents: Sequence[bytes]) -> None:
        """Replace all tokens by those of the file. Raises file_watch.InvalidFile and then changes nothing."""
        self._tokens = parse_tokens(contents[0], self._tokens)
        named = {(scope, token.caller) for token in self._tokens.values() for scope in token.scopes}
        self._peers = collections.Counter(scope for scope, _ in named)

    def end_revoked_streams(self) -> None:
        """End the open streams whose token is gone or has lost the scope."""
        for stream in self._streams:
            try:
                self._authorize(self._tokens.get(stream.digest), stream.scope)
            except errors.IndexerError as refusal:
                stream.end(refusal)

    def wrap_handler(self, path: str, handler: Any) -> Any:  # noqa: ANN401 -- gRPC's handlers have no common type
        """Return *handler* wrapped; for any other service that is not public None, as if it did not exist."""
        return (
            super().wrap_handler(path, handler) if path.startswith((base.PREFIX, *open_methods.OPEN_SERVICES)) else None
        )

    def wrap(self, method: base.Method, inner: base.Call) -> base.Call:
        """Return a handler that checks the caller, and for a stream goes on checking while it is open."""
        scope = METHOD_SCOPES.get(method.name)

        async def call(request: message.Message, context: base.Context) -> Any:  # noqa: ANN401 -- any response
            token = self._identify(context)
            self._note_caller(token, scope)
            self._authorize(token, scope)
            return await inner(request, context)

        async def call_stream(request: message.Message, context: base.Context) -> None:
            token = self._identify(context)
            self._note_caller(token, scope)
            self._authorize(token, scope)
            with self._tracked(_OpenStream(token.digest, scope)):
                await inner(request, context)

        return call_stream if method.streams else call

    def _note_caller(self, token: ServiceToken, scope: Scope | None) -> None:
        logs.add(caller=token.caller)
        caller.note(caller.Caller(token.caller, self._peers[scope]))

    def is_known(self, context: base.Context) -> bool:
        """Return whether a call carries a valid token, whatever its scopes and its caller's rate."""
        return self._find_token(context) is not None

    def _find_token(self, context: base.Context) -> ServiceToken | None:
        if (bearer := _bearer_token(context)) is None:
            return None
        digest = hashlib.sha256(bearer).digest()
        token = self._tokens.get(digest)
        return token if token is not None and hmac.compare_digest(token.digest, digest) else None

    def _identify(self, context: base.Context) -> ServiceToken:
        if (token := self._find_token(context)) is None:
            raise errors.Unauthenticated
        wait = token.bucket.take(self._clock())
        if wait:
            raise errors.TooManyRequests(token.caller, wait)
        return token

    @staticmethod
    def _authorize(token: ServiceToken | None, scope: Scope | None) -> None:
        if token is None:
            raise errors.Unauthenticated
        if scope not in token.scopes:
            raise errors.ScopeMissing(scope or "")

    @contextlib.contextmanager
    def _tracked(self, stream: _OpenStream) -> Iterator[None]:
        self._streams.add(stream)
        try:
            yield
        except asyncio.CancelledError:
            if stream.refusal is None:
                raise
            # `end_revoked_streams` cancelled it, not the caller, who still has to get the reason.
            while stream.task.uncancel():
                pass
        finally:
            self._streams.discard(stream)
        if stream.refusal:
            raise stream.refusal


def _bearer_token(context: base.Context) -> bytes | None:
    """Return the token that a call carries; None when it carries none or several."""
    metadata: Any = context.invocation_metadata() or ()
    headers = [value for key, value in metadata if key == "authorization"]
    if len(headers) != 1 or len(headers[0]) > MAX_HEADER or headers[0][: len(SCHEME)].lower() != SCHEME:
        return None
    return headers[0][len(SCHEME) :].strip().encode()  # type: ignore[no-any-return]  # untyped there
