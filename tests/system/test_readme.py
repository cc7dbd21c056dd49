"""The README's commands work as they stand, in the order of the page."""

import importlib.util
import pathlib
import re
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from tests.system import test_embedded_launcher as launcher

CHECKOUT = pathlib.Path(__file__).parents[2]
README = (CHECKOUT / "README.md").read_text("utf-8")
TIMEOUT = 100.0


def blocks(heading: str) -> list[str]:
    """Return the code blocks below a heading of the second level."""
    section = README.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"^```\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


def environment(arguments: str) -> dict[str, str]:
    """Return the environment of a terminal; ARGS makes the simulated world small. `.venv` is taken as it is."""
    return launcher.environment({"ARGS": arguments, "MAKEFLAGS": "-o .venv/.demo -o .venv/.ready"})


def paste(script: str, variables: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """Run lines in a shell, in the checkout."""
    return subprocess.run(
        ["sh", "-c", script], cwd=CHECKOUT, env=variables, capture_output=True, text=True, timeout=TIMEOUT, check=False
    )


@pytest.fixture
def printed_by_up() -> Iterator[list[str]]:
    """Run the first block of *Use it* until the test ends; yields what it printed until it was ready."""
    (command,) = blocks("Use it")[0].split("\n")[:-1]
    small = environment("--guilds-per-user 5 --latency none")
    with subprocess.Popen(
        ["sh", "-c", f"exec {command}"],
        cwd=CHECKOUT,
        env=small,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        killer = threading.Timer(TIMEOUT, process.kill)
        killer.start()
        lines = []
        try:
            for line in process.stdout or ():
                lines.append(line.strip())
                if line.startswith("Press Ctrl-C"):
                    break
            yield lines
        finally:
            killer.cancel()
            process.terminate()


@pytest.mark.skipif(sys.platform != "linux", reason="the stack's reaper needs Linux")
def test_the_block_use_it_works_when_it_is_pasted(printed_by_up: list[str]) -> None:
    """Each line succeeds; `make up` prints the same lines, and an address only where the usual port is in use."""
    block = blocks("Use it")[1].splitlines()
    after = printed_by_up[printed_by_up.index("The users' tokens are stored. In another terminal, paste:") + 1 :]
    printed = [line for line in after if line.startswith(("export", "indexer"))]
    address = [line for line in printed if line.startswith("export INDEXER_ADDRESS=")]

    script = "\n".join(["set -ex", *address, *block])
    done = subprocess.run(
        ["sh", "-c", script],
        cwd=CHECKOUT,
        env=environment(""),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "succeeded" in done.stdout
    assert [line for line in printed if line.startswith("indexer")] == block[1:]
    assert bool(address) is any("is in use" in line for line in printed_by_up)


def test_make_demo_works_when_it_is_typed() -> None:
    """The first command of the page, in a small world."""
    command = next(block for block in blocks("Try it") if block.startswith("make demo")).strip()

    done = paste(command, environment("--guilds-per-user 5 --latency none"))

    assert done.returncode == 0, done.stdout + done.stderr
    assert "the job succeeded" in done.stdout


def test_each_process_of_run_it_exists() -> None:
    """Every line of the block starts a module of the product."""
    (block,) = blocks("Run it")
    modules = [line.split()[2] for line in block.splitlines()]

    assert len(modules) == 4
    assert [name for name in modules if importlib.util.find_spec(name) is None] == []
