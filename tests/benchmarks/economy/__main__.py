"""`make bench-economy`: run the simulations, write the report, and fail when a promise does not hold."""

import argparse
import concurrent.futures
import os
import pathlib
import sys
import tempfile

from rich import console, table

from indexing.telemetry import logs
from tests.benchmarks.economy import audits, fed, report, rush, week, world

USERS = (100, 300, 1_000, 2_000, 4_000)
FED_USERS = 1_000
DOCS = pathlib.Path(__file__).parents[3] / "docs" / "benchmarks"


def _quiet() -> None:
    logs.configure("error", "console")


def main() -> int:
    """Return 1 when a promise does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few users, for a quick look; checks no promise")
    parser.add_argument(
        "--out", type=pathlib.Path, help="folder for the report; docs/benchmarks, or a new one if quick"
    )
    chosen = parser.parse_args()
    sizes, fed_size, crowd = ((50, 150), 50, 40) if chosen.quick else (USERS, FED_USERS, 500)
    folder = chosen.out or (pathlib.Path(tempfile.mkdtemp()) if chosen.quick else DOCS)
    with concurrent.futures.ProcessPoolExecutor(min(2, os.cpu_count() or 1), initializer=_quiet) as pool:
        # The longest first, so that the processes finish at about the same time.
        weeks = {
            size: pool.submit(week.simulate_week, world.WorldSpec(users=size)) for size in sorted(sizes, reverse=True)
        }
        fed_weeks = [
            pool.submit(week.simulate_week, world.WorldSpec(users=fed_size), feed)
            for feed in (fed.Feed.CHANNELS, fed.Feed.ROLES)
        ]
        rushes = [pool.submit(rush.simulate_rush, crowd, lists_are_known=known) for known in (True, False)]
        found = report.write(
            folder,
            [weeks[size].result() for size in sizes],
            [each.result() for each in fed_weeks],
            [each.result() for each in rushes],
            audits.find_lost(world.WorldSpec(users=fed_size)),
        )
    drawn = table.Table("promise", "at most", "found", "kept", title=f"economy, {max(sizes):,} users")
    for each in found:
        drawn.add_row(each.what, each.limit, each.found, "yes" if each.kept else "NO")
    screen = console.Console()
    screen.print(drawn, f"{folder / 'economy.md'}, .json, .png")
    return 0 if chosen.quick or all(each.kept for each in found) else 1


if __name__ == "__main__":
    sys.exit(main())
