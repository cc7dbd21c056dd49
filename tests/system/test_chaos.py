"""The short form of `make chaos`: six scenarios on one fleet, with one seed."""

import asyncio

import pytest

from tests.chaos import fleet, runs, scenarios, waves

SEED = 1
PACE = 0.5
"""Faults take half as long, and so does the time-out that one of them must outlast."""
SMALL = fleet.Shape(users=4, guilds=8, pool=20, settings={"MONGODB_TIMEOUT": "2"})


async def play_all() -> dict[str, list[str]]:
    """Play the scenarios one after the other; returns the failures by scenario."""
    found: dict[str, list[str]] = {}
    async with fleet.Fleet(SMALL, SEED).running() as running:
        for number, name in enumerate(scenarios.SHORT):
            scenario = scenarios.SCENARIOS[name]
            stage = await waves.run_scenario(scenario, running, SEED, again=number > 0, pace=PACE)
            verdicts = runs.judge(scenario, stage.seen)
            found[name] = [line for verdict in verdicts.values() for line in verdict.failures]
        found["drain"] = await waves.drain(running)
    return found


@pytest.mark.timeout(240)
def test_all_invariants_hold_after_each_fault() -> None:
    """No limit is exceeded, every job ends, stored data are right, and nothing crashes or grows."""
    found = asyncio.run(play_all())

    assert found == {name: [] for name in (*scenarios.SHORT, "drain")}
