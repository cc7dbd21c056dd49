"""A stack as used by tests: its services work, and its programs can be killed and restarted."""

import contextlib
import io
import re
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pymongo
import pytest
import redis
from rich import console

from devstack import demo, probes, stack, supervisor
from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc
from tests.unit.devstack import stack_processes

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc"),
    pytest.mark.xdist_group("stack"),
]
TIMEOUT = 30.0


@pytest.fixture(scope="module")
def running() -> Iterator[stack.Stack]:
    """A stack of two services and a worker."""
    options = stack.Options(
        services=2,
        guilds_per_user=4,
        latency="5-20",
        simulator=("--user-limit", "40/1"),
        environment={"USER_BUDGET": "40/1"},
    )
    with stack.Stack(options) as started:
        started.put_credentials()
        yield started


def index(address: str, user_id: str) -> pb.Job:
    """Index a user through the service at *address*, retrying UNAVAILABLE; returns the ended job."""
    deadline = time.monotonic() + TIMEOUT
    request = pb.StartIndexingRequest(user_id=user_id, force=True)
    while True:
        try:
            with grpc.insecure_channel(address) as channel:
                stub = pb_grpc.IndexerServiceStub(channel)
                job_id = stub.StartIndexing(request, timeout=TIMEOUT).job.job_id
                *_, last = stub.WatchProgress(pb.WatchProgressRequest(job_id=job_id), timeout=TIMEOUT)
                return last.terminal.job
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE or time.monotonic() > deadline:
                raise


def test_each_service_works_when_there_are_two(running: stack.Stack) -> None:
    """All services of a stack serve the same users."""
    states = [index(address, running.users[0].id).state for address in running.addresses]

    assert states == [pb.JOB_STATE_SUCCEEDED] * 2


def test_acknowledged_data_is_kept_when_a_killed_server_is_restarted(running: stack.Stack) -> None:
    """Valkey and MongoDB return on the same ports with their data, and the stack has not failed."""
    with contextlib.closing(redis.Redis.from_url(running.redis_url)) as client:
        client.set("kept", "yes")
        mongo = pymongo.MongoClient[dict[str, Any]](running.mongodb_url)
        mongo.kept.rows.insert_one({"_id": "yes"})
        for name in ("valkey", "mongodb"):
            running.kill(name)
            running.restart(name)

        assert client.get("kept") == b"yes"
        assert mongo.kept.rows.count_documents({"_id": "yes"}) == 1
        mongo.close()
    assert running.failure is None


def test_the_stack_keeps_running_when_a_worker_is_killed(running: stack.Stack) -> None:
    """The worker is restarted on the same metrics port."""
    url = running.metrics_urls["worker-1"].replace("/metrics", "/readyz")

    running.signal("worker-1", signal.SIGKILL)
    while probes.page_is_ok(url):
        pass
    while not probes.page_is_ok(url):
        assert running.failure is None

    assert index(running.address, running.users[0].id).state == pb.JOB_STATE_SUCCEEDED


def test_no_secret_is_in_a_command_line_when_the_stack_runs(running: stack.Stack) -> None:
    """The command lines of all processes contain no token and no key."""
    commands = "".join(stack_processes.command_lines(str(running.logs.parent)))

    assert "indexer_service" in commands
    assert running.users[0].token not in commands
    assert stack.SIMULATED_BOT_TOKEN not in commands
    assert not re.search(r"[A-Za-z0-9_-]{43}=", commands)


def test_the_simulators_message_is_shown_when_a_fault_rule_is_invalid(running: stack.Stack) -> None:
    """The demo fails before it indexes anything."""
    with pytest.raises(supervisor.StackFailed, match=r"--fault: the simulator rejects .*flood.*Invalid enum value"):
        demo.run_demo(running, console.Console(file=io.StringIO()), ['{"kind": "flood"}'])
