"""
`python -m tests.pythons`: runs the unit and contract tests on several Pythons, each in an environment of its own.

Arguments are interpreters; without any, the oldest and the newest python3.N on the PATH are taken. An interpreter that
the embedded MongoDB has no wheel for uses a MongoDB that this one runs.
"""

import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence

from tests import servers

CHECKOUT = pathlib.Path(__file__).parents[1]
NAMES = [f"python3.{minor}" for minor in range(11, 30)]
SUITES = ("tests/unit", "tests/contract")


def main(arguments: Sequence[str]) -> int:
    """Run the suites; returns 0 if all pass."""
    found = list(arguments) or _list_pythons()
    if not found:
        print("no python3.N is on the PATH; name interpreters", file=sys.stderr)
        return 2
    failed = [python for python in dict.fromkeys(found) if not _passes(python)]
    print(f"{len(found) - len(failed)} passed, {len(failed)} failed{''.join(f' {python}' for python in failed)}")
    return 1 if failed else 0


def _list_pythons() -> list[str]:
    on_path = [path for name in NAMES if (path := shutil.which(name)) and _version(path)]
    return [on_path[0], on_path[-1]] if on_path else []


def _version(python: str) -> str:
    """Return an interpreter's version; empty if it does not start, as a shim of pyenv."""
    command = [python, "-c", "import platform; print(platform.python_version())"]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()


def _passes(python: str) -> bool:
    version = _version(python)
    folder = CHECKOUT / "build" / "pythons" / version
    uv = str(pathlib.Path(sysconfig.get_path("scripts"), "uv"))
    own = folder / "bin" / "python"
    install = [uv, "pip", "install", "--quiet", "--python", str(own)]
    for command in (
        [uv, "venv", "--quiet", "--clear", "--python", python, str(folder)],
        [*install, "--require-hashes", "-r", "requirements.lock"],
        [*install, "--no-deps", "--no-build-isolation", "--editable", "."],
    ):
        if subprocess.run(command, check=False, cwd=CHECKOUT).returncode:
            return False
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    with contextlib.ExitStack() as stack:
        if not (folder / "bin" / "secantusd-py").exists() and "TEST_MONGODB_URL" not in environment:
            environment["TEST_MONGODB_URL"] = stack.enter_context(servers.mongodb())
        print(f"Python {version}:", flush=True)
        tests = [str(own), "-m", "pytest", "-n", "2", "--dist", "loadfile", *SUITES]
        return subprocess.run(tests, check=False, cwd=CHECKOUT, env=environment).returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
