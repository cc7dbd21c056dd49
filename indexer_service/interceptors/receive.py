"""
Reading of requests.

By default gRPC reads a whole request before it calls the handler, so anyone can fill the memory with requests that are
sent in part. Here each method streams its requests: the interceptors outside this one run as soon as the headers have
arrived, and a call that they refuse is never read. Core drops what arrives after the refusal (grpc source,
src/python/grpcio/grpc/_cython/_cygrpc/aio/server.pyx.pxi, read 2026-11-29).
"""

import asyncio
import re
from collections.abc import Awaitable, Iterable
from typing import Any, TypeVar

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
Result = TypeVar("Result")


class ReceiveInterceptor(base.Interceptor):
    """Reads the request of each call within a time limit, and adds the ids in it to the log fields."""

    reads_requests = True

    def __init__(self, time_limit: float) -> None:
        """Read each request within *time_limit* seconds."""
        self._limit = TimeLimit(time_limit)

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
            request = await self._limit.run(reader.read())
        except TimeoutError as error:
            raise errors.SlowSender from error
        if request is grpc.aio.EOF:  # type: ignore[attr-defined]  # missing in the stubs
            raise errors.InvalidArgument("request", "is missing")
        return request


class TimeLimit:
    """
    A limit of the seconds of many short operations, with one timer for all of them.

    asyncio.timeout has a timer for each, which costs a call 10 to 15 µs of CPU more (grpcio 1.85, 2026-11-29).
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ends: dict[asyncio.Task[Any], float] = {}
        """When the time of each task is over: in this order, because all have the same limit."""
        self._expired: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def run(self, operation: Awaitable[Result]) -> Result:
        """Return an operation's result; one at a time in each task. Raises TimeoutError when its time is over."""
        task: Any = asyncio.current_task()
        cancelled_before = task.cancelling()
        self._ends[task] = task.get_loop().time() + self._seconds
        if self._timer is None:
            self._timer = task.get_loop().call_at(self._ends[task], self._expire)
        try:
            return await operation
        except asyncio.CancelledError as error:
            # One cancellation is ours. Another one, at the same moment, goes on.
            if task in self._expired and task.cancelling() - 1 <= cancelled_before:
                raise TimeoutError from error
            raise
        finally:
            del self._ends[task]
            if task in self._expired:
                self._expired.remove(task)
                task.uncancel()

    def _expire(self) -> None:
        """Cancel the tasks whose time is over, and set the timer for the next one."""
        self._timer = None
        for task, end in self._ends.items():
            loop = task.get_loop()
            if end > loop.time():
                self._timer = loop.call_at(end, self._expire)
                return
            if task not in self._expired:
                self._expired.add(task)
                task.cancel()


def _log_fields(request: object, names: Iterable[str]) -> dict[str, str]:
    """Return the users and the job that a request names in these fields."""
    fields = {}
    for name in names:
        if value := getattr(request, name, ""):
            logged, form = LOGGED[name]
            given = value[:MOST_IDS] if name == "user_ids" else (value,)
            fields[logged] = ",".join(each if form.fullmatch(each) else INVALID for each in given)
    return fields
