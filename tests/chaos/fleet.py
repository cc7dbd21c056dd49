"""A stack whose processes reach each server, and whose callers reach each service, through links of their own."""

import asyncio
import contextlib
import dataclasses
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import urllib.parse
from collections.abc import AsyncIterator, Callable, Mapping

import redis

from devstack import programs, stack, supervisor, users
from tests import previous_release
from tests.chaos import links

FAKETIME = pathlib.Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
CLOCK = pathlib.Path(__file__).parent / "clock"
"""Folder of the module that gives a Python process a clock of its own."""
SERVERS = ("redis", "mongodb", "discord")
CLIENT = "client"
"""The callers, as one end of a link."""
MEMBER = "GET /users/@me/guilds/{guild.id}/member"
LIST = "GET /users/@me/guilds"
QUICK = {
    "DISCORD_TIMEOUT": "2",
    "INDEXING_GUILD_LEASE": "5",
    "INDEXING_LIST_MAX_AGE": "0",
    "INDEXING_MAX_ATTEMPTS": "8",
    "INDEXING_RETRY_BASE": "0.5",
    "INDEXING_SWEEP_INTERVAL": "2",
    "INDEXING_TURN_LEASE": "7",
    "INDEXING_TURN_TIME": "2",
    "LIMITER_HOLD": "3",
    "MONGODB_TIMEOUT": "4",
}
"""Short leases, retries and holds, so that a lost turn is taken up after 7 s instead of 40."""


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """
    Size and settings of a fleet.

    Attributes:
        users: Simulated users, each with *guilds* guilds, some of them shared.
        pool: Guilds of all users together.
        rate: Calls per second of the bot token.
        user_rate: Calls per second of each user.
        settings: Settings of all processes, in addition to `QUICK`.
        old: Processes that run the previous release.
        code: Folder with the code of all processes; empty for that of the checkout.
        clocks: Whether each process and Redis has a clock that can be set. Needs Debian's faketime.
        simulator: More options of the simulator.
    """

    users: int = 8
    guilds: int = 12
    pool: int = 48
    services: int = 2
    workers: int = 2
    refresh: bool = False
    exporter: bool = False
    rate: int = 30
    user_rate: int = 10
    latency: str = "20-60"
    settings: Mapping[str, str] = dataclasses.field(default_factory=dict)
    old: tuple[str, ...] = ()
    code: str = ""
    clocks: bool = False
    simulator: tuple[str, ...] = ()

    def options(self, seed: int) -> stack.Options:
        """Return the options of the stack."""
        user = f"{self.user_rate}/1"
        limits: tuple[str, ...] = ("--global-limit", f"{self.rate}/1", "--user-limit", user)
        # As short as the hold, which no route of the simulator may outlast.
        limits += ("--route-limit", f"{MEMBER}={user}", "--route-limit", f"{LIST}=20/1")
        budgets = {"GLOBAL_BUDGET": f"{self.rate}/1", "USER_BUDGET": user}
        return stack.Options(
            users=self.users,
            services=self.services,
            workers=self.workers,
            guilds_per_user=self.guilds,
            seed=seed,
            latency=self.latency,
            refresh=self.refresh,
            exporter=self.exporter,
            simulator=(*limits, "--guilds", str(self.pool), *self.simulator),
            environment={**QUICK, **budgets, **self.settings},
        )


USUAL = Shape()
PATIENT = Shape(settings={"LIMITER_HOLD": "6"})
"""A hold for calls that may be in flight for long, because their way is slow."""


