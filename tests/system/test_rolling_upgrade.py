"""A release replaces another pod by pod, so for a while both run on the same Redis and MongoDB."""

import io
import pathlib
import subprocess
import sys
import tarfile

import grpc
import pytest

from indexer_service.embedded import stack
from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc
from tests.system import conftest

CHECKOUT = pathlib.Path(__file__).parents[2]
PACKAGES = ("indexing", "workers")
MARK = "\nimport pathlib\n\npathlib.Path(__file__).with_name('ran').touch()\n"


def git(*arguments: str) -> bytes:
    """Run git in the checkout; skips the test where there is no history."""
    done = subprocess.run(["git", *arguments], cwd=CHECKOUT, check=False, capture_output=True, timeout=30)
    if done.returncode:
        pytest.skip(f"no release before this one to be had: git {arguments[0]} fails")
    return done.stdout


def releases() -> list[str]:
    """Return the tags of the releases before this commit, the latest first."""
    return git("tag", "--merged", "HEAD^", "--sort=-creatordate", "--list", "v*").decode().split()


def unpack(packed: bytes, folder: pathlib.Path) -> None:
    """Unpack an archive that git made."""
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")


@pytest.fixture
def previous(tmp_path: pathlib.Path) -> pathlib.Path:
    """The code of the latest release, or of the last commit that landed while nothing is released."""
    unpack(git("archive", *[*releases(), "HEAD^"][:1], *PACKAGES), tmp_path)
    for package in PACKAGES:
        with (tmp_path / package / "__init__.py").open("a") as code:
            code.write(MARK)
    return tmp_path


def test_a_worker_of_the_release_before_serves_the_new_service(previous: pathlib.Path) -> None:
    """It runs the turns that the new service sends, and the new service reads all that it writes and publishes."""
    # Without PYTHONSAFEPATH the current folder, the new code, would come first.
    old = {"PYTHONPATH": str(previous), "PYTHONSAFEPATH": "1"}
    options = stack.Options(
        users=2,
        guilds_per_user=5,
        latency="5-25",
        simulator=("--user-limit", "40/1"),
        environment=conftest.FAST,
        worker_environment=old,
    )
    with stack.Stack(options) as fleet:
        fleet.put_credentials()
        with grpc.insecure_channel(fleet.address) as channel:
            api = pb_grpc.IndexerServiceStub(channel)
            # Nothing at once: all guilds are left to the worker.
            requests = [pb.StartIndexingRequest(user_id=user.id, immediate_guilds=0) for user in fleet.users]
            started = [api.StartIndexing(request, timeout=30) for request in requests]
            ends = [followed(api, answer) for answer in started]

    assert all((previous / package / "ran").exists() for package in PACKAGES)
    assert all(answer.remaining for answer in started)
    assert {job.state for job in ends} == {pb.JOB_STATE_SUCCEEDED}
    assert all(job.progress.succeeded + job.progress.skipped == 5 for job in ends)


def test_the_api_takes_nothing_away_when_something_was_released(tmp_path: pathlib.Path) -> None:
    """Callers of the release before are understood."""
    if not releases():
        pytest.skip("nothing is released yet")
    unpack(git("archive", releases()[0], "proto", "buf.yaml"), tmp_path)

    buf = pathlib.Path(sys.executable).with_name("buf")
    done = subprocess.run([buf, "breaking", "--against", tmp_path], cwd=CHECKOUT, check=False, capture_output=True)

    assert done.stdout == b""
    assert done.returncode == 0


def followed(api: pb_grpc.IndexerServiceStub, started: pb.StartIndexingResponse) -> pb.Job:
    """Watch a job from its start to its end."""
    request = pb.WatchProgressRequest(job_id=started.job.job_id, resume_token=started.watch_token)
    *_, last = api.WatchProgress(request, timeout=60)
    return last.terminal.job
