"""`make chaos`: play scenarios on fleets of their own, and check the invariants after each."""

import argparse
import asyncio
import pathlib
import sys
from collections.abc import Sequence

from rich import progress

from tests.benchmarks import report as output
from tests.chaos import report, runs, scenarios, waves

OUT = pathlib.Path("build/chaos.json")


def main() -> int:
    """Play what the command line asks for; returns 1 when an invariant does not hold."""
    options = _parse()
    chosen = [scenarios.SCENARIOS[name] for name in options.scenario or scenarios.SCENARIOS]
    chosen = [scenario for scenario in chosen if options.group in {None, scenario.group}]
    results: list[runs.Result] = []
    bar = progress.Progress(console=output.SCREEN, transient=True)
    with bar:
        task = bar.add_task("chaos", total=len(chosen) * options.seeds)
        for scenario in chosen:
            left = list(range(options.seed, options.seed + options.seeds))
            while left:
                bar.update(task, description=f"{scenario.name} --seed {left[0]}")
                played = asyncio.run(_play(scenario, left[: _together(scenario, options.together)], options.out))
                results += played
                left = left[len(played) :]
                bar.advance(task, len(played))
    report.show(results)
    return 0 if all(result.good for result in results) else 1


async def _play(scenario: waves.Scenario, seeds: Sequence[int], out: pathlib.Path) -> list[runs.Result]:
    """Play seeds on one fleet, up to the first failure; print the failures, and keep each result."""
    played = []
    async for result in runs.run_on_one_fleet(scenario, seeds):
        played.append(result)
        report.print_failures(result)
        report.keep(played, out)
    return played


def _together(scenario: waves.Scenario, most: int) -> int:
    """Return how many seeds may share a fleet: one if its clocks are moved, because they stay so."""
    return 1 if scenario.shape.clocks else most


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--scenario", action="append", choices=[*scenarios.SCENARIOS], metavar="NAME", help="may be repeated"
    )
    parser.add_argument("--group", help="links, servers, processes, discord or load")
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds for each scenario (default 1)")
    parser.add_argument("--seed", type=int, default=1, help="the first seed (default 1)")
    parser.add_argument(
        "--together", type=int, default=1, help="seeds of a scenario that share a fleet, for speed (default 1)"
    )
    parser.add_argument(
        "--out", type=pathlib.Path, help="JSON file for the results, merged with those in it", default=OUT
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
