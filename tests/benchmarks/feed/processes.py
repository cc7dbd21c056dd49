"""A simulated Discord in this process, and processes of the feed over real servers."""

import asyncio
import contextlib
import dataclasses
import os
import pathlib
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Mapping

from devstack import counts
from indexing import settings
from indexing.store import database as store_database
from indexing.store import migrations
from tests import gateway_world, servers
from tests.benchmarks import facts

BOOT = 60.0


@dataclasses.dataclass(frozen=True, slots=True)
class Feed:
    """The world, and what a process of the feed is started with."""

    world: gateway_world.World
    environment: Mapping[str, str]
    log: pathlib.Path

    async def start(self, metrics_port: int = 0) -> asyncio.subprocess.Process:
        """Start a process."""
        environment = {**self.environment, "GATEWAY_METRICS_PORT": f"{metrics_port}"}
        command = servers.with_parent(sys.executable, "-m", "workers.gateway")
        with self.log.open("ab") as log:
            return await asyncio.create_subprocess_exec(*command, env=environment, stdout=log, stderr=log)


@contextlib.asynccontextmanager
async def feed(options: Mapping[str, str], **environment: str) -> AsyncIterator[Feed]:
    """Run servers and a simulator with these options; processes get these variables. All of them end with the block."""
    with servers.valkey() as redis_url, servers.mongodb() as mongodb_url:
        config = settings.MongoSettings(url=mongodb_url, database=f"feed-{uuid.uuid4().hex}", timeout=60.0)
        async with store_database.open_database(config) as database:
            await migrations.make_indexes(database)
            async with gateway_world.simulated(database, options) as world:
                wanted = {"GATEWAY_LEASE": "15", "LOG_LEVEL": "info", **environment}
                product = gateway_world.product_environment(world, redis_url, mongodb_url, **wanted)
                with tempfile.NamedTemporaryFile(prefix="feed-", suffix=".log", delete=False) as log:
                    made = {**os.environ, **product}  # noqa: TID251 -- passed on
                yield Feed(world, made, pathlib.Path(log.name))


async def stop(process: asyncio.subprocess.Process) -> None:
    """Kill a process that runs."""
    if process.returncode is None:
        process.kill()
    await process.wait()


def most_resident(pid: int) -> int:
    """Return the most memory that a process ever had resident, in bytes."""
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


@dataclasses.dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used so far: seconds of CPU, and round trips to MongoDB."""

    cpu: float
    round_trips: float

    @staticmethod
    def read(pid: int, metrics_port: int) -> "Usage":
        """Read it from /proc and from the process's metrics."""
        samples = counts.parse_samples(counts.read_page(f"http://127.0.0.1:{metrics_port}/metrics"))
        return Usage(
            facts.cpu_seconds(pid),
            sum(sample.value for sample in samples if sample.name == "indexer_mongodb_command_seconds_count"),
        )

    def since(self, before: "Usage") -> "Usage":
        """Return the difference."""
        return Usage(self.cpu - before.cpu, self.round_trips - before.round_trips)
