"""Excludes these tests from ordinary runs: they need Debian's redis-server and redis-sentinel, and some minutes."""

import contextlib
import os
import shutil
from collections.abc import Iterator

import pytest

if os.environ.get("FAILOVER") != "1":  # noqa: TID251 -- for the tests, not for the product
    collect_ignore_glob = ["*"]


@pytest.fixture(autouse=True, scope="session")
def programs() -> None:
    """Skip where the programs are missing; fail in CI."""
    missing = [name for name in ("redis-server", "redis-sentinel") if shutil.which(name) is None]
    if missing:
        ours = os.environ.get("CI") == "true"  # noqa: TID251 -- as above
        (pytest.fail if ours else pytest.skip)(f"{missing} missing: apt-get install redis-server redis-sentinel")


@pytest.fixture
def stack() -> Iterator[contextlib.ExitStack]:
    """Close what a test opened."""
    with contextlib.ExitStack() as opened:
        yield opened
