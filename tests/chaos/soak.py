"""`make soak`: a fleet at its full budget for half an hour, with a random fault every ten seconds."""

import argparse
import asyncio
import contextlib
import json
import math
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any

from rich import progress

from tests.benchmarks import facts
from tests.benchmarks import report as output
from tests.chaos import callers, fleet, play, runs, scenarios, sizes, waves

EVERY = 10.0
"""Seconds from the beginning of one fault to that of the next."""
SAMPLE = 15.0
"""Seconds between two measurements of the processes."""
SHAPE = fleet.Shape(users=40, guilds=20, pool=200, rate=50, settings={"LIMITER_HOLD": "4"})
FAULTS = [
    scenario
    for scenario in scenarios.SCENARIOS.values()
    if scenario.group != "load" and scenario.shape is fleet.USUAL and scenario.ends == ("SUCCEEDED",)
]
"""Faults of a usual fleet after which all jobs succeed."""
LEFT_OUT = frozenset({"late-rights", "moving-world", "rolling-restart"})
"""Scenarios that change Discord's data, or take longer."""
LIFTED = frozenset({"expired-tokens", "limited-by-edge"})
"""
Faults after which an operator lifts stops.

All tokens expire at once, so that two or three plays within ten minutes make the 500 invalid requests that stop bulk
work. The limiter's count begins anew with a lift.
"""
LOSES_ANSWERS = ("links", "servers", "processes")
"""Groups of faults that may lose the answer with a user's new refresh token, so that they must consent again."""
LOST_FOR = 60.0
"""Seconds after such a fault in which a job may end so: the lock of a renewal, and the attempts to store the pair."""
ENDS = ("SUCCEEDED", "SUCCEEDED_WITH_ERRORS")
FIGURES = ("minutes", "calls", "share_of_the_budget", "share_without_faults", "jobs", "consents")
"""Figures of the report that are printed."""
STATED = waves.Scenario("soak", "soak", "Nothing grows at the full budget.", FAULTS[0].run, SHAPE, ENDS)


class Soak:
    """Load, faults and measurements of one soak."""

    def __init__(self, stage: play.Play, seconds: float) -> None:
        self.stage = stage
        self.samples: list[dict[str, float]] = []
        self.played: list[tuple[str, float, float]] = []
        """Faults: name, monotonic seconds of the beginning and of the end."""
        self.consents: list[str] = []
        """Jobs that a fault ended with REAUTH_REQUIRED: their users consented again."""
        self._may_lose_until = 0.0
        self._ends_at = time.monotonic() + seconds

    async def run(self) -> None:
        """Run until the time is over and all jobs have ended."""
        await asyncio.gather(*map(self._index, self.stage.users), self._break(), self._measure())

    async def _index(self, user: str) -> None:
        """Index one user again and again, with a watcher for each job."""
        while time.monotonic() < self._ends_at:
            job_id = await self.stage.load.start(user, force=True)
            if not job_id:
                continue
            seen = await self.stage.load.watch(job_id)
            if seen.error == "REAUTH_REQUIRED":
                await self.stage.consent(user)
                if time.monotonic() < self._may_lose_until:
                    self.consents.append(job_id)
                    continue
            self.stage.seen.jobs[job_id] = user
            self.stage.seen.stored[job_id] = (seen.state, 0)
            # Rows are kept only where they say something.
            self.stage.seen.watched.append(seen)

    async def _break(self) -> None:
        chosen = [scenario for scenario in FAULTS if scenario.name not in LEFT_OUT]
        with progress.Progress(console=output.SCREEN, transient=True) as bar:
            task = bar.add_task("soak", total=self._ends_at - time.monotonic())
            while (began := time.monotonic()) < self._ends_at - EVERY:
                scenario = self.stage.dice.choice(chosen)
                bar.update(task, description=scenario.name)
                loses = scenario.group in LOSES_ANSWERS
                self._may_lose_until = math.inf if loses else self._may_lose_until
                # A fault that takes longer delays the next one: half a fault would leave its server or its stop behind.
                await scenario.run(self.stage)
                await self.stage.do(self._mend)
                if scenario.name in LIFTED:
                    await self.stage.do(self.stage.fleet.run_command, "service-1", "stops", "lift")
                ended = time.monotonic()
                self._may_lose_until = ended + LOST_FOR if loses else self._may_lose_until
                self.played.append((scenario.name, began, ended))
                self.stage.load.until = max(self.stage.load.until, ended + scenario.patience)
                await self.stage.pause(max(0.0, began + EVERY - time.monotonic()))
                bar.advance(task, time.monotonic() - began)

    def _mend(self) -> None:
        """End what the fault left behind."""
        for name in ["valkey", "mongodb", *self.stage.fleet.processes]:
            if self.stage.fleet.is_down(name):
                self.stage.fleet.restart(name)
            self.stage.fleet.signal(name, 18)
        with self.stage.fleet.redis() as client:
            client.replicaof("NO", "ONE")
            client.config_set("maxmemory", "0")
            client.config_set("min-replicas-to-write", "0")
        self.stage.heal()

    async def _measure(self) -> None:
        while time.monotonic() < self._ends_at:
            with contextlib.suppress(Exception):
                self.samples.append(await self.stage.do(sizes.of, self.stage.fleet))
            await asyncio.sleep(SAMPLE)


