"""Stacks with indexed users and without effective limits."""

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent import futures
from typing import Any, TypeAlias

import grpc
from google.protobuf import duration_pb2

from devstack import stack
from devstack.simulator import routes
from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc

OPEN = "5000/1"
"""A limit that is never reached."""
OPEN_ROUTES = [part for route in routes.ROUTES for part in ("--route-limit", f"{route}={OPEN}")]
WAIT = 60
"""Seconds of one WaitJob call, the most that the API allows."""
WAITS = 5
Stub: TypeAlias = Any
"""The generated stub, of blocking or of asyncio's calls."""


class NotIndexed(Exception):
    """A user could not be indexed."""


def options(
    users: int, guilds_per_user: int, simulator: Sequence[str], environment: Mapping[str, str]
) -> stack.Options:
    """Return the options of a stack without effective limits; the environment is that of the service."""
    return stack.Options(
        users=users,
        guilds_per_user=guilds_per_user,
        latency="none",
        simulator=("--global-limit", OPEN, "--user-limit", OPEN, *OPEN_ROUTES, *simulator),
        environment={"GLOBAL_BUDGET": OPEN, "USER_BUDGET": OPEN},
        service_environment=environment,
    )


@contextlib.contextmanager
def indexed(wanted: stack.Options) -> Iterator[stack.Stack]:
    """
    Start a stack and index its users.

    Raises:
        NotIndexed: A job did not succeed.
    """
    with stack.Stack(wanted) as running:
        running.put_credentials()
        with grpc.insecure_channel(running.address, options=[("grpc.enable_http_proxy", 0)]) as channel:
            stub: Stub = pb_grpc.IndexerServiceStub(channel)
            jobs = [stub.StartIndexing(pb.StartIndexingRequest(user_id=user.id)).job for user in running.users]
            for job in jobs:
                _wait(stub, job.job_id)
        yield running


@contextlib.contextmanager
def indexing(running: stack.Stack, user_id: str) -> Iterator[Sequence[str]]:
    """Index a user again and again until the block ends; yields the list of the jobs that have ended."""
    ended, stop = list[str](), threading.Event()

    def index() -> None:
        with grpc.insecure_channel(running.address, options=[("grpc.enable_http_proxy", 0)]) as channel:
            stub: Stub = pb_grpc.IndexerServiceStub(channel)
            while not stop.is_set():
                job = stub.StartIndexing(pb.StartIndexingRequest(user_id=user_id, force=True)).job
                _wait(stub, job.job_id)
                ended.append(job.job_id)

    with futures.ThreadPoolExecutor(1) as pool:
        task = pool.submit(index)
        try:
            yield ended
        finally:
            stop.set()
            task.result()


def _wait(stub: Stub, job_id: str) -> None:
    request = pb.WaitJobRequest(job_id=job_id, wait=duration_pb2.Duration(seconds=WAIT))
    job = pb.Job()
    for _ in range(WAITS):
        job = stub.WaitJob(request).job
        if job.state != pb.JOB_STATE_RUNNING:
            break
    if job.state != pb.JOB_STATE_SUCCEEDED:
        raise NotIndexed(f"job {job_id} is {pb.JobState.Name(job.state)}")
