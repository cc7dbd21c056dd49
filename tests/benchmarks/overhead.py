"""
`make bench-overhead`: the cost of metrics and log lines, as a share of the CPU time per indexed guild.

Two processes, each with service and worker, index the same users on the same servers: one with telemetry, one without
(no metrics, no timing of Redis, MongoDB and calls, no bound fields, no log lines). They alternate, so that other load
of the machine affects both, and swap roles with every user, because one process is always a few percent slower than
another. No call waits for a permit: a waiting process uses some CPU, which would hide the difference.
"""

import argparse
import asyncio
import contextlib
import inspect
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import dramatiq
import grpc.aio
import redis.asyncio
import structlog
from dramatiq import middleware
from prometheus_client import metrics as client

from devstack import probes
from devstack import users as devstack_users
from devstack.simulator import routes
from indexer_service.interceptors import metrics, request_context
from indexer_service.server import app
from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc
from indexing import settings
from indexing.messaging import queue, redis_client
from indexing.store import database as store
from indexing.telemetry import logs, metric_types, tracing
from tests import servers
from tests.benchmarks import facts, report
from workers import worker

USERS, GUILDS = 100, 40
TARGET = 0.03
WIDE = "2000/1"
"""Budgets so large that no call waits for a permit."""
KINDS = ("without", "with")


def main(arguments: Sequence[str]) -> int:
    """Measure; returns the exit code."""
    parser = argparse.ArgumentParser(description="What metrics and log lines cost.")
    parser.add_argument("--users", type=int, default=USERS, help=f"pairs of runs, one user each (default {USERS})")
    parser.add_argument("--out", type=pathlib.Path, help="file for the result as JSON")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        asyncio.run(_serve(options.users))
        return 0
    return _compare(options.users, options.out)


def _compare(users: int, out: pathlib.Path | None) -> int:
    machine = facts.machine()
    costs: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with contextlib.ExitStack() as stack:
        redis_url, mongodb_url = stack.enter_context(servers.valkey()), stack.enter_context(servers.mongodb())
        url = stack.enter_context(_simulator(users + 1))
        first, second = (
            stack.enter_context(_child(users + 1, redis_url.removesuffix("0") + number, mongodb_url, url))
            for number in ("0", "1")
        )
        for child in (first, second):
            _ask(child, "with", users)  # fills caches
        for number in range(users):
            roles = [("with", first), ("without", second)] if number % 2 else [("without", first), ("with", second)]
            # In each role, each process comes first as often as second.
            for kind, child in roles if number % 4 < 2 else reversed(roles):
                costs[kind].append(_ask(child, kind, number))
            pair = ", ".join(f"{kind} {found[-1] * 1000:.2f} ms" for kind, found in costs.items())
            print(f"user {number + 1} of {users}: {pair}", flush=True)  # noqa: T201 -- progress
    result = {"machine": machine, "guilds_per_user": GUILDS, **_summed_up(costs["with"], costs["without"])}
    report.keep(result, out)
    return 0 if result["reached"] else 1


