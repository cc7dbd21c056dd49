"""
`make bench-callers`: a light caller alone, and beside one that indexes 80 users with 60 guilds each.

Both have a name in the tokens file. Measured is what the light one sees: its jobs of 4 and of 12 guilds, how late its
turns begin at the workers, the first message of a stream, and pages of channels. No guild is shared, so that neither
saves the other a call; the heavy one's 4,800 guilds take the whole limit for longer than the measurement. The light one
begins when all heavy jobs are started; a job of its own that takes 90 s is given up, and a goal is missed. With
`--one-name` both have the same name, which shows what the names change.
"""

import argparse
import asyncio
import contextlib
import hashlib
import os
import pathlib
import secrets
import sys
import tempfile
import urllib.request
from typing import Any

import pymongo

from devstack import stack, supervisor, users
from tests.benchmarks import facts, report
from tests.benchmarks.callers import load
from tests.system import conftest

OUT = pathlib.Path("docs/benchmarks/callers.json")
SCOPES = "index,read,credentials"
RATE = "500/1"
MOST_GUILDS = 60
SETTLE = 3.0
"""Seconds for which the heavy caller works before the light one begins."""
MOST_STARTING = 60.0
"""Seconds after which the light caller begins, though some of the heavy one's jobs are not started yet."""
MOST_RATIO, MOST_MORE, SHORT = 1.2, 0.5, 5.0
"""A job may take this many times as long as alone; one that is shorter than SHORT alone, so many seconds more."""
TURN = "indexer_turn_seconds"


def main() -> int:
    """Measure, print a table and write JSON; returns 1 when a goal is missed."""
    options = _options()
    tokens = {name: f"idx_{secrets.token_urlsafe(32)}" for name in ("light", "heavy")}
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "tokens"
        named = [("light" if options.one_name else name, token) for name, token in tokens.items()]
        digests = ((name, hashlib.sha256(token.encode()).hexdigest()) for name, token in named)
        file.write_text("".join(f"{name} {digest} {SCOPES} {RATE}\n" for name, digest in digests))
        with stack.Stack(_stack_options(options, file)) as running:
            found = asyncio.run(_measure(options, running, tokens))
    missed = _missed(found)
    title = "one name" if options.one_name else "two names"
    report.show(f"the light caller, {title}", [{"": name, **found[name]} for name in ("alone", "beside")])
    report.SCREEN.print(f"turns take {found['turn_s_mean']} s on average; missed: {', '.join(missed) or 'nothing'}")
    if options.out:
        report.merge(title, {"machine": facts.machine(), **found, "missed": missed}, options.out)
    return 1 if missed and not options.one_name else 0


def _stack_options(options: argparse.Namespace, file: pathlib.Path) -> stack.Options:
    return stack.Options(
        users=1 + 2 * len(_jobs(options)) + options.users,
        workers=options.workers,
        guilds_per_user=MOST_GUILDS,
        simulator=("--no-sharing", "--without-bot", "0", "--route-limit", "GET /users/@me/guilds=50/1"),
        environment={"LOG_LEVEL": "warning"},
        service_environment={"INDEXER_SERVICE_TOKENS_FILE": str(file)},
    )


def _jobs(options: argparse.Namespace) -> list[int]:
    """Return the guilds of each job of the light caller, alone and beside."""
    return [4] * options.rounds + [12] * options.rounds


async def _measure(options: argparse.Namespace, running: stack.Stack, tokens: dict[str, str]) -> dict[str, Any]:
    jobs, simulator = _jobs(options), conftest.Simulator(running.simulator_url)
    first, *others = running.users
    own, crowd = others[: 2 * len(jobs)], others[2 * len(jobs) :]
    light = load.Caller(running.address, tokens["light"])
    heavy = load.Caller(running.address, tokens["heavy"], channels=2 + options.users // load.STREAMS_PER_CHANNEL)
    people = [(first, 1), *zip(own, jobs * 2, strict=True)]
    await load.put_all(light, [first, *own])
    for user, guilds in people:
        await _mute_all_but(light, simulator, user, guilds)
    await load.put_all(heavy, crowd)
    with pymongo.MongoClient[Any](running.mongodb_url) as client:
        worker = load.Light(light, client[running.database])
        report.SCREEN.print("the light caller alone, after a job with which the bot's guilds are listed …")
        await worker.work(people[:1])
        alone = await worker.work(people[1 : 1 + len(jobs)])
        report.SCREEN.print("… and beside the heavy one …")
        load_before, busy = os.getloadavg(), load.Heavy(heavy, crowd, options.readers)
        async with busy.working():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(busy.all_started.wait(), MOST_STARTING)
            await asyncio.sleep(SETTLE)
            report.SCREEN.print(f"  {busy.started} of {len(crowd)} heavy jobs are started …")
            beside = await worker.work(people[1 + len(jobs) :])
    assert busy.ended < len(crowd), "the heavy caller was done before the measurement"
    await light.close()
    await heavy.close()
    return {
        "users": options.users,
        "started": busy.started,
        "given_up": alone.given_up + beside.given_up,
        "alone": alone.row(),
        "beside": beside.row(),
        "turn_s_mean": round(await asyncio.to_thread(_mean_turn, running), 3),
        "load": [round(load_before[0], 2), round(os.getloadavg()[0], 2)],
    }


async def _mute_all_but(light: load.Caller, simulator: conftest.Simulator, user: users.User, guilds: int) -> None:
    truth = await asyncio.to_thread(simulator.ask, f"truth/{user.id}")
    muted = [guild["id"] for guild in truth["guilds"]][guilds:]
    await light.call("UpdatePreferences", user_id=user.id, preferences={"muted_guild_ids": muted})


def _mean_turn(running: stack.Stack) -> float:
    """Return the mean seconds of a turn in the workers."""
    sums = {"sum": 0.0, "count": 0.0}
    for name, url in running.metrics_urls.items():
        if name.startswith("worker"):
            with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 -- loopback
                lines = answer.read().decode().splitlines()
            for key in sums:
                sums[key] += sum(float(line.split()[1]) for line in lines if line.startswith(f"{TURN}_{key} "))
    return sums["sum"] / max(1.0, sums["count"])


def _missed(found: dict[str, Any]) -> list[str]:
    """Return the figures that miss their goal."""
    alone, beside = found["alone"], found["beside"]
    missed = ["given_up"] if found["given_up"] else []
    if beside["turn_wait_ms_max"] > 1000 * found["turn_s_mean"]:
        missed.append("turn_wait_ms_max")
    for name, before in alone.items():
        if name.startswith("turn"):
            continue
        seconds = 1.0 if name.endswith("_s") else 0.001
        most = before * MOST_RATIO if before * seconds >= SHORT else before + MOST_MORE / seconds
        if beside[name] > most:
            missed.append(name)
    return missed


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=80, help="of the heavy caller")
    parser.add_argument("--workers", type=int, default=2, help="worker processes")
    parser.add_argument("--readers", type=int, default=2, help="concurrent reads of the heavy caller")
    parser.add_argument("--rounds", type=int, default=1, help="jobs of each size")
    parser.add_argument("--one-name", action="store_true", help="both callers have the same name")
    parser.add_argument("--out", type=pathlib.Path, default=OUT, help=f"file for the JSON (default {OUT})")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except supervisor.StackFailed as problem:
        sys.exit(f"{problem}\n" + "\n".join(problem.tail))
