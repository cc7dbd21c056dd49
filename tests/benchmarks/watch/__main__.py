"""
`make bench-watch`: one service process, 1,000 jobs with progress, 5,000 streams in other processes.

Progress is published as workers publish it: by default 100 updates per second over all jobs, two for each guild at the
50 calls per second that Discord allows one bot. It measures the service's memory (RSS) per watcher, the time from
publishing a row to its arrival at the client, and whether every watcher gets the terminal event.
"""

import argparse
import asyncio
import dataclasses
import json
import pathlib
import subprocess
import sys
import time
import uuid

from indexing.domain import job_updates, model
from tests.benchmarks import facts, product, report
from tests.benchmarks.watch import watchers

FIRST_USER = 800_000_000_000_000_000
HOUR = 3600.0
MAX_BYTES_PER_WATCHER = 30 * 1024
MAX_P99_MS = 250.0
STREAMS_A_PROCESS = 2_500
SIDE_BY_SIDE = 8


@dataclasses.dataclass(slots=True)
class Running:
    """A running job and its rows."""

    job: model.Job
    rows: list[model.GuildTask]
    changes: int = 0

    def change_next_row(self) -> job_updates.JobUpdate:
        """Change the next row and put the time into its name."""
        place = self.changes % len(self.rows)
        self.changes += 1
        self.rows[place] = dataclasses.replace(
            self.rows[place],
            name=f"{watchers.MARK}{time.monotonic()}",
            state=model.TaskState.RUNNING if self.changes % 2 else model.TaskState.SUCCEEDED,
            revision=job_updates.revision_of(self.job.turn, len(self.rows) + self.changes),
        )
        return job_updates.JobUpdate(self.job, job_updates.tally_of(self.rows), (self.rows[place],))


def make_rows(number: int) -> list[model.GuildTask]:
    """Return queued guild tasks."""
    return [
        model.GuildTask(
            guild_id=FIRST_USER + place,
            name=f"A guild with a name of some length {place}",
            state=model.TaskState.QUEUED,
            step=model.Step.CHANNELS,
            position=place,
            attempts=0,
            retry_at=0.0,
            reason="",
            channel_count=None,
            revision=job_updates.revision_of(1, place + 1),
        )
        for place in range(number)
    ]


async def start_job(stores: product.Stores, user_id: int, guilds: int) -> Running:
    """Store a job whose guilds are listed."""
    now = time.time()  # noqa: TID251 -- the service compares with its own
    planned = model.new_job(uuid.uuid4().hex, user_id, now=now, due=now + HOUR, force=False)
    await stores.jobs.create_or_join(planned)
    owned = await stores.jobs.begin_turn(planned.job_id, 0, now=now, until=now + HOUR)
    assert owned is not None
    listed = dataclasses.replace(owned[0], listed=True)
    tasks = make_rows(guilds)
    await stores.jobs.add_tasks(listed, tasks)
    await stores.events.publish(job_updates.JobUpdate(listed, job_updates.tally_of(tasks), tuple(tasks)))
    return Running(listed, tasks)


async def end_job(stores: product.Stores, running: Running) -> None:
    """End a job as a turn does: first in the store, then in the events, with all rows."""
    ended = dataclasses.replace(
        running.job,
        state=model.JobState.SUCCEEDED,
        finished_at=time.time(),  # noqa: TID251 -- as above
    )
    await stores.jobs.save(running.job, ended)
    await stores.events.publish(job_updates.JobUpdate(ended, job_updates.tally_of(running.rows), tuple(running.rows)))


async def publish_progress(stores: product.Stores, jobs: list[Running], options: argparse.Namespace) -> float:
    """Publish progress at a constant rate; returns the achieved updates per second."""
    total = int(options.updates * options.seconds)
    began = time.monotonic()
    lanes = asyncio.Semaphore(SIDE_BY_SIDE)

    async def publish(running: Running) -> None:
        async with lanes:
            await stores.events.publish(running.change_next_row())

    async with asyncio.TaskGroup() as group:
        for number in range(total):
            await asyncio.sleep(max(0.0, began + number / options.updates - time.monotonic()))
            group.create_task(publish(jobs[number % len(jobs)]))
    return total / (time.monotonic() - began)


