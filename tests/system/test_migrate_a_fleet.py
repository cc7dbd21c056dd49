"""A fleet whose data are rows moves to documents while jobs run and users read, and drops the rows."""

import concurrent.futures
import os
import subprocess
import sys
import time

import grpc
import pytest

from devstack import stack
from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc
from tests.system import conftest

DEADLINE = 60.0
LONGEST = 150.0
"""Seconds for a migration on a busy machine; half a minute of them it waits for the processes."""


@pytest.mark.timeout(300)
def test_users_see_the_same_when_the_fleet_is_migrated() -> None:
    """Before, all the while, and after; jobs that run meanwhile succeed, and so does one after the rows are gone."""
    options = stack.Options(
        users=3,
        services=2,
        workers=2,
        guilds_per_user=6,
        latency="5-25",
        simulator=("--user-limit", "40/1", "--guilds", "10"),
        environment=conftest.FAST | {"MONGODB_SCHEMA": "rows"},
    )
    with stack.Stack(options) as fleet:
        fleet.put_credentials()
        assert {end.state for end in run_jobs(fleet, force=False)} == {pb.JOB_STATE_SUCCEEDED}
        before = pages(fleet)
        assert all(before.values())

        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            migrating, ends = pool.submit(run_command, fleet, "migrate"), []
            while not migrating.done():
                ends += run_jobs(fleet, force=True)
                assert pages(fleet) == before
        assert migrating.result().returncode == 0, migrating.result().stderr
        assert b"documents are in use" in migrating.result().stdout
        assert len(ends) > 3
        assert {end.state for end in ends} == {pb.JOB_STATE_SUCCEEDED}

        until = time.monotonic() + DEADLINE
        while (dropping := run_command(fleet, "migrate", "--drop-rows")).returncode and time.monotonic() < until:
            time.sleep(2.0)
        assert dropping.returncode == 0, dropping.stderr
        assert pages(fleet) == before
        assert {end.state for end in run_jobs(fleet, force=True)} == {pb.JOB_STATE_SUCCEEDED}
        assert pages(fleet) == before


def run_command(fleet: stack.Stack, *words: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command of the service beside the fleet."""
    servers = {"MONGODB_URL": fleet.mongodb_url, "MONGODB_DATABASE": fleet.database}
    return subprocess.run(
        [sys.executable, "-m", "indexer_service", *words],
        env={**os.environ, **servers},  # noqa: TID251 -- for another process
        check=False,
        capture_output=True,
        timeout=LONGEST,
    )


def run_jobs(fleet: stack.Stack, *, force: bool) -> list[pb.Job]:
    """Run a job for every user to its end, through one service and then the other."""
    ends = []
    for number, user in enumerate(fleet.users):
        with grpc.insecure_channel(fleet.addresses[number % 2]) as channel:
            api = pb_grpc.IndexerServiceStub(channel)
            started = api.StartIndexing(pb.StartIndexingRequest(user_id=user.id, force=force), timeout=DEADLINE)
            request = pb.WatchProgressRequest(job_id=started.job.job_id, resume_token=started.watch_token)
            *_, last = api.WatchProgress(request, timeout=DEADLINE)
            ends.append(last.terminal.job)
    return ends


def pages(fleet: stack.Stack) -> dict[str, list[tuple[str, str, str]]]:
    """Return the channels that each user sees, by either service."""
    shown = {}
    for user in fleet.users:
        found = []
        for address in fleet.addresses:
            with grpc.insecure_channel(address) as channel:
                request = pb.ListChannelsRequest(user_id=user.id, page_size=200)
                page = pb_grpc.IndexerServiceStub(channel).ListChannels(request, timeout=DEADLINE)
                found.append([(row.channel_id, row.guild_id, row.name) for row in page.channels])
        assert found[0] == found[1]
        shown[user.id] = found[0]
    return shown