async def soak(minutes: float, seed: int) -> dict[str, Any]:
    """Run a soak; returns its report."""
    async with fleet.Fleet(SHAPE, seed).running() as running:
        load = callers.Callers(running.callers_addresses)
        load.until = time.monotonic() + 60 * minutes + waves.HEALED
        stage = play.Play(running, load, seed)
        stage.seen.ends = ENDS
        began = time.monotonic()
        made = Soak(stage, 60 * minutes)
        await made.run()
        seconds = time.monotonic() - began
        stats = await stage.do(stage.discord, "stats?log=1")
        offset = time.monotonic() - stats["now"] - began
        waves.read_arrivals(stage, stats)
        await load.close()
        stage.seen.crashes = list(running.crashes)
        stage.seen.processes = len(running.processes)
        stage.seen.late = await waves.drain(running)
    verdicts = runs.judge(STATED, stage.seen)
    return {
        "machine": facts.machine(),
        "minutes": round(seconds / 60, 1),
        "seed": seed,
        "faults": [name for name, *_ in made.played],
        "calls": stats["calls"],
        "share_of_the_budget": round(stats["calls"] / (SHAPE.rate * seconds), 3),
        "share_without_faults": share_without_faults(
            [each.at + offset for each in stage.seen.arrivals],
            [(start - began, end - began) for _, start, end in made.played],
            seconds=int(60 * minutes),
        ),
        "jobs": len(stage.seen.jobs),
        "consents": len(made.consents),
        "growth": growth(made.samples),
        "verdicts": {name: {"checked": one.checked, "failures": one.failures} for name, one in verdicts.items()},
    }


def share_without_faults(
    arrivals: Sequence[float], faults: Sequence[tuple[float, float]], *, seconds: int, rate: int = SHAPE.rate
) -> float:
    """Return the share of the budget that is used in the seconds that no fault touches; all times since the start."""
    quiet = {second for second in range(seconds) if not any(a < second + 1 and second < b for a, b in faults)}
    calls = sum(math.floor(at) in quiet for at in arrivals)
    return round(calls / (rate * len(quiet)), 3) if quiet else 0.0


def growth(samples: Sequence[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Return the mean of the second and of the last fifth of the samples for each size, and the maximum."""
    part = max(1, len(samples) // 5)
    early, late = samples[part : 2 * part] or samples, samples[-part:]
    return {
        what: {
            "early": round(sum(one.get(what, 0.0) for one in early) / len(early), 1),
            "late": round(sum(one.get(what, 0.0) for one in late) / len(late), 1),
            "most": max(one.get(what, 0.0) for one in samples),
        }
        for what in samples[-1]
    }


def main() -> int:
    """Soak, print a table and write JSON; returns 1 when an invariant does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("build/soak.json"))
    options = parser.parse_args()
    found = asyncio.run(soak(options.minutes, options.seed))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    output.show("sizes", [{"what": what, **sizes_} for what, sizes_ in found["growth"].items()])
    output.SCREEN.print({key: found[key] for key in FIGURES})
    failures = {name: one["failures"][:5] for name, one in found["verdicts"].items() if one["failures"]}
    output.SCREEN.print(failures or "all invariants hold")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
