"""
Reading of requests.

By default gRPC reads a whole request before it calls the handler, so anyone can fill the memory with requests that are
sent in part. Here each method streams its requests: the interceptors outside this one run as soon as the headers have
arrived, and a call that they refuse is never read. Core drops what arrives after the refusal (grpc source,
src/python/grpcio/grpc/_cython/_cygrpc/aio/server.pyx.pxi, read 2026-11-29).
"""

import asyncio
import re
from typing import Any

import grpc.aio

from indexer_service.interceptors import base
from indexing import errors
from indexing.telemetry import logs

USER_ID, JOB_ID = re.compile(r"[0-9]{1,20}"), re.compile(r"[0-9a-f]{32}")
INVALID = "invalid"
"""Logged in place of any other text as an id: the request is not validated yet, and the text may be a token."""
MOST_IDS = 50
"""Ids of users that are logged of one request."""


class ReceiveInterceptor(base.Interceptor):
    """Reads the request of each call within a time limit, and adds the ids in it to the log fields."""

    reads_requests = True

    def __init__(self, time_limit: float) -> None:
        """Read each request within *time_limit* seconds."""
        self._time_limit = time_limit

    def wrap(self, method: base.Method, inner: base.Call) -> base.Call:  # noqa: ARG002 -- the same for all methods
        """Return a handler that reads the request and passes it on."""

        async def call(_unread: object, context: base.Context) -> Any:  # noqa: ANN401 -- any response
            request = await self._read(context)
            logs.add(**_log_fields(request))
            return await inner(request, context)

        return call

    async def _read(self, context: base.Context) -> Any:  # noqa: ANN401 -- any request
        """Return the request. Further messages of the caller are never read."""
        reader: Any = context  # missing in the stubs
        try:
            async with asyncio.timeout(self._time_limit):
                request = await reader.read()
        except TimeoutError as error:
            raise errors.SlowSender from error
        if request is grpc.aio.EOF:  # type: ignore[attr-defined]  # missing in the stubs
            raise errors.InvalidArgument("request", "is missing")
        return request


def _log_fields(request: object) -> dict[str, str]:
    """Return the users and the job that a request names."""
    fields = {}
    if user_id := getattr(request, "user_id", ""):
        fields["user"] = _checked(USER_ID, user_id)
    if user_ids := getattr(request, "user_ids", ()):
        fields["users"] = ",".join(_checked(USER_ID, each) for each in user_ids[:MOST_IDS])
    if job_id := getattr(request, "job_id", ""):
        fields["job"] = _checked(JOB_ID, job_id)
    return fields


def _checked(form: re.Pattern[str], given: str) -> str:
    return given if form.fullmatch(given) else INVALID
