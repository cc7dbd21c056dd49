"""The running product in a failover: calls go on after the hold, no limit is exceeded, and every job succeeds."""

import concurrent.futures
import contextlib
import json
import time
import urllib.request
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf import duration_pb2

from devstack import stack as devstack
from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc
from tests.failover import redis_servers

HOLD = 7.0
LONG_HOLD = 15.0
"""
For a failover on command: the longest window of the simulator's routes (10 s), the longest call and 2 s.

Sentinel leaves the old primary writable for ten seconds. Processes leave it within two, when the Sentinels name the new
one, but what it granted meanwhile is not in the new one's state.
"""
SHARE = 0.25
"""Share of the guilds that are fetched before the failover."""
SLACK = 4.0
"""Seconds beyond the hold; half a second on an idle machine, more under load."""
SENTINEL = 3.0
"""Seconds from the promotion until the Sentinels announce it, twice what it takes."""


def options(url: str, hold: float, users: int = 8) -> devstack.Options:
    """Return a fleet whose jobs take half a minute."""
    environment = {
        "REDIS_URL": url,
        "LIMITER_HOLD": str(hold),
        "USER_BUDGET": "10/1",
        "INDEXING_LIST_MAX_AGE": "0",
        "DISCORD_TIMEOUT": "3",
        "INDEXING_TURN_LEASE": "30",
    }
    simulator = ("--user-limit", "10/1", "--guilds", "320")
    return devstack.Options(
        users=users,
        workers=3,
        guilds_per_user=40,
        latency="20-60",
        simulator=simulator,
        environment=environment,
    )


def ask(running: devstack.Stack, page: str) -> Any:  # noqa: ANN401 -- any JSON
    """Return a page of the simulator's control endpoints."""
    with urllib.request.urlopen(f"{running.simulator_url}/_sim/{page}", timeout=10) as answer:  # noqa: S310 -- loopback
        return json.load(answer)


def start(running: devstack.Stack, user: int) -> str:
    """Start a job without waiting for results; returns its id."""
    with grpc.insecure_channel(running.address) as channel:
        request = pb.StartIndexingRequest(user_id=running.users[user].id, wait=duration_pb2.Duration(), force=True)
        return str(pb_grpc.IndexerServiceStub(channel).StartIndexing(request, timeout=30).job.job_id)


def end_of(running: devstack.Stack, job_id: str) -> pb.Job:
    """Wait for the end of a job, whatever the service answers meanwhile."""
    deadline = time.monotonic() + 120.0
    with grpc.insecure_channel(running.address) as channel:
        api = pb_grpc.IndexerServiceStub(channel)
        while True:
            with contextlib.suppress(grpc.RpcError):
                job = api.WaitJob(pb.WaitJobRequest(job_id=job_id, wait={"seconds": 20}), timeout=30).job
                if job.HasField("end_time"):
                    return job
            assert time.monotonic() < deadline, f"{job_id} does not end"
            time.sleep(0.2)


def play(url: str, pair: redis_servers.Pair, fail_over: Callable[[], None], hold: float = HOLD) -> dict[str, Any]:
    """Fail over in the middle of all jobs; returns what is measured, and checks what must hold in each shape."""
    with devstack.Stack(options(url, hold)) as running:
        running.put_credentials()
        time.sleep(hold)
        jobs = [start(running, user) for user in range(len(running.users))]
        redis_servers.wait_for(lambda: ask(running, "stats")["channel_fetches"] >= SHARE * 320, 60.0)
        pair.watch_promotion()
        fail_over()
        failed_over = time.monotonic()
        redis_servers.wait_for(lambda: pair.promoted_at, 60.0)
        stats = ask(running, "stats")
        # The simulator's clock is another process's.
        promoted = stats["now"] - (time.monotonic() - pair.promoted_at)
        began = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(len(jobs)) as pool:
            ended = list(pool.map(lambda job_id: end_of(running, job_id), jobs))
        stats = ask(running, "stats?log=1")
        logs = "".join(path.read_text(errors="replace") for path in running.logs.glob("*.log"))
    arrivals = [at for at, *_ in stats["log"]]
    before = max(at for at in arrivals if at < promoted + hold / 2)
    pause = min((at - promoted for at in arrivals if at > promoted + hold / 2), default=float("inf"))
    assert {pb.JobState.Name(job.state) for job in ended} == {"JOB_STATE_SUCCEEDED"}
    refused = {key: value for key, value in stats.items() if key.startswith("http_429")}
    over = {kind: counts for kind, counts in stats["would_be_rejections"].items() if sum(counts.values())}
    refusals = [(round(at - promoted, 2), *rest) for at, *rest in stats["log"] if 429 in rest]
    assert not stats["http_429"], (refused, over, refusals)
    assert not over
    assert "found a bug" not in logs
    return {
        "calls stop after": round(before - promoted, 2),
        "calls go on after": round(pause, 2),
        "fetched twice": stats["duplicate_guild_fetches"],
        "all ended after": round(time.monotonic() - began, 1),
        "promotion after": round(max(0.0, pair.promoted_at - failed_over), 2),
    }


@pytest.mark.timeout(240)
@pytest.mark.parametrize("cut", [False, True], ids=["kept", "cut"])
def test_calls_go_on_after_the_hold_when_the_address_moves(
    stack: contextlib.ExitStack,
    capsys: pytest.CaptureFixture[str],
    cut: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """No process is restarted, and the hold lasts once."""
    pair = redis_servers.Pair(stack)
    address = redis_servers.Address(pair.ports[0])
    stack.callback(address.close)

    found = play(address.url, pair, lambda: pair.promote(address, cut=cut))

    with capsys.disabled():
        print(f"\n  address moves, {'cut' if cut else 'kept'}: {found}", end="", flush=True)  # noqa: T201 -- measured
    assert HOLD - 0.2 <= found["calls go on after"] < HOLD + SLACK
    assert found["fetched twice"] <= 2


@pytest.mark.timeout(240)
@pytest.mark.parametrize("kill", [True, False], ids=["killed", "on-command"])
def test_calls_go_on_after_the_hold_when_sentinel_fails_over(
    stack: contextlib.ExitStack,
    capsys: pytest.CaptureFixture[str],
    kill: bool,  # noqa: FBT001 -- a parameter
) -> None:
    """Turns that could not be enqueued go on when Redis is back, not at the next sweep, 15 s later."""
    pair = redis_servers.Pair(stack)
    url = pair.sentinels()

    hold = HOLD if kill else LONG_HOLD
    found = play(url, pair, pair.kill_primary if kill else pair.fail_over, hold)

    with capsys.disabled():
        print(f"\n  Sentinel, {'kill -9' if kill else 'on command'}: {found}", end="", flush=True)  # noqa: T201 -- measured
    assert found["calls stop after"] < SENTINEL
    assert hold - 0.2 <= found["calls go on after"] < hold + SENTINEL + SLACK
    # Killed in the middle, Redis answers no more to those that have just fetched.
    assert found["fetched twice"] <= 8
