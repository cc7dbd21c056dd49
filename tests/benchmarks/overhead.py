"""
`python -m tests.benchmarks.overhead`: what metrics and log lines cost, as a share of the CPU for an indexed guild.

Two processes, each service and worker in one, index the same users over the same real servers: one with everything,
one with nothing (no metrics, no timing of Redis, MongoDB and calls, no bound fields, no log lines below errors). They
take turns, user by user, so that whatever else the machine does hits both alike; the median of the pairs counts.
Nobody waits for a permit: a process that waits uses a little CPU all the time, which would hide what is looked for.
"""

import argparse
import asyncio
import contextlib
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
from dramatiq import middleware
from prometheus_client import metrics as client

from indexer_service import app, measured, traced
from indexer_service.embedded import accounts, probes
from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc
from indexing import instruments, logs, settings, traces
from indexing.bus import connection, queue
from indexing.store import mongo
from tests import servers
from tests.benchmarks import facts, report
from tests.simulator import routes
from workers import actors, runtime

USERS, GUILDS = 100, 40
TARGET = 0.03
WIDE = "2000/1"
"""Budgets so wide that nobody waits: waiting costs no CPU and only makes the runs longer."""
KINDS = ("without", "with")


def main(arguments: Sequence[str]) -> int:
    """Measure; returns the exit code."""
    parser = argparse.ArgumentParser(description="What metrics and log lines cost.")
    parser.add_argument("--users", type=int, default=USERS, help=f"pairs of runs, one user each (default {USERS})")
    parser.add_argument("--out", type=pathlib.Path, help="file for the result as JSON")
    parser.add_argument("--child", choices=KINDS)
    options = parser.parse_args(arguments)
    if options.child:
        asyncio.run(_serve(options.child == "with", options.users))
        return 0
    return _compare(options.users, options.out)


def _compare(users: int, out: pathlib.Path | None) -> int:
    machine = facts.machine()
    costs: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with contextlib.ExitStack() as stack:
        redis_url, mongodb_url = stack.enter_context(servers.valkey()), stack.enter_context(servers.mongodb())
        url = stack.enter_context(_simulator(users))
        children = {
            kind: stack.enter_context(_child(kind, users, redis_url.removesuffix("0") + str(number), mongodb_url, url))
            for number, kind in enumerate(KINDS)
        }
        for number in range(users):
            for kind in KINDS if number % 2 else reversed(KINDS):
                costs[kind].append(_ask(children[kind], number))
            pair = ", ".join(f"{kind} {found[-1] * 1000:.2f} ms" for kind, found in costs.items())
            print(f"user {number + 1} of {users}: {pair}", flush=True)  # noqa: T201 -- progress
    shares = sorted(a / b - 1 for a, b in zip(costs["with"], costs["without"], strict=True))
    share = statistics.median(shares)
    low, high = shares[len(shares) // 4], shares[3 * len(shares) // 4]
    # Half of the pairs lie between; the median of n of them is about 1.25 / sqrt(n) of a deviation unsure.
    unsure = 1.25 * (high - low) / 1.35 / math.sqrt(len(shares))
    result = {
        "machine": machine,
        "pairs": len(shares),
        "guilds_per_user": GUILDS,
        "ms_a_guild_without": round(statistics.median(costs["without"]) * 1000, 2),
        "ms_a_guild_with": round(statistics.median(costs["with"]) * 1000, 2),
        "cost": round(share, 4),
        "unsure": round(unsure, 4),
        "wanted_at_most": TARGET,
        "reached": share <= TARGET,
    }
    report.keep(result, out)
    return 0 if share <= TARGET else 1


def _ask(child: "subprocess.Popen[str]", number: int) -> float:
    """Have a child index a user; returns seconds of CPU for a guild."""
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(f"{number}\n")
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
        return [sys.executable, "-m", "tests.simulator", *parts]

    with servers._running(arguments, lambda port: probes.page_is_good(f"http://127.0.0.1:{port}/_sim/about")) as port:
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def _child(
    kind: str, users: int, redis_url: str, mongodb_url: str, simulator: str
) -> Iterator["subprocess.Popen[str]"]:
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
        "LOG_LEVEL": "info" if kind == "with" else "error",
        "SIMULATOR_URL": simulator,
    }
    environment = os.environ | variables  # noqa: TID251 -- handed on
    command = [sys.executable, "-m", "tests.benchmarks.overhead", "--child", kind, "--users", str(users)]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


