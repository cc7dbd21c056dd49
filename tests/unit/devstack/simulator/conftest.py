"""Fixtures of the simulator's own tests."""

import pytest

from tests.unit.devstack.simulator import bench


@pytest.fixture
def sim() -> bench.Bench:
    """One user in six guilds, all limits enforced."""
    return bench.Bench("--guilds-per-user", "6", "--channels-per-guild", "10", "--without-bot", "0.4")
