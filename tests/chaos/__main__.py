"""`make chaos`: play scenarios on fleets of their own, and check the invariants after each."""

import argparse
import asyncio
import pathlib
import sys

from rich import progress

from tests.benchmarks import report as output
from tests.chaos import report, runs, scenarios

OUT = pathlib.Path("build/chaos.json")


def main() -> int:
    """Play what the command line asks for; returns 1 when an invariant does not hold."""
    options = _parse()
    chosen = [scenarios.SCENARIOS[name] for name in options.scenario or scenarios.SCENARIOS]
    chosen = [scenario for scenario in chosen if options.group in {None, scenario.group}]
    rounds = [(scenario, seed) for scenario in chosen for seed in range(options.seed, options.seed + options.seeds)]
    results = []
    bar = progress.Progress(console=output.SCREEN, transient=True)
    with bar:
        task = bar.add_task("chaos", total=len(rounds))
        for scenario, seed in rounds:
            bar.update(task, description=f"{scenario.name} --seed {seed}")
            results.append(asyncio.run(runs.run(scenario, seed)))
            report.print_failures(results[-1])
            report.keep(results, options.out)
            bar.advance(task)
    report.show(results)
    return 0 if all(result.good for result in results) else 1


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--scenario", action="append", choices=[*scenarios.SCENARIOS], metavar="NAME", help="may be repeated"
    )
    parser.add_argument("--group", help="links, servers, processes, discord or load")
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds for each scenario (default 1)")
    parser.add_argument("--seed", type=int, default=1, help="the first seed (default 1)")
    parser.add_argument(
        "--out", type=pathlib.Path, help="JSON file for the results, merged with those in it", default=OUT
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