async def _serve(everything: bool, users: int) -> None:  # noqa: FBT001 -- the one thing that differs
    """Index a user for each number that is read, and print what it cost."""
    if not everything:
        _switch_off()
    config = settings.load()
    logs.configure(config.logs.level, config.logs.format)
    simulator = os.environ["SIMULATOR_URL"]  # noqa: TID251 -- the parent's
    known = await asyncio.to_thread(accounts.simulated, simulator, users)
    async with _running(config) as api:
        while line := await asyncio.to_thread(sys.stdin.readline):
            user = known[int(line)]
            put: Any = pb.PutCredentialRequest(user_id=user.id, access_token=user.token, scopes=user.scopes)
            await api.PutCredential(put, timeout=30)  # type: ignore[misc]  # the stubs know only its blocking kin
            before = time.process_time()
            done = await _index(api, user.id)
            print(json.dumps({"cpu": time.process_time() - before, "guilds": done}), flush=True)  # noqa: T201 -- for the parent


async def _index(api: pb_grpc.IndexerServiceStub, user_id: str) -> int:
    """Index a user; returns how many guilds are done."""
    start: Any = api.StartIndexing(pb.StartIndexingRequest(user_id=user_id), timeout=60)
    job_id = (await start).job.job_id
    while True:
        wait: Any = api.WaitJob(pb.WaitJobRequest(job_id=job_id), timeout=90)
        job = (await wait).job
        if job.state != pb.JOB_STATE_RUNNING:
            return int(job.progress.succeeded)


@contextlib.asynccontextmanager
async def _running(config: settings.Settings) -> AsyncIterator[pb_grpc.IndexerServiceStub]:
    """Run the service on this loop and a worker on its own."""
    parts = runtime.Runtime(config)
    broker = queue.make_broker(config.redis, [middleware.TimeLimit(), middleware.Retries(), runtime.EventLoop(), parts])
    actors.declare(broker, parts)
    worker = dramatiq.Worker(broker, worker_timeout=100, worker_threads=8)
    stop = asyncio.Event()
    serving = asyncio.create_task(app.run(config, stop))
    await asyncio.to_thread(worker.start)
    try:
        async with grpc.aio.insecure_channel(config.service.listen) as channel:
            await asyncio.wait_for(channel.channel_ready(), 60)
            yield pb_grpc.IndexerServiceStub(channel)
    finally:
        await asyncio.to_thread(worker.stop)
        stop.set()
        await asyncio.wait_for(serving, 60)


def _switch_off() -> None:
    """Replace everything that measures or logs by nothing, in this process only."""

    def nothing(*_: object, **__: object) -> None:
        return None

    async def as_it_is(_: object, continuation: Any, details: object) -> Any:  # noqa: ANN401 -- gRPC's
        return await continuation(details)

    kinds: Any = (client.Counter, client.Gauge, client.Histogram, instruments.Counter, instruments.Histogram)
    for kind in kinds:
        kind.labels = lambda self, *_, **__: self
        for name in {"inc", "dec", "set", "observe"} & set(dir(kind)):
            setattr(kind, name, nothing)
        for name in {"time", "track_inprogress"} & set(dir(kind)):
            setattr(kind, name, lambda _: contextlib.nullcontext())
    open_redis, open_database = connection.open_redis, mongo.open_database
    switched: list[tuple[Any, str, Any]] = [
        (connection, "open_redis", lambda config, _seen=None: open_redis(config)),
        (mongo, "open_database", lambda config, _seen=None: open_database(config)),
        (measured.Measured, "intercept_service", as_it_is),
        (traced.Traced, "intercept_service", as_it_is),
        (logs, "bound", lambda **_: contextlib.nullcontext()),
        (traces, "serving", lambda *_: contextlib.nullcontext()),
        (traces, "carry", lambda: ""),
        (traces, "record", nothing),
        (traces, "exemplar", nothing),
    ]
    for where, name, what in switched:
        setattr(where, name, what)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
