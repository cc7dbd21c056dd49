"""
The request id and the trace of each call.

The request id is the caller's (metadata `x-request-id`) or a new one. It appears in every log line of the call, in
those of the turns of a job that the call starts, and in the response's metadata. The trace continues the caller's
`traceparent`.
"""

import random
import re
from typing import Any

from google.protobuf import message

from indexer_service.interceptors import base
from indexing.telemetry import logs, tracing

HEADER = "x-request-id"
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""Ids that are accepted from callers; any other text would reach the logs unchecked."""
IDS = random.Random()  # noqa: S311 -- new ids are no secret, and os.urandom needs a system call

REPLAYED = ("idempotent-replayed", "true")
"""Trailing metadata of a repeated response; the response itself is the same (AIP-155)."""


class RequestContextInterceptor(base.Interceptor):
    """Gives each call its request id and its span; the outermost interceptor."""

    def wrap(self, method: base.Method, inner: base.Call) -> base.Call:
        """Return a handler that runs in the call's context."""
        span_name = method.path.lstrip("/")

        async def call(request: message.Message, context: base.Context) -> Any:  # noqa: ANN401 -- any response
            request_id, parent = _read_metadata(context)
            context.set_trailing_metadata(((HEADER, request_id),))
            with logs.bound(request_id=request_id), tracing.start_child_span(parent, span_name):
                return await inner(request, context)

        return call


def add_trailing(context: base.Context, *pairs: tuple[str, str]) -> None:
    """Add trailing metadata to a response, beside the request id."""
    request_id = logs.field("request_id")
    context.set_trailing_metadata((*([(HEADER, request_id)] if request_id else []), *pairs))


def _read_metadata(context: base.Context) -> tuple[str, str]:
    """Return the call's request id and its traceparent."""
    request_id = parent = ""
    metadata: Any = context.invocation_metadata() or ()
    for key, value in metadata:
        if key == HEADER and REQUEST_ID.fullmatch(value):
            request_id = value
        elif key == "traceparent":
            parent = value
    return request_id or f"{IDS.getrandbits(128):032x}", parent
