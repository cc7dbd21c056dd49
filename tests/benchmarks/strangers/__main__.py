"""
`make drill-strangers`: what each stranger's attack costs one service process.

For each attack a new service runs, indexes one user, and answers honest reads with a token, 50 a second on a connection
of their own; the attacker is another process. The report has the service's memory before the attack and its most under
it, and the latencies of the honest reads before and under it. Goals: no read fails; for attacks that hold something,
p99 at most three times the undisturbed one, or 50 ms; under rapid reset from one connection at most 0.5 s.
"""

import argparse
import concurrent.futures
import contextlib
import hashlib
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, Self

import grpc
from google.protobuf import duration_pb2

from devstack import stack
from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc
from tests import authority
from tests.benchmarks import facts, report
from tests.benchmarks.read import worlds
from tests.benchmarks.strangers import attacks, page

TOKEN = "idx_honest"
BEARER = (("authorization", f"Bearer {TOKEN}"),)
PAUSE = 0.02
"""Seconds between two honest reads."""
TIMEOUT = 15.0
MIB = 1 << 20
FLOODS = {"rapid-reset": 0.5, "rapid-reset-8": None, "flood": 0.5, "health-flood": 0.5}
"""Goal for p99 in seconds of attacks that take CPU; None states no goal: only the network bounds these."""
LEAST = 0.05
"""Seconds of p99 that are always good enough."""


class Reads:
    """Honest reads, one after the other."""

    def __init__(self, call: Any) -> None:  # noqa: ANN401 -- a stub's method with its request
        self._call = call

    def run(self, seconds: float) -> dict[str, float]:
        """Read for some seconds; returns latencies in milliseconds and the number of failures."""
        taken, failed, until = [], 0, time.monotonic() + seconds
        while time.monotonic() < until:
            began = time.monotonic()
            try:
                self._call()
            except grpc.RpcError:
                failed += 1
            taken.append(time.monotonic() - began)
            time.sleep(PAUSE)
        taken.sort()
        return {
            "p50": 1000 * taken[len(taken) // 2],
            "p99": 1000 * taken[int(len(taken) * 0.99)],
            "reads": len(taken),
            "failed": failed,
        }


class Memory:
    """Samples the most memory of a process while a block runs."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._stop = threading.Event()
        self.most = 0

    def __enter__(self) -> Self:
        """Begin."""
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(0.05):
            self.most = max(self.most, facts.resident(self._pid))


@contextlib.contextmanager
def service(*, tls: bool) -> Iterator[tuple[stack.Stack, Any, str]]:
    """Run a service with one indexed user; yields it, the stub of honest callers, and the user's id."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as opened:
        folder = pathlib.Path(name)
        tokens = folder / "tokens"
        digest = hashlib.sha256(TOKEN.encode()).hexdigest()
        tokens.write_text(f"honest {digest} index,read,credentials 100000/1\n")
        environment = {"INDEXER_SERVICE_TOKENS_FILE": str(tokens), "LOG_LEVEL": "error", "AUDIT_LOG": "off"}
        credentials = None
        if tls:
            made = authority.Authority()
            files = authority.Files.under(folder, made.sign("localhost"), made)
            environment |= {"INDEXER_TLS_CERT": str(files.certificate), "INDEXER_TLS_KEY": str(files.key)}
            credentials = grpc.ssl_channel_credentials(made.pem)
        running = opened.enter_context(stack.Stack(worlds.options(1, 10, (), environment)))
        options = [("grpc.enable_http_proxy", 0), ("grpc.use_local_subchannel_pool", 1)]
        channel = (
            grpc.secure_channel(running.address, credentials, options)
            if credentials
            else grpc.insecure_channel(running.address, options)
        )
        stub: Any = pb_grpc.IndexerServiceStub(opened.enter_context(channel))
        yield running, stub, _index(stub, running)


def _index(stub: Any, running: stack.Stack) -> str:  # noqa: ANN401 -- a stub
    """Index the stack's user; returns their id."""
    (user,) = running.users
    put = pb.PutCredentialRequest(
        user_id=user.id, access_token=user.token, refresh_token=user.refresh_token, scopes=user.scopes
    )
    stub.PutCredential(put, metadata=BEARER, timeout=TIMEOUT)
    job = stub.StartIndexing(pb.StartIndexingRequest(user_id=user.id), metadata=BEARER, timeout=TIMEOUT).job
    wait = pb.WaitJobRequest(job_id=job.job_id, wait=duration_pb2.Duration(seconds=20))
    stub.WaitJob(wait, metadata=BEARER, timeout=2 * TIMEOUT)
    return str(user.id)


@contextlib.contextmanager
def attacking(name: str, address: str, user_id: str) -> Iterator[None]:
    """Attack from another process until the block ends."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.benchmarks.strangers.attacks",
            name,
            address,
            "--token",
            TOKEN,
            "--user",
            user_id,
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield
    finally:
        process.kill()
        process.wait()


def measure(name: str, seconds: float) -> dict[str, object]:
    """Attack a new service once; returns the figures."""
    with service(tls=name == "half-tls") as (running, stub, user_id):
        request = pb.ListChannelsRequest(user_id=user_id)
        reads = Reads(lambda: stub.ListChannels(request, metadata=BEARER, timeout=TIMEOUT))
        reads.run(1.0)
        before = reads.run(seconds / 2)
        pid = running.process_id("service-1")
        empty = facts.resident(pid)
        with (
            Memory(pid) as memory,
            concurrent.futures.ThreadPoolExecutor(1) as pool,
            attacking(name, running.address, user_id),
        ):
            under = pool.submit(reads.run, seconds).result()
        after = reads.run(1.0)
    return {
        "attack": name,
        "mib_before": empty / MIB,
        "mib_most": memory.most / MIB,
        "p50_before_ms": before["p50"],
        "p99_before_ms": before["p99"],
        "p50_ms": under["p50"],
        "p99_ms": under["p99"],
        "reads": under["reads"],
        "failed": under["failed"] + after["failed"],
        "good": _is_good(name, before, under),
    }


def _is_good(name: str, before: Mapping[str, float], under: Mapping[str, float]) -> bool:
    goal = FLOODS.get(name, max(LEAST, 3 * before["p99"] / 1000))
    return not under["failed"] and (goal is None or under["p99"] <= 1000 * goal)


def main() -> int:
    """Attack and print a table; returns 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=list(attacks.ATTACKS), choices=attacks.ATTACKS)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each attack (default 8)")
    parser.add_argument("--keep", action="store_true", help=f"write the results to {page.RESULTS} and {page.PAGE}")
    options = parser.parse_args()
    found = []
    for name in options.only:
        machine = facts.machine()
        found.append(measure(name, options.seconds))
        if options.keep:
            page.keep(machine, found[-1])
    report.show("strangers", found)
    if options.keep:
        page.write()
    return 0 if all(row["good"] for row in found) else 1


if __name__ == "__main__":
    sys.exit(main())
