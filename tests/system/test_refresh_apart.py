"""A separate process refreshes guilds, as on Kubernetes; jobs do not depend on it."""

import time
from collections.abc import Iterator

import grpc
import pymongo
import pytest

from devstack import stack
from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc

TIMEOUT = 30.0


@pytest.fixture(scope="module")
def running() -> Iterator[stack.Stack]:
    """A service, a worker that does not refresh, and the refresh process."""
    options = stack.Options(
        guilds_per_user=4,
        latency="5-20",
        refresh=True,
        simulator=("--user-limit", "40/1", "--without-bot", "0"),
        environment={"USER_BUDGET": "40/1", "INDEXING_REFRESH_INTERVAL": "1"},
    )
    with stack.Stack(options) as started:
        started.put_credentials()
        yield started


def index(running: stack.Stack) -> pb.Job:
    """Index the user in the worker; returns the job when it has ended."""
    with grpc.insecure_channel(running.address) as channel:
        api = pb_grpc.IndexerServiceStub(channel)
        request = pb.StartIndexingRequest(user_id=running.users[0].id, force=True, immediate_guilds=0)
        job = api.StartIndexing(request, timeout=TIMEOUT).job
        return api.WaitJob(pb.WaitJobRequest(job_id=job.job_id), timeout=TIMEOUT).job


def test_due_guilds_are_refreshed_when_no_worker_runs(running: stack.Stack) -> None:
    """The refresh process exits with 0 on SIGTERM, and jobs still succeed without it."""
    index(running)
    running.kill("worker-1")
    with pymongo.MongoClient[dict[str, float]](running.mongodb_url) as client:
        guilds = client[running.database]["guilds"]
        before = {row["_id"]: row["fetched_at"] for row in guilds.find({})}
        guilds.update_many({}, {"$set": {"next_refresh_at": 1.0}})
        deadline = time.monotonic() + TIMEOUT
        while any(row["fetched_at"] <= before[row["_id"]] for row in guilds.find({})):
            assert time.monotonic() < deadline
    code = running.terminate("refresh")
    running.restart("worker-1")

    job = index(running)

    assert len(before) == 4
    assert code == 0
    assert job.state == pb.JOB_STATE_SUCCEEDED