def _summed_up(measured_with: Sequence[float], measured_without: Sequence[float]) -> dict[str, object]:
    """Return the cost: the mean of the median ratios of both assignments of roles."""
    ratios = [math.log(a / b) for a, b in zip(measured_with, measured_without, strict=True)]
    halves = [sorted(ratios[0::2]), sorted(ratios[1::2])]
    cost = math.exp(statistics.mean(statistics.median(half) for half in halves)) - 1
    # Interquartile ranges; the standard error of a median of n values is about 1.25 / sqrt(n) standard deviations.
    spreads = [half[3 * len(half) // 4] - half[len(half) // 4] for half in halves]
    unsure = math.hypot(*(1.25 * spread / 1.35 / math.sqrt(len(ratios) / 2) for spread in spreads)) / 2
    return {
        "pairs": len(ratios),
        "ms_a_guild_without": round(statistics.median(measured_without) * 1000, 2),
        "ms_a_guild_with": round(statistics.median(measured_with) * 1000, 2),
        "one_process_against_the_other": round(statistics.median(halves[0]) - statistics.median(halves[1]), 4),
        "cost": round(cost, 4),
        "unsure": round(unsure, 4),
        "wanted_at_most": TARGET,
        "reached": cost <= TARGET,
    }


def _ask(child: "subprocess.Popen[str]", kind: str, number: int) -> float:
    """Let a child index a user with or without telemetry; returns CPU seconds per guild."""
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(f"{kind} {number}\n")
    child.stdin.flush()
    found = json.loads(child.stdout.readline())
    return float(found["cpu"]) / float(found["guilds"])


@contextlib.contextmanager
def _simulator(users: int) -> Iterator[str]:
    def arguments(port: int, _folder: str) -> list[str]:
        world = {"--users": users, "--guilds-per-user": GUILDS, "--latency": "none", "--port": port}
        world |= {"--global-limit": WIDE, "--user-limit": WIDE, "--enforce": "none"}
        parts = [str(part) for option in world.items() for part in option]
        parts += [part for route in routes.ROUTES for part in ("--route-limit", f"{route}={WIDE}")]
        return [sys.executable, "-m", "devstack.simulator", *parts]

    with servers._running(arguments, lambda port: probes.page_is_ok(f"http://127.0.0.1:{port}/_sim/about")) as port:
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def _child(users: int, redis_url: str, mongodb_url: str, simulator: str) -> Iterator["subprocess.Popen[str]"]:
    variables = {
        "DISCORD_BOT_TOKEN": "sim-bot-token",
        "DISCORD_API_BASE": f"{simulator}/api/v10",
        "INDEXER_CREDENTIAL_KEYS": "a" * 43,
        "REDIS_URL": redis_url,
        "MONGODB_URL": mongodb_url,
        "MONGODB_DATABASE": f"bench-{uuid.uuid4().hex}",
        "INDEXER_LISTEN": f"127.0.0.1:{servers.free_port()}",
        "INDEXER_METRICS_PORT": "0",
        "WORKERS_METRICS_PORT": "0",
        "USER_BUDGET": WIDE,
        "GLOBAL_BUDGET": WIDE,
        "LIMITER_HOLD": "0",
        "LOG_LEVEL": "info",
        "SIMULATOR_URL": simulator,
    }
    environment = os.environ | variables  # noqa: TID251 -- passed on
    command = [sys.executable, "-m", "tests.benchmarks.overhead", "--child", "--users", str(users)]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


async def _serve(users: int) -> None:
    """Index a user for each line of standard input, and print the cost."""
    config = settings.load()
    logs.configure(config.logs.level, config.logs.format)
    simulator = os.environ["SIMULATOR_URL"]  # noqa: TID251 -- the parent's
    known = await asyncio.to_thread(devstack_users.simulated_users, simulator, users)
    switches = _switches()
    async with _running(config) as api:
        while line := await asyncio.to_thread(sys.stdin.readline):
            kind, number = line.split()
            for where, name, on, off in switches:
                setattr(where, name, on if kind == "with" else off)
            user = known[int(number)]
            put: Any = pb.PutCredentialRequest(user_id=user.id, access_token=user.token, scopes=user.scopes)
            await api.PutCredential(put, timeout=30)  # type: ignore[misc]  # the stubs know only its blocking kin
            before = time.process_time()
            done = await _index(api, user.id)
            print(json.dumps({"cpu": time.process_time() - before, "guilds": done}), flush=True)  # noqa: T201 -- for the parent


async def _index(api: pb_grpc.IndexerServiceStub, user_id: str) -> int:
    """Index a user; returns the number of indexed guilds."""
    start: Any = api.StartIndexing(pb.StartIndexingRequest(user_id=user_id), timeout=60)
    job_id = (await start).job.job_id
    while True:
        wait: Any = api.WaitJob(pb.WaitJobRequest(job_id=job_id), timeout=90)
        job = (await wait).job
        if job.state != pb.JOB_STATE_RUNNING:
            return int(job.progress.succeeded)


@contextlib.asynccontextmanager
async def _running(config: settings.Settings) -> AsyncIterator[pb_grpc.IndexerServiceStub]:
    """Run the service on this event loop, and a worker on its own."""
    parts = worker.WorkerRuntime(config)
    broker = queue.make_broker(config.redis, [middleware.TimeLimit(), middleware.Retries(), worker.EventLoop(), parts])
    worker.declare_actors(broker, parts)
    running = dramatiq.Worker(broker, worker_timeout=100, worker_threads=8)
    stop = asyncio.Event()
    serving = asyncio.create_task(app.serve_until(config, stop))
    await asyncio.to_thread(running.start)
    try:
        async with grpc.aio.insecure_channel(config.service.listen) as channel:
            await asyncio.wait_for(channel.channel_ready(), 60)
            yield pb_grpc.IndexerServiceStub(channel)
    finally:
        await asyncio.to_thread(running.stop)
        stop.set()
        await asyncio.wait_for(serving, 60)


def _switches() -> list[tuple[Any, str, Any, Any]]:
    """Return all functions that measure or log: owner, name, original, and a replacement that does nothing."""

    def nothing(*_: object, **__: object) -> None:
        return None

    def nowhere(*_: object, **__: object) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    plain = redis.asyncio.BlockingConnectionPool
    found: list[tuple[Any, str, Any]] = [
        (store.Timed, "__call__", lambda self, *given, **options: self.call(*given, **options)),
        (redis_client._InstrumentedPool, "get_connection", plain.get_connection),
        (redis_client._InstrumentedPool, "release", plain.release),
        (metrics._MethodMetrics, "count_start", lambda _: 0.0),
        (metrics._MethodMetrics, "count_success", nothing),
        (metrics.MetricsInterceptor, "_count_response", nothing),
        (request_context, "_read_metadata", lambda _: ("-", "")),
        (logs, "bound", nowhere),
        (tracing, "continue_trace", nowhere),
        (tracing, "serialize_context", lambda: ""),
        (tracing, "record_span", nothing),
        (tracing, "exemplar", nothing),
    ]
    logger = structlog.make_filtering_bound_logger(logs.LEVELS["info"])
    found += [(logger, name, nothing) for name in ("info", "warning", "error", "exception")]
    kinds: Any = (client.Counter, client.Gauge, client.Histogram, metric_types.Counter, metric_types.Histogram)
    for kind in kinds:
        found.append((kind, "labels", lambda self, *_, **__: self))
        found += [(kind, name, nothing) for name in {"inc", "dec", "set", "observe"} & set(dir(kind))]
        found += [(kind, name, nowhere) for name in {"time", "track_inprogress"} & set(dir(kind))]
    return [(where, name, inspect.getattr_static(where, name), off) for where, name, off in found]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
