"""
What a client does about errors, without input and output: when a call is repeated, and how a watch continues.

Every call may be repeated: those that change something carry a request id, which makes the service answer a repetition
with the first response.
"""

import random
import uuid
from typing import Any

import grpc
from google.protobuf import duration_pb2

from indexer_client import errors
from indexer_service.v1 import indexer_pb2 as pb

RETRYABLE = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED}
STREAM_RETRYABLE = {*RETRYABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.DEADLINE_EXCEEDED}
FIRST_DELAY, LONGEST_DELAY = 0.1, 5.0
HEARTBEAT = 15
SILENCE = 3.0 * HEARTBEAT
"""Seconds without any message after which a stream counts as lost."""
STREAM_DEADLINE = 3_600.0
WITHOUT_PROGRESS = {"snapshot", "snapshot_end", "reset", "change", "going_away", None}
"""Events after which the next stream may begin at the same place: a server may send them and break every time."""
JITTER = random.Random()  # noqa: S311 -- not for secrets


def with_request_id(request: Any) -> Any:  # noqa: ANN401 -- any request
    """Return the request with a request id, if it takes one and has none."""
    if "request_id" in request.DESCRIPTOR.fields_by_name and not request.request_id:
        request.request_id = str(uuid.uuid4())
    return request


def deadline_of(request: Any, deadline: float) -> float:  # noqa: ANN401 -- any request
    """Return the deadline of a call: the time that it asks the service to wait comes on top."""
    if "wait" in request.DESCRIPTOR.fields_by_name and request.HasField("wait"):
        return float(deadline + request.wait.ToMilliseconds() / 1000)
    return deadline + (30.0 if isinstance(request, pb.WaitJobRequest) else 0.0)


class Repeats:
    """Decides for one call whether it is repeated. Times are seconds of a monotonic clock."""

    def __init__(self, now: float, retry_for: float) -> None:
        self._until = now + retry_for
        self._failures = 0

    def delay(self, error: Any, now: float) -> float:  # noqa: ANN401 -- gRPC's error
        """Return how long to wait before the next attempt. Raises the typed error when there is none."""
        asked = errors.retry_delay(error)
        wait = (asked or 0.0) + backoff(self._failures)
        hopeless = error.code() not in RETRYABLE or (
            asked is None and error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        )
        if hopeless or now + wait > self._until:
            raise errors.of_rpc_error(error) from error
        self._failures += 1
        return wait


class Resume:
    """
    The place of a watcher in a stream, over any number of connections.

    Attributes:
        token: Where the next stream continues; empty for the beginning.
        ended: Whether the terminal message was seen.
    """

    def __init__(self, now: float, patience: float, token: str = "") -> None:
        self.token = token
        self.ended = False
        self._patience = patience
        self._heard_at = now
        self._failures = 0
        self._leaving = False
        self._revisions: dict[str, int] = {}

    def take(self, message: Any, now: float) -> bool:  # noqa: ANN401 -- of any stream
        """Note a message; returns whether it is for the caller: not heartbeats, goodbyes and old rows."""
        self.token = message.resume_token or self.token
        event = message.WhichOneof("event")
        self._leaving = event == "going_away"
        if event not in WITHOUT_PROGRESS:
            self._failures, self._heard_at = 0, now
        if event == "guild":
            return self._is_new(message.guild)
        if event == "snapshot":
            for row in message.snapshot.guilds:
                self._is_new(row)
        self.ended = event == "terminal"
        return event not in {"going_away", "heartbeat", None}

    def _is_new(self, row: pb.JobGuild) -> bool:
        known = self._revisions.get(row.guild_id, -1)
        self._revisions[row.guild_id] = max(known, row.revision)
        return row.revision > known

    def delay(self, error: Any, now: float) -> float:  # noqa: ANN401 -- gRPC's error or None
        """Return how long to wait before the next stream. Raises the typed error when there is none."""
        failures, self._failures = self._failures, self._failures + 1
        if self._leaving and not failures:
            return 0.0
        asked = errors.retry_delay(error) if error is not None else None
        wait = (asked or 0.0) + backoff(failures)
        if error is not None and error.code() not in STREAM_RETRYABLE:
            raise errors.of_rpc_error(error) from error
        if now - self._heard_at > self._patience:
            if error is not None:
                raise errors.of_rpc_error(error) from error
            raise errors.StreamLost(grpc.StatusCode.UNAVAILABLE, "the service keeps closing the stream")
        return wait

    def request(self, job_id: str, user_id: str) -> pb.WatchProgressRequest:
        """Return the request of the next stream."""
        heartbeat = duration_pb2.Duration(seconds=HEARTBEAT)
        return pb.WatchProgressRequest(job_id=job_id, user_id=user_id, resume_token=self.token, heartbeat=heartbeat)

    def index_request(self, user_id: str) -> pb.WatchIndexRequest:
        """Return the request of the next stream of what a user may see."""
        heartbeat = duration_pb2.Duration(seconds=HEARTBEAT)
        return pb.WatchIndexRequest(user_id=user_id, resume_token=self.token, heartbeat=heartbeat)


def backoff(failures: int) -> float:
    """Return a delay with jitter that grows with the failures in a row."""
    ceiling = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(failures, 30))
    return JITTER.uniform(ceiling / 2, ceiling)
