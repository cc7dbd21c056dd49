"""Jobs and watchers when Redis loses its data or a process is killed."""

import concurrent.futures
import signal
from collections.abc import Iterator

import grpc
import pytest
import redis
from google.protobuf import duration_pb2

from devstack import stack
from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc
from tests.system import conftest

DEADLINE = 60.0
WORKERS = ("worker-1", "worker-2")


@pytest.fixture
def fleet(request: pytest.FixtureRequest) -> Iterator[stack.Stack]:
    """Twenty users on two services and two workers; small budgets make jobs take seconds. Its parameter is the hold."""
    options = stack.Options(
        users=20,
        services=2,
        workers=2,
        guilds_per_user=10,
        latency="20-60",
        simulator=("--user-limit", "10/1", "--guilds", "40"),
        environment={**conftest.FAST, "USER_BUDGET": "10/1", "LIMITER_HOLD": getattr(request, "param", "1.5")},
    )
    with stack.Stack(options) as started:
        started.put_credentials()
        yield started


def start_all(fleet: stack.Stack) -> list[str]:
    """Start a job for every user; returns their ids."""
    with grpc.insecure_channel(fleet.address) as channel:
        api = pb_grpc.IndexerServiceStub(channel)
        none = duration_pb2.Duration()
        requests = [pb.StartIndexingRequest(user_id=user.id, wait=none) for user in fleet.users]
        return [api.StartIndexing(request, timeout=DEADLINE).job.job_id for request in requests]


def follow(fleet: stack.Stack, job_id: str) -> pb.Job:
    """Watch a job to its end, resuming with the last token at the next service when a stream breaks."""
    token = ""
    for attempt in range(50):
        with grpc.insecure_channel(fleet.addresses[attempt % 2]) as channel:
            request = pb.WatchProgressRequest(job_id=job_id, resume_token=token)
            try:
                for event in pb_grpc.IndexerServiceStub(channel).WatchProgress(request, timeout=DEADLINE):
                    token = event.resume_token
                    if event.WhichOneof("event") == "terminal":
                        return event.terminal.job
            except grpc.RpcError as problem:
                if problem.code() not in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}:
                    raise
    raise AssertionError("no stream reached the terminal event")


def ends(fleet: stack.Stack, jobs: list[str]) -> list[pb.Job]:
    """Watch all jobs to their ends."""
    with concurrent.futures.ThreadPoolExecutor(len(jobs)) as pool:
        return list(pool.map(lambda job_id: follow(fleet, job_id), jobs))


def first_progress(fleet: stack.Stack, job_id: str) -> None:
    """Wait until a guild of the job is indexed."""
    with grpc.insecure_channel(fleet.address) as channel:
        watch = pb_grpc.IndexerServiceStub(channel).WatchProgress(
            pb.WatchProgressRequest(job_id=job_id), timeout=DEADLINE
        )
        for event in watch:
            if event.guild.state == pb.GUILD_STATE_SUCCEEDED or event.HasField("terminal"):
                break


# The simulator counts the calls of most routes in windows of 10 s, and does not forget them with Redis.
@pytest.mark.parametrize("fleet", ["12"], indirect=True)
def test_jobs_complete_when_redis_loses_everything(fleet: stack.Stack) -> None:
    """After a FLUSHALL during the jobs, all jobs succeed, every watcher sees it, and Discord never answers 429."""
    jobs = start_all(fleet)
    first_progress(fleet, jobs[0])

    redis.Redis.from_url(fleet.redis_url).flushall()
    ended = ends(fleet, jobs)

    stats = conftest.Simulator(fleet.simulator_url).ask("stats")
    assert {job.state for job in ended} == {pb.JOB_STATE_SUCCEEDED}
    assert stats["http_429"] == 0
    assert stats["duplicate_guild_fetches"] == 0


@pytest.mark.parametrize("victim", ["worker-1", "service-1"])
def test_jobs_complete_when_a_process_is_killed(fleet: stack.Stack, victim: str) -> None:
    """After a SIGKILL without a restart, all jobs succeed and every watcher sees it."""
    jobs = start_all(fleet)
    first_progress(fleet, jobs[0])

    fleet.kill(victim)
    ended = ends(fleet, jobs)

    assert {job.state for job in ended} == {pb.JOB_STATE_SUCCEEDED}


def test_watchers_can_resume_elsewhere_when_a_service_drains(fleet: stack.Stack) -> None:
    """On SIGTERM a stream ends with `going_away` and a token, with which another service resumes."""
    # Stopped, so that no job ends before the service does.
    for worker in WORKERS:
        fleet.signal(worker, signal.SIGSTOP)
    jobs = start_all(fleet)
    with grpc.insecure_channel(fleet.address) as channel, concurrent.futures.ThreadPoolExecutor(1) as pool:
        request = pb.WatchProgressRequest(job_id=jobs[0])
        stream = pb_grpc.IndexerServiceStub(channel).WatchProgress(request, timeout=DEADLINE)
        next(iter(stream))
        ending = pool.submit(fleet.terminate, "service-1")
        *_, last = stream
        assert ending.result() == 0

    for worker in WORKERS:
        fleet.signal(worker, signal.SIGCONT)
    with grpc.insecure_channel(fleet.addresses[1]) as channel:
        request = pb.WatchProgressRequest(job_id=jobs[0], resume_token=last.resume_token)
        events = list(pb_grpc.IndexerServiceStub(channel).WatchProgress(request, timeout=DEADLINE))

    assert last.going_away.reason == pb.GOING_AWAY_REASON_DRAINING
    # A snapshot with a reason would mean that events were lost.
    assert {event.snapshot.reason for event in events if event.HasField("snapshot")} <= {pb.SNAPSHOT_REASON_UNSPECIFIED}
    assert events[-1].terminal.job.state == pb.JOB_STATE_SUCCEEDED
