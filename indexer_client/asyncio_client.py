"""The client for asyncio."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, Self, cast

import grpc
import grpc.aio

from indexer_client import errors, options, policy
from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc

CLOSING = 60.0
"""Seconds that calls on a replaced channel may still take."""


class AsyncClient:
    """
    A connection to the service. Use it as a context manager, one for the whole process.

    Attributes:
        api: All methods as generated, with token, deadline, retries, request ids and typed errors, e.g.
            `await client.api.GetJob(pb.GetJobRequest(job_id=...))`. Each raises `errors.ClientError`.
    """

    def __init__(self, address: str = "", *, settings: options.Options | None = None) -> None:
        """Connect to *address* without TLS, or as *settings* say. The connection is made at the first call."""
        self._options = settings or options.Options(address)
        self._secrets = options.Secrets(self._options)
        self._channel: grpc.aio.Channel | None = None
        self._stub: Any = None
        self._stamp: object = None
        self._closing: set[asyncio.Task[None]] = set()
        self.api = cast("pb_grpc.IndexerServiceAsyncStub", _Api(self._call))

    async def __aenter__(self) -> Self:
        """Return the client."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connection."""
        for task in self._closing:
            task.cancel()
        if self._channel is not None:
            await self._channel.close(None)

    async def start_and_wait(self, user_id: str, *, force: bool = False) -> pb.Job:
        """Index a user and return their job when it has ended. Cancelling the wait does not cancel the job."""
        started = await self.api.StartIndexing(pb.StartIndexingRequest(user_id=user_id, force=force))
        if started.job.HasField("end_time"):
            return started.job
        async with contextlib.aclosing(self.watch(started.job.job_id, token=started.watch_token)) as events:
            async for event in events:
                if event.HasField("terminal"):
                    return event.terminal.job
        raise errors.Unavailable(grpc.StatusCode.UNAVAILABLE, "the watch ended without an end of the job")

    async def watch(
        self, job_id: str = "", *, user_id: str = "", token: str = ""
    ) -> AsyncGenerator[pb.WatchProgressResponse, None]:
        """
        Yield a job's events up to the terminal one; give *job_id*, or *user_id* for their newest job.

        The stream reconnects and resumes by itself, on any server. Rows that are older than one that was yielded are
        left out, and so are heartbeats.

        Raises:
            errors.ClientError: The watch is refused, or no server answered for `Options.patience` seconds.
        """
        place = policy.Resume(time.monotonic(), self._options.patience, token)
        events = self._follow("WatchProgress", place, lambda: place.request(job_id, user_id))
        async with contextlib.aclosing(events):
            async for event in events:
                yield event

    async def watch_index(self, user_id: str, *, token: str = "") -> AsyncGenerator[pb.WatchIndexResponse, None]:
        """
        Yield what a user may see, as it changes, without an end; `IndexState.apply` keeps it.

        The stream reconnects and resumes by itself, on any server, from *token* on, which is that of an earlier
        message; without one it begins with a snapshot.

        Raises:
            errors.ClientError: The watch is refused, or no server answered for `Options.patience` seconds. NOT_FOUND
                means that nothing is stored of the user: forget what was kept.
        """
        place = policy.Resume(time.monotonic(), self._options.patience, token)
        events = self._follow("WatchIndex", place, lambda: place.index_request(user_id))
        async with contextlib.aclosing(events):
            async for event in events:
                yield event

    async def _follow(self, method: str, place: policy.Resume, request: Callable[[], Any]) -> AsyncGenerator[Any, None]:
        """Yield the messages of a stream that are for the caller, over any number of connections."""
        while not place.ended:
            failure = None
            call = None
            try:
                call = self._open(method, request(), policy.STREAM_DEADLINE)
                while (message := await _next(call)) is not None:
                    if place.take(message, time.monotonic()):
                        yield message
                    if place.ended:
                        return
            except grpc.aio.AioRpcError as error:
                failure = error
            finally:
                if call is not None:
                    call.cancel()
            await asyncio.sleep(place.delay(failure, time.monotonic()))

    async def guilds(self, user_id: str, **fields: Any) -> AsyncIterator[pb.Guild]:  # noqa: ANN401 -- fields of the request
        """Yield a user's guilds of all pages, most important first."""
        async for row in self._rows(
            self.api.ListGuilds, pb.ListGuildsRequest(user_id=user_id, page_size=200, **fields), "guilds"
        ):
            yield row

    async def channels(self, user_id: str, **fields: Any) -> AsyncIterator[pb.Channel]:  # noqa: ANN401 -- as above
        """Yield the channels that a user may see, of all pages; *fields* are those of ListChannelsRequest."""
        async for row in self._rows(
            self.api.ListChannels, pb.ListChannelsRequest(user_id=user_id, page_size=500, **fields), "channels"
        ):
            yield row

    async def jobs(self, user_id: str) -> AsyncIterator[pb.Job]:
        """Yield a user's jobs, newest first."""
        async for row in self._rows(self.api.ListJobs, pb.ListJobsRequest(user_id=user_id, page_size=100), "jobs"):
            yield row

    @staticmethod
    async def _rows(method: Any, request: Any, field: str) -> AsyncIterator[Any]:  # noqa: ANN401 -- any paged method
        while True:
            page = await method(request)
            for row in getattr(page, field):
                yield row
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def _call(self, method: str, request: Any) -> Any:  # noqa: ANN401 -- any method
        request = policy.with_request_id(request)
        repeats = policy.Repeats(time.monotonic(), self._options.retry_for)
        while True:
            try:
                return await self._open(method, request, policy.deadline_of(request, self._options.deadline))
            except grpc.aio.AioRpcError as error:
                delay = repeats.delay(error, time.monotonic())
            await asyncio.sleep(delay)

    def _open(self, method: str, request: Any, timeout: float) -> Any:  # noqa: ANN401 -- any method
        return getattr(self._current_stub(), method)(request, timeout=timeout, metadata=self._secrets.metadata())

    def _current_stub(self) -> Any:  # noqa: ANN401 -- its async type exists for type checkers only
        """Return the stub; one on a new channel when a certificate has changed."""
        stamp = self._secrets.tls_stamp()
        if self._channel is not None and stamp == self._stamp:
            return self._stub
        wanted = options.channel_options(self._options)
        try:
            credentials = self._secrets.channel_credentials()
        except OSError:
            if self._channel is None:
                raise
            return self._stub
        replaced, self._stamp = self._channel, stamp
        if credentials is None:
            self._channel = grpc.aio.insecure_channel(self._options.address, options=wanted)
        else:
            self._channel = grpc.aio.secure_channel(self._options.address, credentials, options=wanted)
        if replaced is not None:
            task = asyncio.ensure_future(replaced.close(CLOSING))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        self._stub = pb_grpc.IndexerServiceStub(self._channel)
        return self._stub


class _Api:
    """Calls methods by name."""

    def __init__(self, call: Callable[[str, Any], Awaitable[Any]]) -> None:
        self._call = call

    def __getattr__(self, method: str) -> Callable[[Any], Awaitable[Any]]:
        return lambda request: self._call(method, request)


async def _next(call: Any) -> Any:  # noqa: ANN401 -- any stream
    """Return the next message; None when the stream has ended or was silent for too long."""
    try:
        async with asyncio.timeout(policy.SILENCE):
            message = await call.read()
    except TimeoutError:
        return None
    return None if message is grpc.aio.EOF else message  # type: ignore[attr-defined]  # missing in the stubs
