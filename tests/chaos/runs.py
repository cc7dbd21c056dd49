"""Runs of a scenario, on one fleet or on several, and their results."""

import dataclasses
import time
from collections.abc import AsyncIterator, Mapping, Sequence

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
    (result,) = [result async for result in run_on_one_fleet(scenario, [seed])]
    return result


async def run_on_one_fleet(scenario: waves.Scenario, seeds: Sequence[int]) -> AsyncIterator[Result]:
    """
    Run a scenario with several seeds on one fleet, whose world has the first seed.

    After a failure the fleet plays no further seed, because it may be broken; the last run ends with the drain.

    Yields:
        A result for each seed that was played.
    """
    async with fleet.Fleet(scenario.shape, seeds[0]).running() as running:
        for number, seed in enumerate(seeds):
            began = time.monotonic()
            running.crashes.clear()
            try:
                stage = await waves.run_scenario(scenario, running, seed, again=number > 0)
                good = all(not verdict.failures for verdict in judge(scenario, stage.seen).values())
                if last := (not good or seed == seeds[-1]):
                    stage.seen.late = await waves.drain(running)
            except supervisor.StackFailed as failed:
                yield _failed(scenario, seed, time.monotonic() - began, failed)
                return
            notes = {**stage.notes, "faults": stage.faults, "fleet": seeds[0]}
            yield Result(scenario.name, seed, time.monotonic() - began, judge(scenario, stage.seen), notes)
            if last:
                return


def judge(scenario: waves.Scenario, seen: invariants.Seen) -> dict[str, invariants.Verdict]:
    """Return the verdicts of all invariants from which the scenario is not excused."""
    return {name: check(seen) for name, check in invariants.INVARIANTS.items() if name not in scenario.excused}


def _failed(scenario: waves.Scenario, seed: int, seconds: float, failed: supervisor.StackFailed) -> Result:
    verdict = invariants.Verdict(1, [str(failed), *failed.tail])
    return Result(scenario.name, seed, seconds, {"I7": verdict}, {})
