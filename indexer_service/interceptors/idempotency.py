"""
A call with a request id may be repeated for 24 hours: the same id gives the same answer.

The answer is kept when the call has succeeded. Two calls with the same id at the same moment may both run, which does
no harm: starting joins the job that runs, cancelling and putting are the same when done twice. The request is kept as a
keyed hash only, because it may carry a token; the answer with the user whom it is about, so that it is erased with him.
"""

import hashlib
import hmac
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc
import grpc.aio
from google.protobuf import message

from indexer_service.api import validate
from indexer_service.interceptors import chain
from indexer_service.v1 import indexer_pb2 as pb
from indexing import errors
from indexing.domain import ports

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
DESCRIPTOR = pb.DESCRIPTOR.services_by_name["IndexerService"]
SERVICE: str = DESCRIPTOR.full_name
REPEATED = "REQUEST_ID_REPEATED"
METHODS = {method.name: method for method in DESCRIPTOR.methods}
ABOUT_NOBODY = {"DeleteUserData"}
"""Methods whose answer tells nothing of the user and must outlive him."""


class Replays(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    """Answers repeated requests from the store. One round trip before the call, one after it; none without an id."""

    def __init__(self, requests: ports.IdempotencyStore, key: bytes, clock: ports.Clock) -> None:
        self._requests = requests
        self._key = key
        self._clock = clock
        self._handlers = chain.Wrapped(self._kept)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Wrap the methods that have a request id."""
        handler: Any = await continuation(handler_call_details)
        return self._handlers.get(handler_call_details.method, handler)  # type: ignore[no-any-return]  # untyped there

    def _kept(self, method: str, handler: Any) -> Any:  # noqa: ANN401 -- gRPC's handlers have no common type
        service, _, name = method.lstrip("/").partition("/")
        known = METHODS.get(name) if service == SERVICE else None
        if handler is None or known is None or "request_id" not in known.input_type.fields_by_name:
            return handler
        return grpc.unary_unary_rpc_method_handler(
            self._wrapped(handler, name),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _wrapped(self, handler: Any, name: str) -> Any:  # noqa: ANN401 -- gRPC's handlers have no common type
        output = getattr(pb, f"{name}Response")

        async def call(request: Any, context: Context) -> message.Message | bytes:  # noqa: ANN401 -- any request
            request_id = validate.request_id("request_id", request.request_id)
            if not request_id:
                return await handler.unary_unary(request, context)  # type: ignore[no-any-return]  # as above
            key = f"{name}:{request_id}"
            fingerprint = self._fingerprint(request)
            known = await self._requests.find(key)
            if known is None:
                response: message.Message | bytes = await handler.unary_unary(request, context)
                body = response if isinstance(response, bytes) else response.SerializeToString()
                about = None if name in ABOUT_NOBODY else _about(request, output.FromString(body))
                await self._requests.store(key, ports.StoredResponse(fingerprint, body, about), self._clock())
                return response
            if not hmac.compare_digest(known.fingerprint, fingerprint):
                raise errors.RequestIdReused
            return _replayed(output.FromString(known.response))

        return call

    def _fingerprint(self, request: message.Message) -> bytes:
        return hmac.digest(self._key, request.SerializeToString(deterministic=True), hashlib.sha256)


def _about(request: Any, response: Any) -> int | None:  # noqa: ANN401 -- any request, any response
    """Return the user whom an answer is about: the one that is asked for, or whose job it tells of."""
    told = getattr(request, "user_id", "") or response.job.user_id
    return int(told) if told else None


def _replayed(response: Any) -> message.Message:  # noqa: ANN401 -- any response
    if "disposition" in response.DESCRIPTOR.fields_by_name:
        response.disposition = pb.DISPOSITION_REPLAYED
    if "reason" in response.DESCRIPTOR.fields_by_name:
        response.reason = REPEATED
    return response  # type: ignore[no-any-return]  # as above
