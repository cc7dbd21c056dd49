"""The product on loopback against given servers, and what it says: lines of the log, health, answers, alerts."""

import contextlib
import dataclasses
import json
import pathlib
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
from google.protobuf import duration_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.observability import make, server
from devstack import ports, programs, stack
from indexer_service.interceptors import base
from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc

START_TIMEOUT = 4.0
"""Seconds for which a process waits at start; the defaults are 60 and 45."""
BOOT_LIMIT = 90.0
"""Seconds; the startup probes of the manifests allow 120."""
CALL_INTERVAL = 0.3
NO_PROXY = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]


@dataclasses.dataclass(frozen=True, slots=True)
class Boot:
    """
    How a start ended.

    Attributes:
        code: Exit code; None when the process had not ended.
        ready: Whether it served.
        seconds: Until then.
        lines: What it logged as a warning or worse, and what it printed.
    """

    code: int | None
    ready: bool
    seconds: float
    lines: list[str]


@dataclasses.dataclass(frozen=True, slots=True)
class Later:
    """
    What was seen of a running product after its server had become faulty.

    Attributes:
        unready_after: Seconds until the service was not ready; None when it stayed ready.
        line: What the log says first.
        answers: What callers were answered, by call.
        alerts: Names of the alerts that were pending or firing.
    """

    unready_after: float | None
    line: str
    answers: dict[str, str]
    alerts: list[str]


def boot(redis_url: str, mongodb_url: str) -> Boot:
    """Start a service, and wait until it serves or ends."""
    connections = {"REDIS_URL": redis_url, "MONGODB_URL": mongodb_url, "MONGODB_DATABASE": "kinds"}
    program = programs.service("service", programs.product_environment(connections, _settings()), ports.Ports())
    with tempfile.TemporaryDirectory(prefix="indexer-kinds-") as folder:
        log = pathlib.Path(folder, "log")
        began = time.monotonic()
        with (
            log.open("wb") as output,
            subprocess.Popen(program.command, env=dict(program.environment), stdout=output, stderr=output) as process,
        ):
            ready = False
            while process.poll() is None and not ready and time.monotonic() < began + BOOT_LIMIT:
                time.sleep(0.1)
                ready = program.is_ready()
            code = process.poll()
            seconds = time.monotonic() - began
            process.kill()
        return Boot(code, ready, seconds, _warnings(log.read_text("utf-8", errors="replace")))


def _settings() -> dict[str, str]:
    return {
        "DISCORD_API_BASE": f"http://127.0.0.1:{ports.free_port()}",
        "DISCORD_BOT_TOKEN": "t",
        "REDIS_START_TIMEOUT": str(START_TIMEOUT),
        "MONGODB_START_TIMEOUT": str(START_TIMEOUT),
        "LOG_FORMAT": "json",
    }


def _warnings(log: str) -> list[str]:
    """Return the lines of a log that an operator should see, as event: problem."""
    found = []
    for line in log.splitlines():
        entry: dict[str, Any] = {}
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
        if "event" not in entry:
            found.append(line)
        elif entry.get("level") in {"warning", "error", "critical"}:
            said = next((str(entry[key]) for key in ("problem", "reason", "error") if key in entry), "")
            found.append(f"{entry['event']}: {said}".removesuffix(": "))
    return found


@contextlib.contextmanager
def running(redis_url: str, mongodb_url: str) -> Iterator[stack.Stack]:
    """Run a whole stack against these servers, until the block ends."""
    options = stack.Options(
        users=2,
        guilds_per_user=4,
        latency="none",
        exporter=True,
        environment={"LOG_FORMAT": "json", "INDEXING_LIST_MAX_AGE": "0"},
    )
    made = stack.Stack(options)
    made.redis_url, made.mongodb_url = redis_url, mongodb_url
    with made:
        made.put_credentials()
        yield made


def observe(product: stack.Stack, inject: Callable[[], object], seconds: float) -> Later:
    """Make a server faulty, and look for that long at the product, which is called all the time."""
    with server.scraping(product.metrics_urls, make.RULES) as prometheus:
        time.sleep(2.0)
        answers: dict[str, str] = {}
        inject()
        began = time.monotonic()
        unready = None
        with _calling(product, answers):
            while time.monotonic() < began + seconds:
                if unready is None and not is_ready(product.address):
                    unready = time.monotonic() - began
                time.sleep(0.25)
        found = prometheus.query('ALERTS{alertstate=~"pending|firing"}')
    alerts = sorted({labels["alertname"] for labels, _ in found})
    log = (product.logs / "service-1.log").read_text("utf-8", errors="replace")
    lines = [line for line in _warnings(log) if line.startswith(("redis_", "mongodb_", "waiting_for", "server_"))]
    lines.sort(key=lambda line: line.startswith("server_"))  # slowness is said last
    return Later(unready, lines[0] if lines else "", answers, alerts)


def is_ready(address: str) -> bool:
    """Return whether the health service says that the API serves."""
    with grpc.insecure_channel(address, options=NO_PROXY) as channel, contextlib.suppress(grpc.RpcError):
        request = health_pb2.HealthCheckRequest(service=base.SERVICE.full_name)
        status = health_pb2_grpc.HealthStub(channel).Check(request, timeout=5).status
        return bool(status == health_pb2.HealthCheckResponse.SERVING)
    return False


@contextlib.contextmanager
def _calling(product: stack.Stack, answers: dict[str, str]) -> Iterator[None]:
    """Call a method that reads and one that starts a job until the block ends; keep the latest answers by method."""
    stop = threading.Event()
    user = product.users[0].id
    requests = {
        "ListGuilds": pb.ListGuildsRequest(user_id=user),
        "StartIndexing": pb.StartIndexingRequest(user_id=user, wait=duration_pb2.Duration()),
    }

    def run() -> None:
        with grpc.insecure_channel(product.address, options=NO_PROXY) as channel:
            api = pb_grpc.IndexerServiceStub(channel)
            while not stop.wait(CALL_INTERVAL):
                for name, request in requests.items():
                    answers[name] = _answer(getattr(api, name), request)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _answer(method: Any, request: Any) -> str:  # noqa: ANN401 -- a method of the API
    try:
        method(request, timeout=12)
    except grpc.RpcError as error:
        called: Any = error
        return f"{called.code().name}: {called.details()}"
    return "OK"
