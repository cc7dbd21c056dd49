"""Callers that retry: they start jobs, and watch each to its end over broken connections."""

import concurrent.futures
import dataclasses
import json
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import grpc
from google.protobuf import duration_pb2

from devstack import stack
from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc

TIMEOUT = 180.0
"""Seconds until a watcher gives up, which fails the drill."""
PAUSE = 0.1
RETRYABLE = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNKNOWN}
"""Status codes of a call whose server ends; a reset connection may be UNKNOWN."""


@dataclasses.dataclass(frozen=True, slots=True)
class Watched:
    """The result of a watch: the job's final state, and how often its stream broke."""

    state: str
    breaks: int
    snapshots: int


def stub(running: stack.Stack, number: int) -> tuple[grpc.Channel, pb_grpc.IndexerServiceStub]:
    """Return a new connection to one of the services."""
    channel = grpc.insecure_channel(running.addresses[number % len(running.addresses)])
    return channel, pb_grpc.IndexerServiceStub(channel)


def start(running: stack.Stack, user_id: str, *, force: bool) -> str:
    """Start or join a user's job at any service that answers; returns its id."""
    request = pb.StartIndexingRequest(user_id=user_id, wait=duration_pb2.Duration(), force=force)
    for attempt in _attempts():
        channel, api = stub(running, attempt)
        with channel:
            try:
                return api.StartIndexing(request, timeout=TIMEOUT).job.job_id
            except grpc.RpcError as problem:
                _raise_unless_retryable(problem)
    raise TimeoutError(f"no service starts a job for user {user_id}")


def follow(running: stack.Stack, job_id: str, first: int = 0) -> Watched:
    """Watch a job to its end, resuming at the next service each time the stream ends."""
    token, snapshots = "", 0
    for attempt in _attempts():
        channel, api = stub(running, first + attempt)
        with channel:
            request = pb.WatchProgressRequest(job_id=job_id, resume_token=token)
            try:
                for event in api.WatchProgress(request, timeout=TIMEOUT):
                    token = event.resume_token
                    snapshots += event.HasField("snapshot_end")
                    if event.HasField("terminal"):
                        return Watched(pb.JobState.Name(event.terminal.job.state), attempt, snapshots)
            except grpc.RpcError as problem:
                _raise_unless_retryable(problem)
    return Watched("NEVER_SEEN", -1, snapshots)


def start_all(running: stack.Stack, *, force: bool = False) -> list[str]:
    """Start a job for every user at once; returns their ids."""
    with concurrent.futures.ThreadPoolExecutor(len(running.users)) as pool:
        return list(pool.map(lambda user: start(running, user.id, force=force), running.users))


def ask(running: stack.Stack, page: str) -> Any:  # noqa: ANN401 -- any JSON
    """Return the response of a control endpoint of the simulator."""
    with urllib.request.urlopen(f"{running.simulator_url}/_sim/{page}", timeout=10) as answer:  # noqa: S310 -- loopback
        return json.load(answer)


def _attempts() -> Iterator[int]:
    until, attempt = time.monotonic() + TIMEOUT, 0
    while time.monotonic() < until:
        yield attempt
        attempt += 1
        time.sleep(PAUSE)


def _raise_unless_retryable(problem: grpc.RpcError) -> None:
    if problem.code() not in RETRYABLE:
        raise problem