async def end_jobs(stores: product.Stores, jobs: list[Running], options: argparse.Namespace) -> None:
    """End all jobs at the same rate."""
    began = time.monotonic()
    for number, running in enumerate(jobs):
        await asyncio.sleep(max(0.0, began + number / options.updates - time.monotonic()))
        await end_job(stores, running)


class Crowd:
    """Processes full of watchers."""

    def __init__(self, address: str, job_ids: list[str]) -> None:
        parts = [job_ids[at : at + STREAMS_A_PROCESS] for at in range(0, len(job_ids), STREAMS_A_PROCESS)]
        command = [sys.executable, "-m", "tests.benchmarks.watch.watchers", address]
        self._processes = []
        for part in parts:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            assert process.stdin is not None
            process.stdin.write("\n".join(part))
            process.stdin.close()
            self._processes.append(process)

    def read_lines(self) -> list[str]:
        """Return the next line of each process."""
        return [process.stdout.readline() for process in self._processes if process.stdout is not None]

    def kill(self) -> None:
        """Kill the processes."""
        for process in self._processes:
            process.kill()
            process.wait()


async def measure(target: product.Product, options: argparse.Namespace) -> dict[str, object]:
    """Run once; returns the figures."""
    async with product.stores(target) as stores:
        jobs: list[Running] = []
        for at in range(0, options.jobs, SIDE_BY_SIDE):
            users = range(at, min(at + SIDE_BY_SIDE, options.jobs))
            jobs += await asyncio.gather(*(start_job(stores, FIRST_USER + user, options.guilds) for user in users))
        warm = Crowd(target.address, [running.job.job_id for running in jobs[:1]] * 20)
        await asyncio.to_thread(warm.read_lines)
        await asyncio.sleep(1.0)
        warm.kill()
        await asyncio.sleep(1.0)
        empty = facts.resident(target.pid)
        crowd = Crowd(target.address, [jobs[number % len(jobs)].job.job_id for number in range(options.watchers)])
        try:
            began = time.monotonic()
            await asyncio.to_thread(crowd.read_lines)
            opened = time.monotonic() - began
            await asyncio.sleep(2.0)
            full, cpu, began = facts.resident(target.pid), facts.cpu_seconds(target.pid), time.monotonic()
            rate = await publish_progress(stores, jobs, options)
            busy = (facts.cpu_seconds(target.pid) - cpu) / (time.monotonic() - began)
            after = facts.resident(target.pid)
            await end_jobs(stores, jobs, options)
            seen = [json.loads(line) for line in await asyncio.to_thread(crowd.read_lines)]
        finally:
            crowd.kill()
    late = sorted(value for part in seen for value in part["late"])
    return {
        "opened_per_s": options.watchers / opened,
        "kb_per_watcher": (full - empty) / options.watchers / 1024,
        "kb_per_watcher_after": (after - empty) / options.watchers / 1024,
        "updates_per_s": rate,
        "rows": len(late),
        "messages": sum(part["messages"] for part in seen),
        "p50_ms": late[len(late) // 2],
        "p99_ms": late[int(len(late) * 0.99)],
        "most_ms": late[-1],
        "service_cpu": busy,
        "ends_seen": sum(part["ended"] for part in seen),
        "broken": [problem for part in seen for problem in part["broken"]],
    }


def main() -> int:
    """Measure, print a table and JSON; returns 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1_000)
    parser.add_argument("--watchers", type=int, default=5_000)
    parser.add_argument("--guilds", type=int, default=30)
    parser.add_argument("--updates", type=float, default=100.0, help="a second, over all jobs")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--out", type=pathlib.Path, help="file for the JSON")
    options = parser.parse_args()
    before = facts.machine()
    with product.serving() as target:
        found = asyncio.run(measure(target, options))
    good = (
        found["ends_seen"] == options.watchers
        and float(str(found["kb_per_watcher_after"])) * 1024 <= MAX_BYTES_PER_WATCHER
        and float(str(found["p99_ms"])) <= MAX_P99_MS
    )
    report.show(f"{options.watchers} watchers of {options.jobs} jobs", [found])
    kept = {
        "machine": before,
        "load_after": facts.machine()["load"],
        "options": {key: value for key, value in vars(options).items() if key != "out"},
        "found": found,
        "wanted": {"kb_per_watcher": MAX_BYTES_PER_WATCHER / 1024, "p99_ms": MAX_P99_MS, "ends_seen": options.watchers},
        "good": good,
    }
    report.keep(kept, options.out)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
