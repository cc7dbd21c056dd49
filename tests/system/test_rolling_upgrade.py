"""During a rolling upgrade, processes of two releases share one Redis and one MongoDB."""

import os
import pathlib
from collections.abc import Callable

import grpc
import pytest

from devstack import stack
from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc
from tests import previous_release
from tests.system import conftest

PACKAGES = {"worker": ("indexing", "workers"), "service": ("indexing", "indexer_service")}
"""The packages that each process imports."""
MARKER = "\nimport pathlib\n\npathlib.Path(__file__).with_name('imported').touch()\n"
"""Code that leaves a file beside each old package that a process imports."""


@pytest.fixture
def release(tmp_path: pathlib.Path) -> Callable[..., pathlib.Path]:
    """Unpack paths of the previous release. Without history, skip the test on a laptop and fail it in CI."""

    def unpack(*paths: str) -> pathlib.Path:
        try:
            previous_release.unpack(tmp_path, *paths)
        except previous_release.NotAvailable as missing:
            ci = os.environ.get("CI") == "true"  # noqa: TID251 -- not a setting of the product
            (pytest.fail if ci else pytest.skip)(str(missing))
        return tmp_path

    return unpack


@pytest.fixture
def old_code(release: Callable[..., pathlib.Path]) -> pathlib.Path:
    """The packages of the previous release, with the marker appended to each `__init__.py`."""
    packages = {package for packages in PACKAGES.values() for package in packages}
    folder = release(*packages)
    for package in packages:
        with (folder / package / "__init__.py").open("a") as code:
            code.write(MARKER)
    return folder


@pytest.mark.parametrize("which", PACKAGES)
def test_jobs_succeed_when_one_process_runs_the_previous_release(old_code: pathlib.Path, which: str) -> None:
    """Old and new processes read each other's turns, documents and progress events, whichever is upgraded first."""
    # PYTHONSAFEPATH keeps the current directory, which holds the new code, out of sys.path.
    old = {"PYTHONPATH": str(old_code), "PYTHONSAFEPATH": "1"}
    options = stack.Options(
        users=2,
        guilds_per_user=5,
        latency="5-25",
        simulator=("--user-limit", "40/1"),
        # As docs/upgrade.md says: the data keep the form of the previous release until no process runs it.
        environment=conftest.FAST | {"MONGODB_SCHEMA": "rows"},
        service_environment=old if which == "service" else {},
        worker_environment=old if which == "worker" else {},
    )
    with stack.Stack(options) as fleet:
        fleet.put_credentials()
        with grpc.insecure_channel(fleet.address) as channel:
            api = pb_grpc.IndexerServiceStub(channel)
            # The service fetches no guild itself, so the worker fetches all of them.
            requests = [pb.StartIndexingRequest(user_id=user.id, immediate_guilds=0) for user in fleet.users]
            started = [api.StartIndexing(request, timeout=30) for request in requests]
            ends = [watched_to_end(api, answer) for answer in started]

    assert all((old_code / package / "imported").exists() for package in PACKAGES[which])
    assert all(answer.remaining for answer in started)
    assert {job.state for job in ends} == {pb.JOB_STATE_SUCCEEDED}
    assert all(job.progress.succeeded + job.progress.skipped == 5 for job in ends)


def watched_to_end(api: pb_grpc.IndexerServiceStub, started: pb.StartIndexingResponse) -> pb.Job:
    """Watch a job until it ends, and return it."""
    request = pb.WatchProgressRequest(job_id=started.job.job_id, resume_token=started.watch_token)
    *_, last = api.WatchProgress(request, timeout=60)
    return last.terminal.job
