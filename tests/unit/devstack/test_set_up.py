"""When `.venv` is current, which interpreter it can have, and what is shown while packages are installed."""

import os
import pathlib
import subprocess
import sys

import pytest

from devstack import set_up

CHECKOUT = pathlib.Path(__file__).parents[3]
STAMP = {"lock": "1", "project": "2", "asked": "/usr/bin/python3.14", "version": "3.14.0"}
MADE = {**STAMP, "made_with": "/usr 3.13.0", "serves": "demo"}


def test_an_environment_is_current_when_nothing_has_changed() -> None:
    """For the demo; the tests need more packages, and what serves the tests serves the demo."""
    assert set_up.is_current(MADE, STAMP, "demo")
    assert not set_up.is_current(MADE, STAMP, "tests")
    assert set_up.is_current({**MADE, "serves": "tests"}, STAMP, "demo")


@pytest.mark.parametrize("changed", ["lock", "project", "asked", "version"])
def test_an_environment_is_old_when_interpreter_or_lock_changed(changed: str) -> None:
    """Also when only the project's own dependencies or commands did."""
    assert not set_up.is_current(MADE, {**STAMP, changed: "other"}, "demo")


def test_an_environment_is_old_when_it_has_no_stamp() -> None:
    """It was not made by this program, or not to its end."""
    assert not set_up.is_current({}, STAMP, "demo")


def test_the_newest_python_with_a_wheel_is_read_from_the_lock() -> None:
    """None when the lock names no limit: any interpreter will do."""
    text = "secantusdb==0.7.0b3 ; python_full_version < '3.14' \\\n    --hash=sha256:0\n"

    assert set_up.newest_minor(text) == 13
    assert set_up.newest_minor("secantusdb==0.8.0 \\\n") is None
    assert set_up.newest_minor((CHECKOUT / "devstack/demo.lock").read_text("utf-8")) == 13


def test_progress_counts_the_packages_that_are_installed() -> None:
    """Those that the lock has for other Pythons are left out of the total."""
    output = [
        "Ignoring numpy: markers 'python_full_version >= \"3.12\"' don't match your environment",
        "Collecting aiohttp==3.14.5 (from -r requirements.lock (line 4))",
        "  Downloading aiohttp-3.14.5-cp311-cp311-manylinux.whl (1.7 MB)",
        "Collecting redis[hiredis]==8.1.0",
        "Installing collected packages: aiohttp, redis",
    ]

    assert list(set_up.count_packages(output, total=3)) == [
        "fetching package 1 of 2: aiohttp",
        "fetching package 2 of 2: redis[hiredis]",
        "installing 2 packages",
    ]


def test_what_to_type_is_said_first_when_no_interpreter_can_be_had(tmp_path: pathlib.Path) -> None:
    """Nothing is installed, and the advice works: a name for make, or a MongoDB of one's own."""
    (tmp_path / "uv").write_text("#!/bin/sh\necho 'error: no connection' >&2\nexit 2\n")
    (tmp_path / "uv").chmod(0o755)
    program = "import sys\nfrom devstack import set_up\nsys.version_info = type('V', (), {'major': 3, 'minor': 14})\n"
    program += "try: set_up.choose_python()\nexcept set_up.CannotSetUp as e: print(e)"

    environment = {**os.environ, "PATH": str(tmp_path), "PYTHONPATH": str(CHECKOUT)}  # noqa: TID251 -- passed on
    environment.pop("MONGODB_URL", None)
    environment.pop("TEST_MONGODB_URL", None)
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, env=environment)

    assert done.stdout.splitlines() == [
        "set-up: the embedded MongoDB has no wheel for Python 3.14; fetching Python 3.13 with uv",
        (
            "The embedded MongoDB needs Python 3.13 or older, this is Python 3.14, and none can be fetched "
            "(error: no connection)."
        ),
        "Install Python 3.13 and type:      make PYTHON=python3.13 demo",
        "or name a MongoDB of your own:     make MONGODB_URL=mongodb://127.0.0.1:27017 demo",
    ]
