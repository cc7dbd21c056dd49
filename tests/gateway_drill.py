"""
A changing world, and processes of the feed that are cut, refused, killed and stopped in the middle of it.

`python -m tests.gateway_drill --faults 200` prints one JSON object. Checked all the time: no guild is ever said to be
as of a moment at which it was not. Most faults wait until the one before is overcome; the others hit a shard that is
still reconnecting. The world goes on changing for `CALM` seconds after the last fault. Shown at the end: how long after
the last fault all guilds were fed again, how long after the last change everything stored equals the world, and whether
sessions were identified as often as shards plus sessions that the simulator ended. A session that ends before a process
could store it must be identified again as well; `never_stored` counts these.
"""

import argparse
import asyncio
import collections
import contextlib
import dataclasses
import json
import os
import pathlib
import random
import signal
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

from indexing import settings
from indexing.store import database as store_database
from indexing.store import migrations
from tests import gateway_world, servers

LEASE = 3.0
CHANGE_EVERY = 0.04
MOST_SETTLE = 60.0
CALM = 5.0
WAITING = 0.75
"""Share of the faults that wait until the shard is fed again."""
KINDS = (
    "drop",
    "reconnect",
    "close",
    "close_session",
    "invalid",
    "resumable",
    "silent",
    "stall",
    "kill",
    "term",
    "stop",
)
WEIGHTS = (6, 3, 2, 1, 1, 2, 1, 1, 2, 3, 1)


@dataclasses.dataclass(slots=True)
class Findings:
    """What was seen."""

    claims: int = 0
    wrong: list[str] = dataclasses.field(default_factory=list)
    changes: int = 0
    faults: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    fed_after: float = -1.0
    equal_after: float = -1.0
    sessions: set[str] = dataclasses.field(default_factory=set)


class History:
    """Every state that each guild ever had, with the moments of its beginning and end."""

    def __init__(self, world: gateway_world.World) -> None:
        self._world = world
        self._states: dict[int, list[tuple[float, dict[int, str]]]] = {
            guild_id: [(0.0, world.truth(guild_id))] for guild_id in world.guild_ids
        }

    def note(self, guild_id: int) -> None:
        """Note that a guild has changed."""
        self._states[guild_id].append((self._world.simulator.clock.wall(), self._world.truth(guild_id)))

    def was(self, guild_id: int, shown: dict[int, str], since: float) -> bool:
        """Return whether a guild had this state at *since* or later."""
        rows = self._states[guild_id]
        for number in range(len(rows) - 1, -1, -1):
            began, state = rows[number]
            if state == shown:
                return True
            if began <= since:
                return False
        return False


