"""
Reading of requests.

By default gRPC reads a whole request before it calls the handler, so anyone can fill the memory with requests that are
sent in part. Here each method streams its requests: the interceptors outside this one run as soon as the headers have
arrived, and a call that they refuse is never read. Core drops what arrives after the refusal (grpc source,
src/python/grpcio/grpc/_cython/_cygrpc/aio/server.pyx.pxi, read 2026-11-29).
"""

import asyncio
import re
from collections.abc import Iterable
from typing import Any

import grpc.aio

from indexer_service.interceptors import base
from indexing import errors
from indexing.telemetry import logs

USER_ID, JOB_ID = re.compile(r"[0-9]{1,20}"), re.compile(r"[0-9a-f]{32}")
LOGGED = {"user_id": ("user", USER_ID), "user_ids": ("users", USER_ID), "job_id": ("job", JOB_ID)}
"""Fields of requests that are logged: under which name, and what they must look like."""
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

    def wrap(self, method: base.Method, inner: base.Call) -> base.Call:
        """Return a handler that reads the request and passes it on."""
        names = [name for name in LOGGED if name in base.SERVICE.methods_by_name[method.name].input_type.fields_by_name]

        async def call(_unread: object, context: base.Context) -> Any:  # noqa: ANN401 -- any response
            request = await self._read(context)
            logs.add(**_log_fields(request, names))
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


def _log_fields(request: object, names: Iterable[str]) -> dict[str, str]:
    """Return the users and the job that a request names in these fields."""
    fields = {}
    for name in names:
        if value := getattr(request, name, ""):
            logged, form = LOGGED[name]
            given = value[:MOST_IDS] if name == "user_ids" else (value,)
            fields[logged] = ",".join(each if form.fullmatch(each) else INVALID for each in given)
    return fields
