"""
The audit line of each call: caller, method, user, outcome, request id (`indexing/telemetry/audit.py`).

A call without a valid token, or beyond its caller's rate, has none: it changes and reads nothing, and whoever sends it
must not be able to fill the log.
"""

import asyncio
import time
from typing import Any

from indexer_service.interceptors import base
from indexing import errors
from indexing.telemetry import audit, tracing

OK, CANCELLED, INTERNAL = "OK", "CANCELLED", "INTERNAL"
WITHOUT_LINE = (errors.Unauthenticated, errors.TooManyRequests)
WITHOUT_USER = "GetRateLimits"
"""The method that concerns a user only if its request names one."""


class AuditInterceptor(base.Interceptor):
    """
    Writes a line when a call ends.

    It runs outside authentication, to see refused scopes, and inside the interceptor that translates errors.
    """

    def wrap(self, method: base.Method, inner: base.Call) -> base.Call:
        """Return a handler whose calls leave a line."""

        async def call(request: Any, context: base.Context) -> Any:  # noqa: ANN401 -- any request, any response
            began = time.monotonic()
            try:
                response = await inner(request, context)
            except WITHOUT_LINE:
                raise
            except BaseException as problem:
                _record(method, _outcome(problem), began)
                raise
            _record(method, OK, began, getattr(getattr(response, "job", None), "user_id", ""))
            return response

        return call


def _outcome(problem: BaseException) -> str:
    if isinstance(problem, errors.IndexerError):
        return problem.reason
    return CANCELLED if isinstance(problem, asyncio.CancelledError) else INTERNAL


def _record(method: base.Method, outcome: str, began: float, user: str = "") -> None:
    context = tracing.fields()
    users = context.get("users", "")
    if method.name == WITHOUT_USER and not users:
        return
    audit.record(
        caller=context.get("caller", ""),
        method=method.name,
        user=context.get("user", "") or user,
        users=users,
        job=context.get("job", ""),
        outcome=outcome,
        request_id=context.get("request_id", ""),
        seconds=round(time.monotonic() - began, 3),
    )
