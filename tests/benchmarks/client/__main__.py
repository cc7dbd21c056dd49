"""
`make drill-client`: the client library watches jobs while services are killed and drained and connections are cut.

Its connections lead through a proxy to two services, which are killed, or drained by SIGTERM, and started again; the
proxy cuts all connections. A second client watches the same jobs at a third service, which nothing happens to. Both
must end with the same rows and the same final job, and the caller's code must see no error.
"""

import argparse
import asyncio
import dataclasses
import itertools
import pathlib
import random
import sys
import time
from typing import Any

import indexer_client
from devstack import stack, supervisor
from indexer_client import errors, pb
from tests import cutter
from tests.benchmarks import facts, report
from tests.system import conftest, test_resume_watching

OUT = pathlib.Path("docs/benchmarks/drill-client.json")
SPARED = 2
"""Index of the service that nothing happens to."""
BETWEEN = (0.05, 0.4)
"""Seconds between two troubles."""
GUILDS = 30


@dataclasses.dataclass(slots=True)
class Outcome:
    """What happened, and what the caller's code saw."""

    kills: int = 0
    drains: int = 0
    cuts: int = 0
    connections_cut: int = 0
    jobs: int = 0
    rows: int = 0
    errors: int = 0
    different: int = 0


async def make_trouble(running: stack.Stack, proxy: cutter.Cutter, plan: list[str], seen: Outcome) -> None:
    """Do everything that was planned, one after the other."""
    victims = itertools.cycle(["service-1", "service-2"])
    dice = random.Random(2)
    for what in plan:
        await asyncio.sleep(dice.uniform(*BETWEEN))
        if what == "cut":
            while not proxy.cut():  # noqa: ASYNC110 -- nothing is connected: that would be no trouble
                await asyncio.sleep(BETWEEN[0])
            seen.cuts += 1
            continue
        victim = next(victims)
        if what == "drain":
            await asyncio.to_thread(running.terminate, victim)
            seen.drains += 1
        else:
            await asyncio.to_thread(running.kill, victim)
            seen.kills += 1
        await asyncio.to_thread(running.restart, victim)


async def watch(client: indexer_client.AsyncClient, job_id: str) -> test_resume_watching.State:
    """Return the state of a job as a client saw it that followed it to its end."""
    state = test_resume_watching.State()
    async for event in client.watch(job_id):
        state.take(event)
    return state


async def drill(running: stack.Stack, plan: list[str]) -> Outcome:
    """Watch jobs until the plan is done."""
    seen, user = Outcome(), running.users[0].id
    async with (
        cutter.Cutter(running.addresses[:SPARED], every=0.0).running() as proxy,
        indexer_client.AsyncClient(f"127.0.0.1:{proxy.port}") as troubled,
        indexer_client.AsyncClient(running.addresses[SPARED]) as steady,
    ):
        trouble = asyncio.create_task(make_trouble(running, proxy, plan, seen))
        while not trouble.done():
            try:
                request = pb.StartIndexingRequest(user_id=user, force=True)
                job_id = (await troubled.api.StartIndexing(request)).job.job_id
                states = await asyncio.gather(watch(troubled, job_id), watch(steady, job_id))
            except errors.ClientError as problem:
                seen.errors += 1
                report.SCREEN.print(f"the caller saw: {problem}", highlight=False)
                continue
            seen.jobs += 1
            seen.rows += len(states[0].rows)
            seen.different += (states[0].rows, states[0].end) != (states[1].rows, states[1].end)
        await trouble
        seen.connections_cut = proxy.cuts
    return seen


def main() -> int:
    """Drill; returns 1 when the caller saw an error or another end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, count in (("kills", 20), ("drains", 20), ("cuts", 160)):
        parser.add_argument(f"--{name}", type=int, default=count, help=f"default {count}")
    parser.add_argument("--out", type=pathlib.Path, help=f"file for the JSON, e.g. {OUT}")
    given = parser.parse_args()
    plan = ["kill"] * given.kills + ["drain"] * given.drains + ["cut"] * given.cuts
    random.Random(1).shuffle(plan)
    options = stack.Options(
        services=3,
        guilds_per_user=GUILDS,
        latency="5-20",
        simulator=("--user-limit", "3/1"),
        environment={**conftest.FAST, "USER_BUDGET": "3/1"},
    )
    began = time.monotonic()
    with stack.Stack(options) as running:
        running.put_credentials()
        seen = asyncio.run(drill(running, plan))
    found: dict[str, Any] = {"machine": facts.machine(), "seconds": round(time.monotonic() - began)}
    found |= dataclasses.asdict(seen)
    report.show("a client under trouble", [dataclasses.asdict(seen)])
    report.keep(found, given.out)
    return int(bool(seen.errors or seen.different or not seen.jobs))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except supervisor.StackFailed as problem:
        sys.exit(f"{problem}\n" + "\n".join(problem.tail))
