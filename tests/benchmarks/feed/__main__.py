"""`make bench-feed`: start-up with 2,500 guilds on one shard, events a second, deploys and crashes."""

import argparse
import asyncio
import pathlib

from tests.benchmarks import facts, report
from tests.benchmarks.feed import moves, start

PARTS = ("start", "moves")


def main() -> None:
    """Measure, and print tables and JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--guilds", type=int, default=start.GUILDS)
    parser.add_argument("--channels", type=int, default=start.CHANNELS)
    parser.add_argument("--events", type=int, default=start.EVENTS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=pathlib.Path, help="file for the JSON; each part replaces its own")
    chosen = parser.parse_args()
    for part in chosen.only:
        machine = facts.machine()
        if part == "start":
            found = [asyncio.run(start.measure(chosen.guilds, chosen.channels, chosen.events))]
        else:
            found = asyncio.run(moves.measure(chosen.rounds))
        report.show(part, found)
        kept = {"machine": machine, "load_after": facts.machine()["load"], "found": found}
        report.keep(kept, None)
        if chosen.out is not None:
            report.merge(part, kept, chosen.out)


if __name__ == "__main__":
    main()
