"""
`make bench-join`: one service process, callers in another, joins and empty calls by turns in the same run.

Every user has a running job that waits for quota, its guilds listed. The measure is the best rate of the joins over the
best rate of the empty calls: whoever else uses the machine slows both sides, but not evenly, so rounds are short and
many, and the middle of the rounds' ratios and of the server's processor time for each call are told as well.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import json
import pathlib
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator

from indexer_service.embedded import accounts
from indexer_service.v1 import indexer_pb2 as pb
from indexing import model
from tests.benchmarks import facts, product, report
from tests.benchmarks.join import empty

JOIN = "/indexer_service.v1.IndexerService/StartIndexing"
FIRST_USER = 700_000_000_000_000_000
HOUR = 3600.0
WANTED = 0.4
INDEXED = 5


def units(number: int) -> list[model.Unit]:
    """Return the guilds of one user, the first few of them indexed."""
    return [_unit(place, indexed=place < INDEXED) for place in range(number)]


def _unit(place: int, *, indexed: bool) -> model.Unit:
    return model.Unit(
        guild_id=FIRST_USER + place,
        name=f"A guild with a name of some length {place}",
        state=model.UnitState.SUCCEEDED if indexed else model.UnitState.QUEUED,
        step=model.Step.CHANNELS,
        position=place,
        score=0.5,
        attempts=0,
        retry_at=0.0,
        error="",
        channel_count=25 if indexed else None,
        revision=model.revision_of(1, place + 1),
    )


async def prepare(target: product.Product, users: int, guilds: int) -> list[bytes]:
    """Give every user a credential and a running job; returns a request for each."""
    ids = [FIRST_USER + number for number in range(users)]
    accounts.put_credentials(target.address, [accounts.User(str(user_id), "token") for user_id in ids])
    async with product.stores(target) as stores:
        for user_id in ids:
            await _start(stores, user_id, units(guilds))
    return [pb.StartIndexingRequest(user_id=str(user_id)).SerializeToString() for user_id in ids]


async def _start(stores: product.Stores, user_id: int, rows: list[model.Unit]) -> None:
    now = time.time()  # noqa: TID251 -- the service compares with its own
    planned = model.new_job(uuid.uuid4().hex, user_id, now=now, due=now + HOUR, force=False)
    await stores.jobs.start(planned)
    owned = await stores.jobs.begin_turn(planned.job_id, 0, now=now, until=now + HOUR)
    assert owned is not None
    await stores.jobs.add_units(owned, rows)
    current = await stores.jobs.get(planned.job_id)
    assert current is not None
    await stores.events.publish(model.Update(current, model.tally_of(rows), tuple(rows)))


@contextlib.contextmanager
def empty_server() -> Iterator[tuple[str, int]]:
    """Run the empty handler; yields its address and process."""
    command = [sys.executable, "-m", "tests.benchmarks.join.empty"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"127.0.0.1:{int(process.stdout.readline())}", process.pid
        finally:
            process.kill()


@dataclasses.dataclass(frozen=True, slots=True)
class Side:
    """One of the two that are compared."""

    address: str
    method: str
    pid: int


def measure(side: Side, requests: list[bytes], options: argparse.Namespace) -> dict[str, float]:
    """Let callers call for some seconds; returns what they saw, and the server's processor time for each call."""
    command = [sys.executable, "-m", "tests.benchmarks.join.callers", side.address, side.method]
    command += ["--seconds", str(options.seconds), "--callers", str(options.callers)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("".join(f"{request.hex()}\n" for request in requests))
        process.stdin.close()
        process.stdout.readline()  # warm
        before = facts.cpu_seconds(side.pid)
        found: dict[str, float] = json.loads(process.stdout.readline())
        return {**found, "cpu_us": 1e6 * (facts.cpu_seconds(side.pid) - before) / found["calls"]}


def rounds(options: argparse.Namespace) -> list[dict[str, float]]:
    """Measure both sides by turns."""
    found = []
    with product.serving() as target, empty_server() as (address, pid):
        requests = asyncio.run(prepare(target, options.users, options.guilds))
        sides = Side(address, empty.METHOD, pid), Side(target.address, JOIN, target.pid)
        for _ in range(options.rounds):
            nothing, join = (measure(side, requests, options) for side in sides)
            found.append(
                {
                    "empty_per_s": nothing["rate"],
                    "join_per_s": join["rate"],
                    "ratio": join["rate"] / nothing["rate"],
                    "empty_cpu_us": nothing["cpu_us"],
                    "join_cpu_us": join["cpu_us"],
                    "cpu_ratio": nothing["cpu_us"] / join["cpu_us"],
                    "join_p50_ms": join["p50_ms"],
                    "join_p99_ms": join["p99_ms"],
                }
            )
            report.show(f"round {len(found)}", found[-1:])
    return found


def main() -> int:
    """Measure, print a table and JSON; returns 1 when the ratio is below what is wanted."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--guilds", type=int, default=60)
    parser.add_argument("--callers", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=pathlib.Path, help="file for the JSON")
    options = parser.parse_args()
    before = facts.machine()
    found = rounds(options)
    best = max(row["join_per_s"] for row in found) / max(row["empty_per_s"] for row in found)
    report.show("join beside an empty handler", found)
    report.keep(
        {
            "machine": before,
            "load_after": facts.machine()["load"],
            "options": {key: value for key, value in vars(options).items() if key != "out"},
            "rounds": found,
            "ratio_of_best": best,
            "ratio_median": statistics.median(row["ratio"] for row in found),
            "cpu_ratio_median": statistics.median(row["cpu_ratio"] for row in found),
            "wanted": WANTED,
        },
        options.out,
    )
    return 0 if best >= WANTED else 1


if __name__ == "__main__":
    sys.exit(main())
