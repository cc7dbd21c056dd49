"""
`make bench-join`: one service process, callers in another, joins and empty calls alternately in the same run.

Every user has a running job that waits for quota and whose guilds are listed. The service requires a token, so that all
interceptors run; the empty handler gets the same metadata. One process calls both alternately for half a second each,
because other load on the machine slows both sides, but never evenly for long.

The result is the median of the rounds' ratios of calls per second. Callers use CPU time as well and hide a part of the
servers' cost, so the ratio of the servers' CPU time per call has to reach the same value.
"""

import argparse
import asyncio
import contextlib
import hashlib
import json
import pathlib
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator

from indexer_service.v1 import indexer_pb2 as pb
from indexing.domain import job_updates, model
from tests.benchmarks import facts, product, report
from tests.benchmarks.join import empty

JOIN = "/indexer_service.v1.IndexerService/StartIndexing"
FIRST_USER = 700_000_000_000_000_000
HOUR = 3600.0
TARGET_RATIO = 0.4
INDEXED = 5


def make_tasks(number: int) -> list[model.GuildTask]:
    """Return the guild tasks of one user, the first of them done."""
    return [_make_task(place, indexed=place < INDEXED) for place in range(number)]


def _make_task(place: int, *, indexed: bool) -> model.GuildTask:
    return model.GuildTask(
        guild_id=FIRST_USER + place,
        name=f"A guild with a name of some length {place}",
        state=model.TaskState.SUCCEEDED if indexed else model.TaskState.QUEUED,
        step=model.Step.CHANNELS,
        position=place,
        attempts=0,
        retry_at=0.0,
        reason="",
        channel_count=25 if indexed else None,
        revision=job_updates.revision_of(1, place + 1),
    )


async def prepare(target: product.Product, users: int, guilds: int) -> list[bytes]:
    """Create a running job for every user; returns a request for each."""
    ids = [FIRST_USER + number for number in range(users)]
    async with product.stores(target) as stores:
        for user_id in ids:
            await _start(stores, user_id, make_tasks(guilds))
    return [pb.StartIndexingRequest(user_id=str(user_id)).SerializeToString() for user_id in ids]


async def _start(stores: product.Stores, user_id: int, rows: list[model.GuildTask]) -> None:
    now = time.time()  # noqa: TID251 -- the service compares with its own
    planned = model.new_job(uuid.uuid4().hex, user_id, now=now, due=now + HOUR, force=False)
    await stores.jobs.create_or_join(planned)
    owned = await stores.jobs.begin_turn(planned.job_id, 0, now=now, until=now + HOUR)
    assert owned is not None
    await stores.jobs.add_tasks(owned[0], rows)
    current = await stores.jobs.get(planned.job_id)
    assert current is not None
    await stores.events.publish(job_updates.JobUpdate(current, job_updates.tally_of(rows), tuple(rows)))


@contextlib.contextmanager
def empty_server() -> Iterator[tuple[str, int]]:
    """Run the empty handler; yields its address and process id."""
    command = [sys.executable, "-m", "tests.benchmarks.join.empty"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"127.0.0.1:{int(process.stdout.readline())}", process.pid
        finally:
            process.kill()


@contextlib.contextmanager
def service(token: str) -> Iterator[product.Product]:
    """Run the service with this token."""
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "tokens"
        file.write_text(f"bench {hashlib.sha256(token.encode()).hexdigest()} index,read 100000/0.001\n")
        with product.serving({"INDEXER_SERVICE_TOKENS_FILE": str(file)}) as target:
            yield target


def measure(sides: list[list[str]], requests: list[bytes], options: argparse.Namespace) -> list[dict[str, float]]:
    """Call both sides alternately; returns the figures of each round."""
    command = [sys.executable, "-m", "tests.benchmarks.join.callers", "--token", options.token]
    command += ["--seconds", str(options.seconds), "--callers", str(options.callers), "--rounds", str(options.rounds)]
    for side in sides:
        command += ["--side", *side]
    lines = "".join(f"{request.hex()}\n" for request in requests)
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=True)
    found = []
    for line in done.stdout.splitlines():
        nothing, join = json.loads(line)
        row = {"ratio": join["per_s"] / nothing["per_s"]}
        row |= {f"empty_{name}": nothing[name] for name in ("per_s", "cpu_us")}
        found.append(row | {f"join_{name}": value for name, value in join.items()})
    return found


def figures(found: list[dict[str, float]]) -> dict[str, float]:
    """Return the figures of all rounds; CPU time has a resolution of 10 ms, so it is added up."""
    cpu = {
        side: sum(row[f"{side}_cpu_us"] * row[f"{side}_per_s"] for row in found)
        / sum(row[f"{side}_per_s"] for row in found)
        for side in ("empty", "join")
    }
    return {
        "ratio_median": statistics.median(row["ratio"] for row in found),
        "ratio_of_best": max(row["join_per_s"] for row in found) / max(row["empty_per_s"] for row in found),
        "cpu_ratio": cpu["empty"] / cpu["join"],
        "empty_cpu_us": cpu["empty"],
        "join_cpu_us": cpu["join"],
        "join_p50_ms": statistics.median(row["join_p50_ms"] for row in found),
        "join_p99_ms": statistics.median(row["join_p99_ms"] for row in found),
    }


def main() -> int:
    """Measure, print a table and JSON; returns 1 when a ratio is below the target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--guilds", type=int, default=60)
    parser.add_argument("--callers", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each side in a round")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--out", type=pathlib.Path, help="file for the JSON")
    options = parser.parse_args()
    options.token = f"idx_{secrets.token_urlsafe(32)}"
    before = facts.machine()
    with service(options.token) as target, empty_server() as (address, pid):
        requests = asyncio.run(prepare(target, options.users, options.guilds))
        sides = [[address, empty.METHOD, str(pid)], [target.address, JOIN, str(target.pid)]]
        found = measure(sides, requests, options)
    together = figures(found)
    good = together["ratio_median"] >= TARGET_RATIO and together["cpu_ratio"] >= TARGET_RATIO
    report.show("join beside an empty handler", [together])
    report.keep(
        {
            "machine": before,
            "load_after": facts.machine()["load"],
            "options": {key: value for key, value in vars(options).items() if key not in {"out", "token"}},
            "found": together,
            "rounds": found,
            "wanted": TARGET_RATIO,
            "good": good,
        },
        options.out,
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