class Drill:
    """One drill."""

    def __init__(self, world: gateway_world.World, environment: dict[str, str], seed: int, processes: int) -> None:
        self.world = world
        self.found = Findings()
        self.history = History(world)
        self._environment = environment
        self._rng = random.Random(seed)
        self._processes: list[asyncio.subprocess.Process] = []
        self._count = processes
        self._changing = True
        self._log = pathlib.Path(tempfile.gettempdir(), f"gateway-drill-{os.getpid()}.log")

    async def start_missing(self) -> None:
        """Start processes until there are enough."""
        self._processes = [one for one in self._processes if one.returncode is None]
        while len(self._processes) < self._count:
            command = servers.with_parent(sys.executable, "-m", "workers.gateway")
            with self._log.open("ab") as log:
                started = await asyncio.create_subprocess_exec(*command, env=self._environment, stdout=log, stderr=log)
            self._processes.append(started)

    async def stop(self) -> None:
        """End all processes."""
        for one in self._processes:
            if one.returncode is None:
                one.kill()
            await one.wait()

    async def change(self) -> None:
        """Change the world until told otherwise."""
        while self._changing:
            guild_id = self._rng.choice(self.world.guild_ids)
            self._change(guild_id)
            self.history.note(guild_id)
            self.found.changes += 1
            await asyncio.sleep(self._rng.uniform(0.5, 1.5) * CHANGE_EVERY)

    def _change(self, guild_id: int) -> None:
        guild = self.world.simulator.world.guild(guild_id)
        assert guild is not None
        plain = [row for row in self.world.simulator.world.channels_of(guild) if row.type != 4 and not row.overwrites]
        dice, name = self._rng.random(), f"n{self.found.changes}"
        if dice < 0.3 or len(plain) < 3:
            self.world.change(op="add_channel", guild=str(guild_id), name=name)
        elif dice < 0.5:
            self.world.change(op="remove_channel", guild=str(guild_id), channel=str(self._rng.choice(plain).id))
        else:
            channel = str(self._rng.choice(plain).id)
            self.world.change(op="change_channel", guild=str(guild_id), channel=channel, name=name)

    async def sample(self) -> None:
        """Compare what is stored with the world's history until told otherwise."""
        while self._changing:
            heads = await self.world.guilds.load(self.world.guild_ids)
            for guild_id, found in heads.items():
                at = found.guild.fetched_at
                if at is None:
                    continue
                self.found.claims += 1
                shown = {row.channel_id: row.name for row in found.channels}
                if not self.history.was(guild_id, shown, at):
                    self.found.wrong.append(f"{guild_id} as of {at} is wrong")
            await self._note_sessions()
            await asyncio.sleep(0.1)

    async def _note_sessions(self) -> None:
        for row in await self.world.database["shards"].find({}, {"session": 1, "past": 1}).to_list(None):
            self.found.sessions |= {row["session"], *(session for session, _ in row["past"])}

    async def break_things(self, faults: int) -> None:
        """Play faults."""
        for _ in range(faults):
            (kind,) = self._rng.choices(KINDS, WEIGHTS)
            if self._rng.random() < WAITING:
                await self.world.all_fed(MOST_SETTLE)
                await gateway_world.until(self.world.connected, MOST_SETTLE)
            self.found.faults[kind] += 1
            await self._break(kind)
            await self.start_missing()
            await asyncio.sleep(self._rng.uniform(0.05, 0.5))
        self.world.fault(kind="clear")

    async def _break(self, kind: str) -> None:
        if kind in {"kill", "term", "stop"}:
            await self._signal(kind)
        elif kind == "close_session":
            self.world.fault(kind="close", code=4009)
        elif kind == "resumable":
            self.world.fault(kind="invalid", resumable=True)
        else:
            self.world.fault(kind=kind, seconds=self._rng.uniform(0.1, 1.5))

    async def _signal(self, kind: str) -> None:
        one = self._rng.choice(self._processes)
        if kind != "stop":
            one.send_signal(signal.SIGKILL if kind == "kill" else signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(15):
                    await one.wait()
            return
        one.send_signal(signal.SIGSTOP)
        await asyncio.sleep(LEASE * self._rng.uniform(0.8, 1.6))
        one.send_signal(signal.SIGCONT)

    async def settle(self) -> None:
        """Let the world change for a while, stop, and wait until everything stored equals the world."""
        began = time.monotonic()
        await self.world.all_fed(MOST_SETTLE)
        await gateway_world.until(self.world.connected, MOST_SETTLE)
        self.found.fed_after = time.monotonic() - began
        await asyncio.sleep(max(0.0, CALM - self.found.fed_after))
        self._changing = False
        began = time.monotonic()
        with contextlib.suppress(TimeoutError):
            await self.world.settled(MOST_SETTLE)
            self.found.equal_after = time.monotonic() - began
        await self._note_sessions()

    def document(self) -> dict[str, Any]:
        """Return what was found."""
        hub = self.world.hub
        wanted = hub.options.shards + hub.counts["sessions_ended"] + hub.counts["sessions_expired"]
        return {
            "guilds": len(self.world.guild_ids),
            "faults": dict(self.found.faults),
            "changes": self.found.changes,
            "claims": self.found.claims,
            "wrong": len(self.found.wrong),
            "examples": self.found.wrong[:3],
            "fed_after": round(self.found.fed_after, 2),
            "equal_after": round(self.found.equal_after, 2),
            "identifies": hub.counts["identifies"],
            "identifies_expected": wanted,
            "never_stored": len(hub.sessions.keys() - self.found.sessions),
            "resumes": hub.counts["resumes"],
            "replayed": hub.counts["replayed"],
            # A stopped process sends no heartbeat, which is no fault of the product.
            "violations": {name: count for name, count in hub.violations.items() if name != "no_heartbeat"},
            "without_heartbeat": hub.violations["no_heartbeat"],
            "log": str(self._log),
        }


async def play(  # noqa: PLR0913 -- one parameter an option
    redis_url: str, mongodb_url: str, *, faults: int, seed: int, guilds: int = 30, shards: int = 1, processes: int = 2
) -> dict[str, Any]:
    """Run one drill."""
    config = settings.MongoSettings(url=mongodb_url, database=f"drill-{uuid.uuid4().hex}", timeout=60.0)
    async with store_database.open_database(config) as db:
        await migrations.make_indexes(db)
        changes = {"--guilds-per-user": str(guilds), "--gateway-shards": str(shards)}
        async with gateway_world.simulated(db, changes) as world:
            more = {"GATEWAY_LEASE": str(LEASE), "LOG_LEVEL": "info"}
            environment = {**os.environ, **gateway_world.product_environment(world, redis_url, mongodb_url, **more)}  # noqa: TID251 -- passed on
            drill = Drill(world, environment, seed, processes)
            try:
                await drill.start_missing()
                await world.all_fed(60.0)
                async with _in_background(drill):
                    await drill.break_things(faults)
                    await drill.settle()
            finally:
                await drill.stop()
            return drill.document()


@contextlib.asynccontextmanager
async def _in_background(drill: Drill) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        group.create_task(drill.change())
        group.create_task(drill.sample())
        yield


def main() -> None:
    """Run a drill on servers of its own."""
    parser = argparse.ArgumentParser()
    for name, default in (("faults", 200), ("seed", 1), ("guilds", 30), ("shards", 1), ("processes", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    chosen = vars(parser.parse_args())
    with servers.valkey() as redis_url, servers.mongodb() as mongodb_url:
        found = asyncio.run(play(redis_url, mongodb_url, **chosen))
    print(json.dumps(found, indent=1))  # noqa: T201 -- the result


if __name__ == "__main__":
    main()
