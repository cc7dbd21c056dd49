"""One run of a scenario on a fleet of its own, and its result."""

import dataclasses
import time
from collections.abc import Mapping

from devstack import supervisor
from tests.chaos import fleet, invariants, waves


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    """
    The verdicts of one run, by invariant.

    Attributes:
        notes: Facts for the report.
    """

    scenario: str
    seed: int
    seconds: float
    verdicts: Mapping[str, invariants.Verdict]
    notes: Mapping[str, object]

    @property
    def good(self) -> bool:
        """Whether all invariants hold."""
        return not any(verdict.failures for verdict in self.verdicts.values())


async def run(scenario: waves.Scenario, seed: int) -> Result:
    """Run a scenario with a seed on a fleet of its own."""
    began = time.monotonic()
    async with fleet.Fleet(scenario.shape, seed).running() as running:
        try:
            stage = await waves.run_scenario(scenario, running, seed)
            stage.seen.late = await waves.drain(running)
        except supervisor.StackFailed as failed:
            return _failed(scenario, seed, time.monotonic() - began, failed)
        notes = {**stage.notes, "faults": stage.faults}
    return Result(scenario.name, seed, time.monotonic() - began, judge(scenario, stage.seen), notes)


def judge(scenario: waves.Scenario, seen: invariants.Seen) -> dict[str, invariants.Verdict]:
    """Return the verdicts of all invariants from which the scenario is not excused."""
    return {name: check(seen) for name, check in invariants.INVARIANTS.items() if name not in scenario.excused}


def _failed(scenario: waves.Scenario, seed: int, seconds: float, failed: supervisor.StackFailed) -> Result:
    verdict = invariants.Verdict(1, [str(failed), *failed.tail])
    return Result(scenario.name, seed, seconds, {"I7": verdict}, {})
