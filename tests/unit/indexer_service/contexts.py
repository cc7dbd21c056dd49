"""The context of a call, without a server."""

import asyncio
import contextlib
from typing import Any

import grpc
import grpc.aio
from google.rpc import error_details_pb2, status_pb2

from indexer_service.v1 import indexer_pb2 as pb


class Context:
    """
    Stands for gRPC's context, and records what the service does with it.

    Attributes:
        remaining: Seconds until the call's deadline, None when it has none.
        metadata: The caller's metadata.
        trailing: Metadata at the end of the response.
        written: Messages of a stream.
        answer: What the handler returned.
        status: Status that the call was aborted with.
        ends: How often it was aborted.
    """

    def __init__(self, *, remaining: float | None = None, stream_of: Any = pb.WatchProgressResponse) -> None:  # noqa: ANN401 -- a message class
        self.remaining = remaining
        self._stream_of = stream_of
        self.metadata: tuple[tuple[str, str], ...] = ()
        self.trailing: tuple[tuple[str, str], ...] = ()
        self.written: list[Any] = []
        self.answer: object = None
        self.status: status_pb2.Status | None = None
        self.ends = 0

    def time_remaining(self) -> float | None:
        """Return the seconds until the deadline."""
        return self.remaining

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        """Return the caller's metadata."""
        return self.metadata

    def set_trailing_metadata(self, metadata: tuple[tuple[str, str], ...]) -> None:
        """Record the metadata."""
        self.trailing = metadata

    def trailing_metadata(self) -> tuple[tuple[str, str], ...]:
        """Return the metadata at the end of the response."""
        return self.trailing

    def set_code(self, code: grpc.StatusCode) -> None:
        """Ignore the code of a missing method: generated code then raises NotImplementedError."""

    def set_details(self, details: str) -> None:
        """Ignore the details of a missing method."""

    async def write(self, message: object) -> None:
        """Record a message of a stream, which may be serialized."""
        self.written.append(self._stream_of.FromString(message) if isinstance(message, bytes) else message)

    async def abort_with_status(self, status: Any) -> None:  # noqa: ANN401 -- gRPC's own
        """Record the status and abort the call."""
        self.ends += 1
        packed = dict(status.trailing_metadata)["grpc-status-details-bin"]
        self.status = status_pb2.Status.FromString(packed)
        assert self.status.code == status.code.value[0]
        assert self.status.message == status.details
        raise grpc.aio.AbortError

    def detail(self, kind: type[Any]) -> Any:  # noqa: ANN401 -- a message of that kind
        """Return the status' detail of that kind."""
        assert self.status is not None
        for packed in self.status.details:
            found = kind()
            if packed.Unpack(found):
                return found
        raise AssertionError(f"no {kind.__name__}")

    @property
    def reason(self) -> str:
        """The reason in the status' ErrorInfo."""
        return str(self.detail(error_details_pb2.ErrorInfo).reason)


async def open_stream(service: Any, request: pb.WatchIndexRequest, *, seconds: float = 1.0) -> Context:  # noqa: ANN401 -- the servicer, or a stand-in
    """Watch an index for some seconds of a clockwork loop; returns the context with the messages."""
    context = Context(stream_of=pb.WatchIndexResponse)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await service.WatchIndex(request, context)
    return context
