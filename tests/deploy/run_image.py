"""
Runs the built images like pods: uid 10001, read-only root, no capabilities, no new privileges, SIGTERM at the end.

Called by deploy/docker/check_image.sh with a folder that has `rootfs` and `config.json` of each target. Redis and
MongoDB are those of the tests; the network is the machine's. The exit code is 0 if all checks pass.
"""

import base64
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from devstack import probes, users
from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc
from tests import servers

USER = 10001
BOOT = 30.0
TMP = "/tmp"  # noqa: S108 -- the pod's own directory
INSIDE = """
import os, pathlib, shutil
status = dict(line.split(":", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines())
assert os.getuid() == os.getgid() == 10001, os.getuid()
assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0, status["CapEff"]
assert status["NoNewPrivs"].strip() == "1"
for place in ("/x", "/opt/indexer/x", "/home/x", "/var/tmp/x"):
    try:
        pathlib.Path(place).touch()
    except OSError:
        continue
    raise SystemExit(place + " is writable")
pathlib.Path("/tmp/x").touch()
for tool in ("pip", "gcc", "cc", "make", "git", "sh", "bash", "perl", "apt", "dpkg", "ls", "cat"):
    for path in (None, "/bin:/sbin:/usr/bin:/usr/sbin:/usr/local/bin"):
        assert shutil.which(tool, path=path) is None, tool + " is in the image"
import ctypes, curses, sqlite3, ssl, uuid, zoneinfo
import indexer_client.cli.main, indexer_service.migrate, indexer_service.rotate_keys, workers.gateway
assert len(ssl.create_default_context().get_ca_certs()) > 100
"""


class Container:
    """One running container."""

    def __init__(self, name: str, process: "subprocess.Popen[bytes]") -> None:
        self.name = name
        self.process = process

    def inside(self, program: str) -> None:
        """Run a Python program in the container."""
        command = ["runc", "exec", "--user", f"{USER}:{USER}", self.name, "/opt/indexer/bin/python", "-c", program]
        subprocess.run(command, check=True, timeout=30)

    def end(self) -> tuple[int, float]:
        """Send SIGTERM to the first process; returns its exit code and the seconds until it ended."""
        began = time.monotonic()
        subprocess.run(["runc", "kill", self.name, "TERM"], check=True, timeout=10)
        return self.process.wait(timeout=60), time.monotonic() - began


@contextlib.contextmanager
def running(
    folder: pathlib.Path, target: str, environment: Mapping[str, str], *extra: str, module: str = ""
) -> Iterator[Container]:
    """Run a target until the block ends, with *extra* arguments or with another Python *module*, as some pods do."""
    image = json.loads((folder / target / "config.json").read_text())["OCIv1"]["config"]
    if module:
        image["Entrypoint"] = ["python", "-m", module]
    called = module.rpartition(".")[2] or target
    bundle = folder / f"bundle-{called}"
    bundle.mkdir(exist_ok=True)
    spec = bundle / "config.json"
    spec.unlink(missing_ok=True)
    subprocess.run(["runc", "spec", "--bundle", str(bundle)], check=True, timeout=10)
    spec.write_text(
        json.dumps(_confined(json.loads(spec.read_text()), folder / target / "rootfs", image, environment, extra))
    )
    name = f"indexer-check-{called}-{os.getpid()}"
    with (folder / f"{called}.log").open("wb") as log:
        process = subprocess.Popen(
            ["runc", "run", "--bundle", str(bundle), name], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        try:
            yield Container(name, process)
        finally:
            if process.poll() is None:
                subprocess.run(["runc", "kill", name, "KILL"], check=False, timeout=10)
                process.wait(timeout=10)


def _confined(
    spec: dict[str, Any],
    root: pathlib.Path,
    image: dict[str, Any],
    environment: Mapping[str, str],
    extra: tuple[str, ...],
) -> dict[str, Any]:
    nothing: dict[str, list[str]] = {
        each: [] for each in ("bounding", "effective", "inheritable", "permitted", "ambient")
    }
    spec["process"] |= {
        "terminal": False,
        "user": {"uid": USER, "gid": USER},
        "args": [*image["Entrypoint"], *extra],
        "env": [*image["Env"], *(f"{name}={value}" for name, value in environment.items())],
        "cwd": image["WorkingDir"],
        "capabilities": nothing,
        "noNewPrivileges": True,
    }
    spec["root"] = {"path": str(root), "readonly": True}
    spec["mounts"].append(
        {
            "destination": TMP,
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["nosuid", "nodev", "size=16m", "mode=1777"],
        }
    )
    spec["linux"]["namespaces"] = [
        each for each in spec["linux"]["namespaces"] if each["type"] not in {"network", "cgroup"}
    ]
    return spec


def until(what: str, ready: Callable[[], bool], container: Container) -> None:
    """Wait until the program is ready."""
    deadline = time.monotonic() + BOOT
    while not ready():
        if container.process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"{what} does not answer")
        time.sleep(0.1)


