"""Faults of the product's own processes."""

import asyncio
import resource

from tests.chaos import fleet, play, waves

CLOCKS = fleet.Shape(clocks=True)
UPGRADE = fleet.Shape(old=("worker-2", "service-2"), settings={"MONGODB_SCHEMA": "rows"})
"""As docs/upgrade.md says: the data keep the form of the previous release until no process runs it."""


async def kill_worker(stage: play.Play) -> None:
    """Kill one of two workers in the middle; it returns after the other has had to take over."""
    await stage.fetched(stage.dice.randint(1, 20))
    await stage.kill("worker-1", 4.0)


async def kill_service(stage: play.Play) -> None:
    """Kill one of two services in the middle."""
    await stage.pause(0.1, 2.0)
    await stage.kill("service-1", 4.0)


async def kill_all_workers(stage: play.Play) -> None:
    """Kill all workers at once."""
    await stage.fetched(stage.dice.randint(1, 20))
    await asyncio.gather(stage.kill("worker-1", 1.0), stage.kill("worker-2", 1.0))


async def kill_all(stage: play.Play) -> None:
    """Kill every process of the product at once."""
    await stage.fetched(stage.dice.randint(1, 20))
    await asyncio.gather(*(stage.kill(name, 1.0) for name in stage.fleet.processes))


async def freeze_worker(stage: play.Play) -> None:
    """Stop a worker for longer than the lease of a turn; it goes on with turns that others own."""
    await stage.fetched(stage.dice.randint(1, 10))
    await stage.freeze("worker-1", 9.0)


async def freeze_service(stage: play.Play) -> None:
    """Stop a service for five seconds."""
    await stage.pause(0.1, 1.0)
    await stage.freeze("service-1", 5.0)


async def rolling_restart(stage: play.Play) -> None:
    """Drain and restart each process in turn."""
    for name in stage.fleet.processes:
        stage.fault()
        await stage.do(stage.fleet.terminate, name)
        await stage.do(stage.fleet.restart, name)


async def few_files(stage: play.Play) -> None:
    """Allow a worker and a service no further open files for five seconds."""
    await stage.pause(0.2, 0.5)
    stage.fault()
    for name in ("worker-1", "service-1"):
        stage.fleet.limit(name, resource.RLIMIT_NOFILE, 8)
    for server in ("redis", "mongodb", "discord"):
        for link in [*stage.to(server, "worker-1"), *stage.to(server, "service-1")]:
            link.cut()
    await stage.pause(5.0)
    for name in ("worker-1", "service-1"):
        stage.fleet.limit(name, resource.RLIMIT_NOFILE, 1024)


async def worker_clock_ahead(stage: play.Play) -> None:
    """Set the clock of a worker ahead by an hour."""
    stage.fault()
    stage.fleet.set_clock("worker-1", 3600)
    await stage.pause(8.0)
    stage.fleet.set_clock("worker-1", 0)


async def worker_clock_back(stage: play.Play) -> None:
    """Set the clock of a worker back by an hour."""
    stage.fault()
    stage.fleet.set_clock("worker-1", -3600)
    await stage.pause(8.0)
    stage.fleet.set_clock("worker-1", 0)


async def service_clock_back(stage: play.Play) -> None:
    """Set the clock of a service back by an hour."""
    stage.fault()
    stage.fleet.set_clock("service-1", -3600)
    await stage.pause(5.0)
    stage.fleet.set_clock("service-1", 0)


async def kill_refresh(stage: play.Play) -> None:
    """Kill the process that refreshes, and the exporter, at once."""
    await stage.pause(0.2, 1.0)
    await asyncio.gather(stage.kill("refresh", 1.0), stage.kill("exporter", 1.0))


async def old_beside_new(stage: play.Play) -> None:
    """Kill a worker and a service of the new release beside those of the previous one."""
    await stage.fetched(stage.dice.randint(1, 10))
    await asyncio.gather(stage.kill("worker-1", 2.0), stage.kill("service-1", 2.0))


SCENARIOS = [
    waves.Scenario("kill-worker", "processes", "A worker may be killed.", kill_worker),
    waves.Scenario("kill-service", "processes", "A service may be killed.", kill_service),
    waves.Scenario("kill-all-workers", "processes", "All workers may be killed.", kill_all_workers),
    waves.Scenario("kill-all", "processes", "All processes may be killed.", kill_all),
    waves.Scenario("freeze-worker", "processes", "A worker may stand still and go on late.", freeze_worker),
    waves.Scenario("freeze-service", "processes", "A service may stand still.", freeze_service),
    waves.Scenario("rolling-restart", "processes", "Each process may be restarted in turn.", rolling_restart),
    waves.Scenario("few-files", "processes", "A process may be out of open files.", few_files),
    waves.Scenario("worker-clock-ahead", "processes", "A worker's clock may be ahead.", worker_clock_ahead, CLOCKS),
    waves.Scenario("worker-clock-back", "processes", "A worker's clock may be behind.", worker_clock_back, CLOCKS),
    waves.Scenario("service-clock-back", "processes", "A service's clock may be behind.", service_clock_back, CLOCKS),
    waves.Scenario(
        "kill-refresh",
        "processes",
        "The refresh process and the exporter may be killed.",
        kill_refresh,
        fleet.Shape(refresh=True, exporter=True),
    ),
    waves.Scenario("old-beside-new", "processes", "Two releases may share all data.", old_beside_new, UPGRADE),
]
