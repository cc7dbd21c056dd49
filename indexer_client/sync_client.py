"""The client for programs without asyncio. It may be used by several threads."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Self, cast

import grpc

from indexer_client import errors, options, policy
from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc


class Client:
    """
    A connection to the service. Use it as a context manager, one for the whole process.

    Attributes:
        api: All methods as generated, with token, deadline, retries, request ids and typed errors, e.g.
            `client.api.GetJob(pb.GetJobRequest(job_id=...))`. Each raises `errors.ClientError`.
    """

    def __init__(self, address: str = "", *, settings: options.Options | None = None) -> None:
        """Connect to *address* without TLS, or as *settings* say. The connection is made at the first call."""
        self._options = settings or options.Options(address)
        self._secrets = options.Secrets(self._options)
        self._lock = threading.Lock()
        self._channel: grpc.Channel | None = None
        self._stub: pb_grpc.IndexerServiceStub | None = None
        self._stamp: object = None
        self._replaced: list[grpc.Channel] = []
        self.api = cast("pb_grpc.IndexerServiceStub", _Api(self._call))

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        for channel in (self._channel, *self._replaced):
            if channel is not None:
                channel.close()

    def start_and_wait(self, user_id: str, *, force: bool = False) -> pb.Job:
        """Index a user and return their job when it has ended."""
        started = self.api.StartIndexing(pb.StartIndexingRequest(user_id=user_id, force=force))
        if started.job.HasField("end_time"):
            return started.job
        for event in self.watch(started.job.job_id, token=started.watch_token):
            if event.HasField("terminal"):
                return event.terminal.job
        raise errors.Unavailable(grpc.StatusCode.UNAVAILABLE, "the watch ended without an end of the job")

    def watch(self, job_id: str = "", *, user_id: str = "", token: str = "") -> Iterator[pb.WatchProgressResponse]:
        """
        Yield a job's events up to the terminal one; give *job_id*, or *user_id* for their newest job.

        The stream reconnects and resumes by itself, on any server. Rows that are older than one that was yielded are
        left out, and so are heartbeats.

        Raises:
            errors.ClientError: The watch is refused, or no server answered for `Options.patience` seconds.
        """
        place = policy.Resume(time.monotonic(), self._options.patience, token)
        return self._follow("WatchProgress", place, lambda: place.request(job_id, user_id))

    def watch_index(self, user_id: str, *, token: str = "") -> Iterator[pb.WatchIndexResponse]:
        """
        Yield what a user may see, as it changes, without an end; `IndexState.apply` keeps it.

        The stream reconnects and resumes by itself, on any server, from *token* on, which is that of an earlier
        message; without one it begins with a snapshot.

        Raises:
            errors.ClientError: The watch is refused, or no server answered for `Options.patience` seconds. NOT_FOUND
                means that nothing is stored of the user: forget what was kept.
        """
        place = policy.Resume(time.monotonic(), self._options.patience, token)
        return self._follow("WatchIndex", place, lambda: place.index_request(user_id))

    def _follow(self, method: str, place: policy.Resume, request: Callable[[], Any]) -> Iterator[Any]:
        """Yield the messages of a stream that are for the caller, over any number of connections."""
        while not place.ended:
            failure, call = None, None
            try:
                call = self._open(method, request(), policy.STREAM_DEADLINE)
                for message in call:
                    if place.take(message, time.monotonic()):
                        yield message
                    if place.ended:
                        return
            except grpc.RpcError as error:
                failure = error
            finally:
                if call is not None:
                    call.cancel()
            time.sleep(place.delay(failure, time.monotonic()))

    def guilds(self, user_id: str, **fields: Any) -> Iterator[pb.Guild]:  # noqa: ANN401 -- fields of the request
        """Yield a user's guilds of all pages, most important first."""
        request = pb.ListGuildsRequest(user_id=user_id, page_size=200, **fields)
        return self._rows(self.api.ListGuilds, request, "guilds")

    def channels(self, user_id: str, **fields: Any) -> Iterator[pb.Channel]:  # noqa: ANN401 -- as above
        """Yield the channels that a user may see, of all pages; *fields* are those of ListChannelsRequest."""
        request = pb.ListChannelsRequest(user_id=user_id, page_size=500, **fields)
        return self._rows(self.api.ListChannels, request, "channels")

    def jobs(self, user_id: str) -> Iterator[pb.Job]:
        """Yield a user's jobs, newest first."""
        return self._rows(self.api.ListJobs, pb.ListJobsRequest(user_id=user_id, page_size=100), "jobs")

    @staticmethod
    def _rows(method: Any, request: Any, field: str) -> Iterator[Any]:  # noqa: ANN401 -- any paged method
        while True:
            page = method(request)
            yield from getattr(page, field)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def _call(self, method: str, request: Any) -> Any:  # noqa: ANN401 -- any method
        request = policy.with_request_id(request)
        repeats = policy.Repeats(time.monotonic(), self._options.retry_for)
        while True:
            try:
                return self._open(method, request, policy.deadline_of(request, self._options.deadline))
            except grpc.RpcError as error:
                delay = repeats.delay(error, time.monotonic())
            time.sleep(delay)

    def _open(self, method: str, request: Any, timeout: float) -> Any:  # noqa: ANN401 -- any method
        return getattr(self._current_stub(), method)(request, timeout=timeout, metadata=self._secrets.metadata())

    def _current_stub(self) -> pb_grpc.IndexerServiceStub:
        """Return the stub; one on a new channel when a certificate has changed. The calls on the old one go on."""
        with self._lock:
            stamp = self._secrets.tls_stamp()
            if self._stub is not None and stamp == self._stamp:
                return self._stub
            wanted = options.channel_options(self._options)
            try:
                credentials = self._secrets.channel_credentials()
            except OSError:
                if self._stub is None:
                    raise
                return self._stub
            if self._channel is not None:
                # One renewal is far from the next: what still ran at the last one has long ended.
                while self._replaced:
                    self._replaced.pop().close()
                self._replaced.append(self._channel)
            self._stamp = stamp
            if credentials is None:
                self._channel = grpc.insecure_channel(self._options.address, options=wanted)
            else:
                self._channel = grpc.secure_channel(self._options.address, credentials, options=wanted)
            self._stub = pb_grpc.IndexerServiceStub(self._channel)
            return self._stub


class _Api:
    """Calls methods by name."""

    def __init__(self, call: Callable[[str, Any], Any]) -> None:
        self._call = call

    def __getattr__(self, method: str) -> Callable[[Any], Any]:
        return lambda request: self._call(method, request)