def index(address: str, user: users.User) -> pb.Job:
    """Start a job and wait until it has ended."""
    users.put_credentials(address, [user])
    with grpc.insecure_channel(address) as channel:
        api = pb_grpc.IndexerServiceStub(channel)
        job = api.StartIndexing(pb.StartIndexingRequest(user_id=user.id), timeout=30).job
        for _ in range(5):
            job = api.WaitJob(pb.WaitJobRequest(job_id=job.job_id), timeout=60).job
            if job.state != pb.JOB_STATE_RUNNING:
                break
        return job


def probed(port: int, service: str) -> bool:
    """Probe as the kubelet does."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, contextlib.suppress(grpc.RpcError):
        request = health_pb2.HealthCheckRequest(service=service)
        return bool(health_pb2_grpc.HealthStub(channel).Check(request, timeout=1.0).status == 1)
    return False


def say(line: str) -> None:
    """Print a line of the report."""
    sys.stdout.write(line + "\n")


def main(folder: pathlib.Path) -> int:
    """Run all checks."""
    web, listen, probe, metrics, refreshing, exporting = (servers.free_port() for _ in range(6))
    with contextlib.ExitStack() as stack:
        environment = {
            "REDIS_URL": stack.enter_context(servers.valkey()),
            "MONGODB_URL": stack.enter_context(servers.mongodb()),
            "DISCORD_API_BASE": f"http://127.0.0.1:{web}/api/v10",
            "DISCORD_BOT_TOKEN": "sim-bot-token",
            "INDEXER_CREDENTIAL_KEYS": base64.urlsafe_b64encode(os.urandom(32)).decode(),
            "INDEXER_INSECURE": "1",
            "INDEXER_LISTEN": f"[::]:{listen}",
            "INDEXER_PROBE_PORT": str(probe),
            "INDEXER_METRICS_PORT": "0",
            "USER_BUDGET": "40/1",
            "LIMITER_HOLD": "0",
            "WORKERS_METRICS_PORT": str(metrics),
            "WORKERS_REFRESH": "0",
            "EXPORTER_PORT": str(exporting),
        }
        apart = {**environment, "WORKERS_METRICS_PORT": str(refreshing)}
        play = ("--port", str(web), "--user-limit", "40/1", "--latency", "lan")
        simulator = stack.enter_context(running(folder, "simulator", {}, *play))
        until("the simulator", lambda: probes.page_is_ok(f"http://127.0.0.1:{web}/_sim/about"), simulator)
        service = stack.enter_context(running(folder, "service", environment))
        worker = stack.enter_context(running(folder, "worker", environment))
        refresh = stack.enter_context(running(folder, "worker", apart, module="workers.refresh"))
        exporter = stack.enter_context(running(folder, "worker", environment, module="workers.exporter"))
        everything = (service, worker, refresh, exporter, simulator)
        until("the service", lambda: probed(probe, "indexer_service.v1.IndexerService"), service)
        until("the worker", lambda: probes.page_is_ok(f"http://127.0.0.1:{metrics}/readyz"), worker)
        until("the refresh", lambda: probes.page_is_ok(f"http://127.0.0.1:{refreshing}/readyz"), refresh)
        until("the exporter", lambda: probes.page_is_ok(f"http://127.0.0.1:{exporting}/metrics"), exporter)
        for container in everything:
            container.inside(INSIDE)
        (user,) = users.simulated_users(f"http://127.0.0.1:{web}", 1)
        job = index(f"127.0.0.1:{listen}", user)
        say(f"a job of {job.progress.total} guilds: {pb.JobState.Name(job.state)}")
        ends = {container.name.split("-")[2]: container.end() for container in everything}
    for name, (code, seconds) in ends.items():
        say(f"{name} ended with {code} after {seconds:.1f} s")
    return int(job.state != pb.JOB_STATE_SUCCEEDED or any(code for code, _ in ends.values()))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main(pathlib.Path(sys.argv[1]).resolve()))
