"""Runs one phase: Redis, the simulator, four processes, and the faults."""

import contextlib
import dataclasses
import itertools
import json
import pathlib
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import redis

from tests.benchmarks.limiter import demand, phases

PROCESSES = 4
LATENCY = "60-140"
"""Round trips in milliseconds."""
FOREIGN = 10
"""Calls a second of foreign usage."""
KILL_EVERY = 20.0
STOP = 10.0
HOLD = 17.0
"""Seconds of the warm-up hold after an empty start: the longest window, a call's timeout and the send deadline."""
CHECKOUT = pathlib.Path(__file__).parents[3]


@dataclasses.dataclass(slots=True)
class Measured:
    """
    The raw results of a phase.

    Attributes:
        began, events: When demand began, and when events happened, in monotonic seconds.
        records: Of all processes, by process.
        stats: The simulator's, with its log.
        commands: Calls of Redis' commands by name, with their microseconds.
        cpu: Seconds of all processes that ran until the end.
        users: The simulator's, in the order of the phase's numbers.
    """

    phase: phases.Phase
    began: float
    records: list[list[demand.Record]]
    stats: dict[str, Any]
    commands: dict[str, dict[str, float]]
    cpu: float
    events: list[float]
    users: list[str]


class Simulator:
    """The simulator as its own program."""

    def __init__(self, phase: phases.Phase) -> None:
        enforce = "all" if phase.enforce else "none"
        command = [
            sys.executable,
            "-m",
            "devstack.simulator",
            "--with-parent",
            "--latency",
            LATENCY,
            "--enforce",
            enforce,
        ]
        size = ["--users", str(max(phase.users, 20)), "--show-users", str(max(phase.users, 20))]
        limit = ["--route-limit", f"{demand.CHANNELS}=1000/1", "--route-limit", f"{demand.GUILDS}=1000/1"]
        self._process = subprocess.Popen(command + size + limit, cwd=CHECKOUT, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self.about: dict[str, Any] = json.loads(self._process.stdout.readline())
        self.guilds = self._bots_guilds()

    def _bots_guilds(self) -> list[int]:
        user = self.about["users"][0]["id"]
        return [int(guild["id"]) for guild in self.ask(f"truth/{user}")["guilds"] if guild["bot"]]

    def ask(self, path: str, body: object | None = None) -> Any:  # noqa: ANN401 -- JSON
        """Call one of its control endpoints."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.about['control_url']}/{path}", data=data)  # noqa: S310 -- loopback
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 -- loopback
            return json.loads(answer.read())

    def close(self) -> None:
        """Terminate it."""
        self._process.terminate()
        self._process.wait(10)


class Fleet:
    """Four processes; a killed one is replaced."""

    def __init__(self, phase: phases.Phase, simulator: Simulator, redis_url: str, folder: pathlib.Path) -> None:
        self._simulator = simulator
        self._redis_url = redis_url
        self._folder = folder
        self._seeds = itertools.count()
        self.began = time.monotonic() + 1.0
        self._until = self.began + HOLD + phase.seconds
        self._loads = [self._with_tokens(load) for load in phase.loads]
        self.running = [self._start() for _ in range(PROCESSES)]

    def _with_tokens(self, load: demand.Load) -> demand.Load:
        if not load.tokens:
            return load
        users = [self._simulator.about["users"][number] for number in load.users]
        return dataclasses.replace(
            load, users=[int(user["id"]) for user in users], tokens=[user["token"] for user in users]
        )

    def _start(self) -> subprocess.Popen[bytes]:
        about, seed = self._simulator.about, next(self._seeds)
        log = str(self._folder / f"{seed}.jsonl")
        orders = demand.Orders(
            self._redis_url,
            about["base_url"],
            about["bot_token"],
            self._simulator.guilds,
            self._until,
            self._loads,
            log,
            seed,
        )
        command = [sys.executable, "-m", "tests.benchmarks.limiter.process"]
        process = subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(orders) + b"\n")
        process.stdin.flush()
        return process

    def kill_one(self) -> None:
        """Kill the oldest process and start another one."""
        oldest = self.running.pop(0)
        oldest.kill()
        oldest.wait(10)
        self.running.append(self._start())

    def finish(self, on_second: Callable[[], None]) -> float:
        """Wait for the end; return the seconds of CPU."""
        while time.monotonic() < self._until:
            time.sleep(1.0)
            on_second()
        cpu = 0.0
        for process in self.running:
            out, _ = process.communicate(timeout=60)
            # Log lines precede it.
            cpu += json.loads(out.splitlines()[-1])["cpu"]
        return cpu

    def records(self) -> list[list[demand.Record]]:
        """Return the records of each process."""
        found = []
        for log in sorted(self._folder.glob("*.jsonl")):
            lines = log.read_bytes().splitlines()
            # The last line of a killed process may be half a line.
            with contextlib.suppress(msgspec.DecodeError):
                found.append([msgspec.json.decode(line, type=demand.Record) for line in lines])
        return found


def run(phase: phases.Phase, redis_url: str, folder: pathlib.Path, on_second: Callable[[], None]) -> Measured:
    """Run one phase from empty budgets."""
    with redis.Redis.from_url(redis_url) as client, contextlib.closing(Simulator(phase)) as simulator:
        client.flushall()
        client.config_resetstat()
        fleet = Fleet(phase, simulator, redis_url, folder)
        events: list[float] = []
        with _inject_event(phase, fleet, simulator, client, events):
            cpu = fleet.finish(on_second)
        stats = simulator.ask("stats?log=1")
        users = [user["id"] for user in simulator.about["users"]]
        commands: Any = client.info("commandstats")
        return Measured(phase, fleet.began, fleet.records(), stats, commands, cpu, events, users)


@contextlib.contextmanager
def _inject_event(
    phase: phases.Phase, fleet: Fleet, simulator: Simulator, client: redis.Redis, events: list[float]
) -> Iterator[None]:
    over = threading.Event()

    def note(work: Callable[[], object]) -> None:
        events.append(time.monotonic())
        work()

    def kill() -> None:
        over.wait(HOLD)
        while not over.wait(min(KILL_EVERY, phase.seconds / 3)):
            note(fleet.kill_one)

    def later(work: Callable[[], object]) -> Callable[[], None]:
        def wait_and_work() -> None:
            if not over.wait(HOLD + phase.seconds / 4):
                note(work)

        return wait_and_work

    def stop() -> None:
        process = fleet.running[0]
        process.send_signal(signal.SIGSTOP)
        over.wait(STOP)
        process.send_signal(signal.SIGCONT)

    events_by_name = {
        "kill": kill,
        "flush": later(client.flushall),
        "stop": later(stop),
        "global": later(
            lambda: simulator.ask("faults", {"kind": "rate_limit", "scope": "global", "retry_after": 2, "times": 1})
        ),
        "foreign": later(lambda: simulator.ask("foreign", {"rate": FOREIGN, "seconds": phase.seconds})),
    }
    thread = threading.Thread(target=events_by_name.get(phase.event, lambda: None))
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(30)
