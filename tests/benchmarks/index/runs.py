"""One run of a scenario on a stack of its own."""

import asyncio
import collections
import contextlib
import dataclasses
import math
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from devstack import stack
from tests.benchmarks.index import arrivals, callers, scenarios, usage
from tests.system import conftest

QUIET = 1.5
"""Seconds without a call after which a new stack counts as idle."""
BOOT = 120.0
LOOK = 0.25
VISIT = 5.0
"""Seconds between two visitors."""
CHANGES = 1_000
"""Changes of the world in one request."""
PROGRESS = 5.0
FIRST_GUILDS = "first_guilds"
"""Key of all users' first_guild times, which are not written to the file."""
Row = dict[str, Any]
Report = Callable[[str], None]


@dataclasses.dataclass
class Samples:
    """Figures sampled once a second."""

    connections: int = 0
    free: dict[int, bool] = dataclasses.field(default_factory=dict)
    """Whether permits were free, by second; seconds without a sample are missing."""


@dataclasses.dataclass(frozen=True, slots=True)
class Clock:
    """The start of a run on this process' clock and on the simulator's."""

    here: float
    there: float

    def elapsed(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self.here


async def index_all(scenario: scenarios.Scenario, running: stack.Stack, report: Report) -> Row:
    """Index the guilds of all users; returns the figures of the run."""
    simulator = conftest.Simulator(running.simulator_url)
    await _settle(simulator)
    if scenario.most_channels:
        await asyncio.to_thread(_trim, simulator, running, scenario.most_channels)
    crowd = [callers.Caller(user.id) for user in running.users[: scenario.users]]
    visitors = [callers.Caller(user.id) for user in running.users[scenario.users :]]
    await asyncio.to_thread(simulator.ask, "reset", {})
    before, load = await asyncio.to_thread(usage.read_usage, running), os.getloadavg()
    clock = Clock(time.monotonic(), (await asyncio.to_thread(simulator.ask, "stats"))["now"])
    async with callers.stubs(running.address, len(running.users)) as stubs:
        samples = Samples()
        async with _watching(running, stubs[0], crowd, clock, samples):
            ended = await _until_ended(scenario, stubs, crowd, visitors, _progress(simulator, crowd, clock, report))
        took = clock.elapsed()
        stats = await asyncio.to_thread(simulator.ask, "stats?log=1")
        after = await asyncio.to_thread(usage.read_usage, running)
    seen = arrivals.parse(stats.pop("log"), clock.there)
    return {
        "ended": ended,
        "load_at_start": round(load[0], 2),
        "took_s": round(took, 2),
        **_times(crowd, seen, stats["calls"], clock),
        FIRST_GUILDS: [one.first_guild for one in crowd if one.first_guild is not None],
        **_limits(stats),
        "steady_share": round(seen.steady_share(), 3),
        **_silence(seen, samples, took),
        **(usage.per_call(before, after, stats["calls"]) if stats["calls"] else {}),
        "mongodb_connections": samples.connections,
        "service_peak_mib": round(max(after.peak[name] for name in after.peak if name.startswith("service"))),
        "peak_mib": {name: round(peak) for name, peak in after.peak.items()},
        **(_visits(visitors) if visitors else {}),
    }


async def _settle(simulator: conftest.Simulator) -> None:
    """Wait until the list of the bot's guilds is read and no more calls arrive."""
    deadline = time.monotonic() + BOOT
    calls, since = -1, time.monotonic()
    while time.monotonic() < deadline:
        stats = await asyncio.to_thread(simulator.ask, "stats")
        if stats["calls"] != calls:
            calls, since = stats["calls"], time.monotonic()
        if calls > 0 and time.monotonic() - since > QUIET:
            return
        await asyncio.sleep(LOOK)


def _trim(simulator: conftest.Simulator, running: stack.Stack, most: int) -> None:
    """Remove channels until each guild has between 2 and *most*."""
    changes: list[Row] = []
    guild_ids = {
        guild["id"] for user in running.users for guild in simulator.ask(f"truth/{user.id}")["guilds"] if guild["bot"]
    }
    for number, guild_id in enumerate(sorted(guild_ids)):
        channels = simulator.ask(f"guilds/{guild_id}")["channels"]
        changes += [
            {"op": "remove_channel", "guild": guild_id, "channel": channel["id"]}
            for channel in channels[2 + number % (most - 1) :]
        ]
    for at in range(0, len(changes), CHANGES):
        simulator.ask("world", changes[at : at + CHANGES])


async def _until_ended(
    scenario: scenarios.Scenario,
    stubs: Sequence[callers.Stub],
    crowd: Sequence[callers.Caller],
    visitors: Sequence[callers.Caller],
    progress: Callable[[], AsyncIterator[None]],
) -> bool:
    """Run all callers until the run ends or its limit is reached; returns whether it ended."""
    tasks = [
        asyncio.create_task(one.index(stubs[at % len(stubs)], scenario.spread * at / len(crowd)))
        for at, one in enumerate(crowd)
    ]
    others = [asyncio.create_task(_visit_by_turns(stubs[-1], visitors)), asyncio.create_task(_drain(progress()))]
    waits = [asyncio.create_task(one.has_guild.wait()) for one in crowd] if scenario.first_only else tasks
    _, late = await asyncio.wait(waits, timeout=scenario.limit)
    for task in [*tasks, *others, *waits]:
        task.cancel()
    await asyncio.gather(*tasks, *others, *waits, return_exceptions=True)
    broken = [task for task in [*tasks, *others] if not task.cancelled() and task.exception()]
    for task in broken:
        task.result()
    return not late


async def _visit_by_turns(stub: callers.Stub, visitors: Sequence[callers.Caller]) -> None:
    async with asyncio.TaskGroup() as group:
        for visitor in visitors:
            await asyncio.sleep(VISIT)
            group.create_task(visitor.visit(stub))


async def _drain(steps: AsyncIterator[None]) -> None:
    async for _ in steps:
        pass


def _progress(
    simulator: conftest.Simulator, crowd: Sequence[callers.Caller], clock: Clock, report: Report
) -> Callable[[], AsyncIterator[None]]:
    async def steps() -> AsyncIterator[None]:
        while True:
            await asyncio.sleep(PROGRESS)
            stats = await asyncio.to_thread(simulator.ask, "stats")
            done = sum(one.ended is not None for one in crowd)
            first = sum(one.first_guild is not None for one in crowd)
            report(
                f"{clock.elapsed():.0f} s: {stats['calls']:,} calls, {stats['channel_fetches_guilds']:,} guilds read, "
                f"{first} of {len(crowd)} users have a guild, {done} jobs ended"
            )
            yield

    return steps


@contextlib.asynccontextmanager
async def _watching(
    running: stack.Stack, stub: callers.Stub, crowd: Sequence[callers.Caller], clock: Clock, samples: Samples
) -> AsyncIterator[None]:
    async def look() -> None:
        while True:
            connections = await asyncio.to_thread(usage.connections, running.mongodb_url)
            samples.connections = max(samples.connections, connections)
            active = [one.user_id for one in crowd if one.ended is None and one.answered is not None]
            free = await callers.free_permits(stub, active) if active else None
            if free is not None:
                samples.free[int(clock.elapsed())] = free
            await asyncio.sleep(1.0)

    task = asyncio.create_task(look())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _times(crowd: Sequence[callers.Caller], seen: arrivals.Arrivals, calls: int, clock: Clock) -> Row:
    minimum = calls / scenarios.BUDGET
    ends = [one.began - clock.here + one.ended for one in crowd if one.ended is not None]
    all_ended = len(ends) == len(crowd)
    channels = [one.began - clock.here + one.channels for one in crowd if one.channels is not None]
    return {
        "channels_s": round(seen.channels, 2) if all_ended else None,
        "channels_seen_s": round(max(channels), 2) if all_ended and channels else None,
        "ended_s": round(max(ends), 2) if all_ended else None,
        "minimum_s": round(minimum, 2),
        "over_minimum": round(max(ends) / minimum - 1, 3) if all_ended and calls else None,
        "states": dict(collections.Counter(one.state for one in crowd)),
        "users_with_a_guild": sum(one.first_guild is not None for one in crowd),
        **spread("first_channels_s", [one.first_channels for one in crowd]),
        **spread("first_guild_s", [one.first_guild for one in crowd]),
        **spread("start_answered_s", [one.answered for one in crowd]),
        "refused": dict(sum((one.refused for one in crowd), collections.Counter[str]())),
        "problems": sorted({one.problem for one in crowd if one.problem})[:5],
    }


def spread(name: str, found: Sequence[float | None]) -> Row:
    """Return percentiles of the known values; None without any."""
    values = sorted(value for value in found if value is not None)

    def quantile(share: float) -> float | None:
        return round(values[math.ceil(share * len(values)) - 1], 3) if values else None

    return {f"{name}_p50": quantile(0.5), f"{name}_p95": quantile(0.95), f"{name}_max": quantile(1.0)}


def _limits(stats: Row) -> Row:
    would_be = stats["would_be_rejections"]
    return {
        "calls": stats["calls"],
        "guilds_read": stats["channel_fetches_guilds"],
        "duplicates": stats["duplicate_guild_fetches"],
        "http_429": stats["http_429"],
        "rejections": sum(max(models.values()) for models in would_be.values()),
        "rejections_by_model": {name: models for name, models in would_be.items() if any(models.values())},
        "calls_by_route": stats["by_route_token"],
        "most_calls_in_1_s": stats["bot_peak_1s"],
    }


def _silence(seen: arrivals.Arrivals, samples: Samples, took: float) -> Row:
    silent = seen.silent_seconds(took)
    free = [second for second in silent if samples.free.get(second, samples.free.get(second + 1, False))]
    return {"silent_s": len(silent), "silent_but_free_s": len(free)}


def _visits(visitors: Sequence[callers.Caller]) -> Row:
    came = [one for one in visitors if one.began]
    return {
        "visits": len(came),
        "visits_answered": sum(one.answered is not None for one in came),
        "visits_answered_with_channels": sum(one.answered_channels > 0 for one in came),
        **spread("visit_answered_s", [one.answered for one in came]),
        **spread("visit_first_guild_s", [one.first_guild for one in came]),
        "visits_refused": dict(sum((one.refused for one in came), collections.Counter[str]())),
    }
