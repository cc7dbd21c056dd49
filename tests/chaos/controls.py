"""
`make chaos-controls`: break the product on purpose, once for each invariant, and see whether the harness finds it.

Each control changes one place of a copy of the product and plays a scenario that holds without the change.
"""

import argparse
import asyncio
import dataclasses
import json
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Mapping

from tests.benchmarks import facts
from tests.benchmarks import report as output
from tests.chaos import fleet, runs, scenarios

ROOT = pathlib.Path(__file__).parents[2]
OUT = pathlib.Path("build/chaos-controls.json")
PACKAGES = ("indexing", "indexer_service", "workers")
SMALL = fleet.Shape(users=6, guilds=10, pool=30, rate=15)


@dataclasses.dataclass(frozen=True, slots=True)
class Control:
    """
    A break of the product.

    Attributes:
        invariant: The one that must fail.
        what: What the break does, in one sentence.
        scenario: Name of the scenario that is played.
        edits: New text by old text, by path. Each old text is in its file once.
    """

    invariant: str
    what: str
    scenario: str
    edits: Mapping[str, Mapping[str, str]]


CONTROLS = [
    Control(
        "I1",
        "Each process counts permits for itself.",
        "pages-under-change",
        {
            "indexing/ratelimit/limits.py": {
                'self.tag = f"{{dl:{application}}}:"': ("import os; self.tag = f'{{dl:{application}{os.getpid()}}}:'")
            }
        },
    ),
    Control(
        "I2",
        "A cancelled job keeps its open tasks.",
        "cancel-storm",
        {
            "indexing/store/jobs.py": {" if job_state.terminal else found": " if False else found"},
            "indexing/usecases/control_job.py": {
                "open_tasks = (task for task in tasks if not task.state.terminal)": "open_tasks = ()"
            },
        },
    ),
    Control(
        "I3",
        "A forced job is content with channels that were fetched before it.",
        "pages-under-change",
        {
            "indexing/usecases/fetch_guild.py": {
                "        if work.job.force:\n            return": "        if False:\n            return"
            }
        },
    ),
    Control(
        "I4",
        "Pages show all channels of a guild.",
        "pages-under-change",
        {
            "indexing/domain/permissions.py": {
                "return [place for place, channel in enumerate(channels) if channel.channel_id in shown]": (
                    "return list(range(len(channels)))"
                )
            }
        },
    ),
    Control(
        "I5",
        "Each message to a watcher lacks its first guild.",
        "pages-under-change",
        {
            "indexing/usecases/watch_job.py": {
                "return dataclasses.replace(update, tasks=tasks), guild_ids": (
                    "return dataclasses.replace(update, tasks=tasks[1:]), guild_ids"
                )
            }
        },
    ),
    Control(
        "I5",
        "A watcher that resumes after the end gets no snapshot.",
        "pages-under-change",
        {"indexing/usecases/watch_job.py": {"            if job.state.terminal:\n": "            if False:\n"}},
    ),
    Control(
        "I6",
        "A guild is fetched for each of its users.",
        "pages-under-change",
        {
            "indexing/usecases/fetch_guild.py": {
                "return freshness.is_fresh(guild, now=self._deps.clock(), max_age=self._config.max_age)": (
                    "return False"
                ),
                "else now - self._config.max_age": "else now",
            }
        },
    ),
    Control(
        "I7",
        "Each call to Discord leaves 4 MiB in memory.",
        "pages-under-change",
        {
            "indexing/discord/client.py": {
                "        permit = await self._take_permit(call, charge)\n": (
                    "        permit = await self._take_permit(call, charge)\n"
                    "        self._kept = [*getattr(self, '_kept', ()), b'x' * (4 << 20)]\n"
                )
            }
        },
    ),
]


def make_broken(control: Control, folder: pathlib.Path) -> None:
    """Copy the product into a folder, and break the copy."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name, edits in control.edits.items():
        path = folder / name
        text = path.read_text(encoding="utf-8")
        for old, new in edits.items():
            if text.count(old) != 1:
                raise LookupError(f"{name} has {text.count(old)} x {old!r}")
            text = text.replace(old, new)
        path.write_text(text, encoding="utf-8")


async def play(control: Control, seed: int) -> runs.Result:
    """Play the control's scenario on a fleet of the broken product."""
    scenario = scenarios.SCENARIOS[control.scenario]
    with tempfile.TemporaryDirectory(prefix="chaos-control-") as folder:
        make_broken(control, pathlib.Path(folder))
        shape = dataclasses.replace(SMALL, code=folder)
        return await runs.run(dataclasses.replace(scenario, shape=shape, patience=20.0), seed)


def main() -> int:
    """Play the controls, print a table and write JSON; returns 1 when a break is not found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--invariant", action="append", help="may be repeated (default: all)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=pathlib.Path, default=OUT)
    options = parser.parse_args()
    rows = []
    for control in CONTROLS:
        if options.invariant and control.invariant not in options.invariant:
            continue
        result = asyncio.run(play(control, options.seed))
        failures = {name: len(verdict.failures) for name, verdict in result.verdicts.items() if verdict.failures}
        said = result.verdicts[control.invariant].failures[:1]
        row = {"invariant": control.invariant, "break": control.what, "scenario": control.scenario}
        rows.append({**row, "found": bool(said), "says": "".join(said), "failures": json.dumps(failures)})
        output.show(control.invariant, rows[-1:])
    options.out.parent.mkdir(parents=True, exist_ok=True)
    document = {"machine": facts.machine(), "seed": options.seed, "controls": rows}
    options.out.write_text(json.dumps(document, indent=1) + "\n")
    return 0 if all(row["found"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
