"""
Builds the programs of docs/clients and runs each against a stack whose services restart meanwhile.

Each program starts a job, watches it over the restarts, pages through the channels, and decodes an error's details.
Needs Go, Node.js with npm, and their registries: the checkout has everything else. Exit code 1: a program failed, or
printed something else than the others.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from devstack import stack

CHECKOUT = pathlib.Path(__file__).parents[2]
BUILD = CHECKOUT / "build" / "clients"
PROTO = "indexer_service/v1/indexer.proto"
DETAILS = "google/rpc/error_details.proto"
GO_TOOLS = (
    "google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.11",
    "google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2",
)
LONGEST = 600.0
"""Seconds of one step, at most: the first one downloads."""
PROGRAM = 180.0
COMPARED = ("channels", "wrong", "health")
"""Start of the lines that all programs print alike."""
RESTARTS = 4
"""Most restarts under one program."""


def run(command: Sequence[str | pathlib.Path], folder: pathlib.Path, limit: float = LONGEST, **environment: str) -> str:
    """Run a command; returns what it printed. Raises CalledProcessError."""
    # Programs of callers must not find this checkout's modules.
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # noqa: TID251 -- no setting
    return subprocess.run(
        command, cwd=folder, env=kept | environment, check=True, text=True, stdout=subprocess.PIPE, timeout=limit
    ).stdout


def generate(*arguments: str) -> None:
    """Generate code from the proto file."""
    includes = ["-Iproto", f"-I{sysconfig.get_path('purelib')}"]
    run([sys.executable, "-m", "grpc_tools.protoc", *includes, *arguments], CHECKOUT)


def copied(language: str) -> pathlib.Path:
    """Return the folder in which a program is built, with a copy of its sources."""
    return pathlib.Path(shutil.copytree(CHECKOUT / "docs/clients" / language, BUILD / language, dirs_exist_ok=True))


IMPORT_TIME = "import time; t = time.perf_counter(); from indexer_client import Client; print(time.perf_counter() - t)"
Program: TypeAlias = list[str | pathlib.Path]


def build_python() -> list[Program]:
    """Install the client's wheel alone into an empty environment, and print what it costs; returns the programs."""
    folder = copied("python")
    run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], CHECKOUT / "indexer_client")
    run([sys.executable, "-m", "venv", "--clear", "venv"], folder)
    (wheel,) = folder.glob("*.whl")
    run(["venv/bin/pip", "install", "--quiet", "--disable-pip-version-check", wheel], folder)
    listed = run(["venv/bin/pip", "list", "--format=freeze", "--exclude=pip", "--exclude=setuptools"], folder)
    took = min(float(run(["venv/bin/python", "-c", IMPORT_TIME], folder)) for _ in range(3))
    print(f"wheel: {wheel.stat().st_size / 1000:.1f} kB, import {took:.2f} s, installed {' '.join(listed.split())}")
    return [[folder / "venv/bin/python", folder / name] for name in ("main.py", "details.py")]


def build_go() -> list[Program]:
    """Generate and build the Go program; returns it."""
    folder, tools = copied("go"), BUILD / "bin"
    for tool in GO_TOOLS:
        run(["go", "install", tool], folder, GOBIN=str(tools))
    plugins = [f"--plugin={tools / name}" for name in ("protoc-gen-go", "protoc-gen-go-grpc")]
    outputs = [
        f"--{kind}_{part}" for kind in ("go", "go-grpc") for part in (f"out={folder}", "opt=paths=source_relative")
    ]
    generate(*plugins, *outputs, PROTO)
    shutil.copy(CHECKOUT / "indexer_client/service_config.json", folder)
    run(["go", "vet", "./..."], folder)
    run(["go", "build", "-o", "program", "."], folder)
    return [[folder / "program"]]


def build_typescript() -> list[Program]:
    """Generate and compile the TypeScript program; returns it."""
    folder = copied("ts")
    run(["npm", "ci", "--no-audit", "--no-fund", "--silent"], folder)
    (folder / "gen").mkdir(exist_ok=True)
    plugin = f"--plugin={folder / 'node_modules/.bin/protoc-gen-es'}"
    generate(
        plugin,
        f"--es_out={folder / 'gen'}",
        "--es_opt=target=ts,import_extension=js",
        f"-I{folder / 'proto'}",
        PROTO,
        DETAILS,
        "grpc/health/v1/health.proto",
    )
    run(["npx", "tsc"], folder)
    return [["node", folder / "out/main.js"]]


BUILDS: Mapping[str, Callable[[], list[Program]]] = {
    "python": build_python,
    "go": build_go,
    "typescript": build_typescript,
}


def restart_again_and_again(running: stack.Stack, stop: threading.Event) -> int:
    """Drain and start the service some times; returns how often."""
    times = 0
    while times < RESTARTS and not stop.wait(2.0):
        running.terminate("service-1")
        running.restart("service-1")
        times += 1
    return times


def play(running: stack.Stack, programs: Sequence[Program], user: str) -> tuple[str, int]:
    """Run programs while the service restarts; returns what they printed and the number of restarts."""
    stop, restarts = threading.Event(), list[int]()
    trouble = threading.Thread(target=lambda: restarts.append(restart_again_and_again(running, stop)))
    trouble.start()
    try:
        printed = "".join(run([*program, running.address, user], BUILD, PROGRAM) for program in programs)
    finally:
        stop.set()
        trouble.join()
    return printed, restarts[0]


def main() -> int:
    """Build and run all programs; returns the exit code."""
    BUILD.mkdir(parents=True, exist_ok=True)
    wanted = sys.argv[1:] or list(BUILDS)
    programs = {language: BUILDS[language]() for language in wanted}
    options = stack.Options(
        users=1,
        guilds_per_user=20,
        latency="5-20",
        simulator=("--user-limit", "2/1"),
        environment={"USER_BUDGET": "2/1"},
    )
    results = {}
    with stack.Stack(options) as running:
        running.put_credentials()
        for language, built in programs.items():
            began = time.monotonic()
            printed, restarts = play(running, built, running.users[0].id)
            print(f"{language}: {restarts} restarts in {time.monotonic() - began:.0f} s\n{printed}", flush=True)
            results[language] = {line for line in printed.splitlines() if line.startswith(COMPARED)}
    same = len({frozenset(found) for found in results.values()}) == 1
    passed = sum(bool(found) for found in results.values()) if same else 0
    print(f"{passed} passed, {len(results) - passed} failed")
    return int(passed != len(results))


if __name__ == "__main__":
    sys.exit(main())
