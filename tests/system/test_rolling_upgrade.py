"""A release replaces another pod by pod, so for a while both run on the same Redis and MongoDB."""

import io
import os
import pathlib
import subprocess
import sys
import tarfile

import grpc
import pytest

from devstack import stack
from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc
from tests.system import conftest

CHECKOUT = pathlib.Path(__file__).parents[2]
PACKAGES = {"worker": ("indexing", "workers"), "service": ("indexing", "indexer_service")}
"""What each process runs on."""
MARK = "\nimport pathlib\n\npathlib.Path(__file__).with_name('ran').touch()\n"


def git(*arguments: str) -> bytes:
    """Run git in the checkout; where there is no history the test is skipped, in CI it fails."""
    done = subprocess.run(["git", *arguments], cwd=CHECKOUT, check=False, capture_output=True, timeout=30)
    if done.returncode:
        ours = os.environ.get("CI") == "true"  # noqa: TID251 -- not a setting of the product
        (pytest.fail if ours else pytest.skip)(f"no release before this one to be had: git {arguments[0]} fails")
    return done.stdout


def before() -> str:
    """Return the latest release before this commit, or the last commit that landed while nothing is released."""
    return (git("tag", "--merged", "HEAD^", "--sort=-creatordate", "--list", "v*").decode().split() or ["HEAD^"])[0]


def unpack(packed: bytes, folder: pathlib.Path) -> None:
    """Unpack an archive that git made."""
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")


@pytest.fixture
def previous(tmp_path: pathlib.Path) -> pathlib.Path:
    """The code of the release before, which leaves a mark where it runs."""
    packages = {package for packages in PACKAGES.values() for package in packages}
    unpack(git("archive", before(), *packages), tmp_path)
    for package in packages:
        with (tmp_path / package / "__init__.py").open("a") as code:
            code.write(MARK)
    return tmp_path


@pytest.mark.parametrize("which", PACKAGES)
def test_a_process_of_the_release_before_serves_beside_new_ones(previous: pathlib.Path, which: str) -> None:
    """Each runs, reads and publishes what the other does: turns, documents, progress; whoever is replaced first."""
    # Without PYTHONSAFEPATH the current folder, the new code, would come first.
    old = {"PYTHONPATH": str(previous), "PYTHONSAFEPATH": "1"}
    options = stack.Options(
        users=2,
        guilds_per_user=5,
        latency="5-25",
        simulator=("--user-limit", "40/1"),
        environment=conftest.FAST,
        service_environment=old if which == "service" else {},
        worker_environment=old if which == "worker" else {},
    )
    with stack.Stack(options) as fleet:
        fleet.put_credentials()
        with grpc.insecure_channel(fleet.address) as channel:
            api = pb_grpc.IndexerServiceStub(channel)
            # Nothing at once: all guilds are left to the worker.
            requests = [pb.StartIndexingRequest(user_id=user.id, immediate_guilds=0) for user in fleet.users]
            started = [api.StartIndexing(request, timeout=30) for request in requests]
            ends = [followed(api, answer) for answer in started]

    assert all((previous / package / "ran").exists() for package in PACKAGES[which])
    assert all(answer.remaining for answer in started)
    assert {job.state for job in ends} == {pb.JOB_STATE_SUCCEEDED}
    assert all(job.progress.succeeded + job.progress.skipped == 5 for job in ends)


def test_the_api_takes_nothing_away_when_it_changes(tmp_path: pathlib.Path) -> None:
    """Callers of the release before are understood."""
    unpack(git("archive", before(), "proto", "buf.yaml"), tmp_path)

    buf = pathlib.Path(sys.executable).with_name("buf")
    done = subprocess.run([buf, "breaking", "--against", tmp_path], cwd=CHECKOUT, check=False, capture_output=True)

    assert done.stdout == b""
    assert done.returncode == 0


def followed(api: pb_grpc.IndexerServiceStub, started: pb.StartIndexingResponse) -> pb.Job:
    """Watch a job from its start to its end."""
    request = pb.WatchProgressRequest(job_id=started.job.job_id, resume_token=started.watch_token)
    *_, last = api.WatchProgress(request, timeout=60)
    return last.terminal.job