class Fleet(stack.Stack):
    """
    A stack with a link for each pair of parts.

    Attributes:
        links: Links by process and server; those of the callers are `(CLIENT, service)`.
        crashes: Ends of processes that nobody ordered, as lines of text.
    """

    def __init__(self, shape: Shape, seed: int) -> None:
        super().__init__(shape.options(seed), self._note)
        self.shape, self.seed = shape, seed
        self.crashes: list[str] = []
        self.processes = [*self._services, *self._workers, *self._optional]
        pairs = [(process, server) for process in self.processes for server in SERVERS]
        pairs += [(CLIENT, service) for service in self._services]
        self.links = {pair: links.Link(self._upstream(pair), f"{seed}/{pair}") for pair in pairs}

    @property
    def callers_addresses(self) -> list[str]:
        """host:port of each service, as callers reach it."""
        return [f"127.0.0.1:{self.links[CLIENT, service].port}" for service in self._services]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Fleet"]:
        """Run the fleet until the block ends."""
        for link in self.links.values():
            await link.open()
        try:
            await asyncio.to_thread(self.start)
            await asyncio.to_thread(self.put_credentials)
            yield self
        finally:
            await asyncio.to_thread(self.stop)
            for link in self.links.values():
                await link.close()

    def put_credentials(self) -> None:
        """Store every user's credential, through the previous release if it runs: its users came before the rollout."""
        old = [self._programs[name].address for name in self._services if name in self.shape.old]
        users.put_credentials((old or [self.address])[0], self.users)

    def redis(self) -> redis.Redis:
        """Return a connection to Redis, past the links."""
        return redis.Redis.from_url(self.redis_url, socket_timeout=10)

    def process_ids(self, name: str) -> list[int]:
        """Return all processes of a program."""
        leader = self.process_id(name)
        return [each for each in _all_processes() if _group(each) == leader]

    def limit(self, name: str, what: int, most: int) -> None:
        """Set a soft resource limit, such as resource.RLIMIT_NOFILE, of all processes of a program."""
        for process in self.process_ids(name):
            with contextlib.suppress(ProcessLookupError):
                _, hard = resource.prlimit(process, what)
                resource.prlimit(process, what, (most, hard))

    def restart_empty(self, name: str) -> None:
        """Kill a server, remove its data, and start it again."""
        self.kill(name)
        shutil.rmtree(self._supervisor.directory / name, ignore_errors=True)
        (self._supervisor.directory / name).mkdir()
        self.restart(name)

    def run_command(self, name: str, *arguments: str) -> str:
        """Run a command of the service with the settings of a process; returns what it prints."""
        program = self._programs[name]
        done = subprocess.run(
            [sys.executable, "-m", "indexer_service", *arguments],
            env=dict(program.environment),
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        return done.stdout + done.stderr

    def is_down(self, name: str) -> bool:
        """Return whether a program was killed and is not started again."""
        return not any(_group(each) == self.process_id(name) for each in _all_processes())

    def set_clock(self, name: str, seconds: float) -> None:
        """Set the clock of a process or of `valkey` to *seconds* from the true time."""
        self._clock_file(name).write_text(f"{seconds:+.0f}s\n")

    def _upstream(self, pair: tuple[str, str]) -> Callable[[], tuple[str, int]]:
        def resolve() -> tuple[str, int]:
            process, server = pair
            if process == CLIENT:
                host, _, port = self._programs[server].address.rpartition(":")
                return host, int(port)
            url = {"redis": self.redis_url, "mongodb": self.mongodb_url, "discord": self.simulator_url}[server]
            parts = urllib.parse.urlsplit(url)
            return parts.hostname or "", parts.port or 0

        return resolve

    def _own(self, name: str) -> dict[str, str]:
        port = {server: self.links[name, server].port for server in SERVERS}
        return {
            "REDIS_URL": f"redis://127.0.0.1:{port['redis']}/0",
            "MONGODB_URL": f"mongodb://127.0.0.1:{port['mongodb']}/?directConnection=true",
            "DISCORD_API_BASE": f"http://127.0.0.1:{port['discord']}/api/v10",
            "LIMITER_HOLD": QUICK["LIMITER_HOLD"],
            **self.shape.settings,
            **(_code_in(self.shape.code) if self.shape.code else {}),
            **(self._old_code() if name in self.shape.old else {}),
        }

    def _old_code(self) -> dict[str, str]:
        folder = self._supervisor.directory / "previous"
        if not folder.exists():
            folder.mkdir()
            previous_release.unpack(folder, "indexing", "indexer_service", "workers")
        return _code_in(str(folder))

    def _start_program(self, make: Callable[[], programs.Program]) -> programs.Program:
        return super()._start_program(lambda: self._changed(make()))

    def _changed(self, program: programs.Program) -> programs.Program:
        """Return the program with a clock of its own; services are restarted when they end, as in Kubernetes."""
        if program.name in self.processes:
            program = dataclasses.replace(program, essential=False)
        if not self.shape.clocks or program.name in {"simulator", "mongodb"}:
            return program
        self.set_clock(program.name, 0)
        own = self._redis_clock() if program.name == "valkey" else self._process_clock(program.name)
        return dataclasses.replace(program, environment={**program.environment, **own})

    def _redis_clock(self) -> dict[str, str]:
        if not FAKETIME.exists():
            raise supervisor.StackFailed("faketime is missing: apt-get install faketime")
        return {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(self._clock_file("valkey")),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def _process_clock(self, name: str) -> dict[str, str]:
        return {"PYTHONPATH": str(CLOCK), "CHAOS_CLOCK": str(self._clock_file(name))}

    def _clock_file(self, name: str) -> pathlib.Path:
        return self._supervisor.directory / f"clock-{name}"

    def _note(self, report: supervisor.Report) -> None:
        if report.state is supervisor.State.ENDED:
            self.crashes.append(f"{report.name} {report.detail}")


def _code_in(folder: str) -> dict[str, str]:
    """Return the variables of a process that runs other code: the current directory stays out of sys.path."""
    return {"PYTHONPATH": folder, "PYTHONSAFEPATH": "1"}


def _all_processes() -> list[int]:
    return [int(entry.name) for entry in pathlib.Path("/proc").iterdir() if entry.name.isdigit()]


def _group(process: int) -> int:
    try:
        return os.getpgid(process)
    except ProcessLookupError:
        return 0
