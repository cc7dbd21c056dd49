"""
The whole product on loopback: Valkey, a MongoDB-compatible server, the Discord simulator, services and workers.

REDIS_URL and MONGODB_URL replace the stack's own servers. DISCORD_BOT_TOKEN and DISCORD_USER_TOKEN together replace
the simulator by the real Discord. All processes and data are removed when the stack is stopped, when its start fails,
and when the launcher ends in any way (see `reaper`).

    with stack.Stack(stack.Options(users=2, workers=4)) as running:
        running.put_credentials()
        channel = grpc.insecure_channel(running.address)
        running.kill("worker-1")
        running.restart("worker-1")
"""

import dataclasses
import functools
import pathlib
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from typing import Self

from devstack import external_servers, ports, probes, programs, supervisor, users

SIMULATED_BOT_TOKEN = "sim-bot-token"  # noqa: S105 -- the simulator's, no secret
SIMULATED_CLIENT = ("sim-client", "sim-secret")
"""Client id and secret of the simulator's application."""
OPTIONAL_PROGRAMS = {"refresh": programs.refresh, "exporter": programs.exporter, "gateway": programs.gateway}
"""Programs with at most one instance, by the option that enables them."""


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """
    Options of a stack.

    Attributes:
        users: Number of simulated users.
        services: Number of gRPC services.
        workers: Number of workers.
        guilds_per_user: Guilds of each simulated user.
        seed: Seed of the simulated guilds; equal seeds give equal data.
        latency: The simulator's round trip: none, lan, typical, bad, or a range in ms, such as 20-60.
        exporter: Whether to start the exporter of fleet-wide metrics.
        refresh: Whether a separate process refreshes guilds, instead of the workers.
        gateway: Whether a process feeds the index from the Gateway.
        fixed_ports: Whether programs listen on the ports of `ports.FIXED` where these are free.
        simulator: More options of the simulator's command line.
        environment: Settings of services and workers, overriding all others.
        service_environment: Settings of services only, such as the PYTHONPATH of another release.
        worker_environment: Settings of workers only.
    """

    users: int = 1
    services: int = 1
    workers: int = 1
    guilds_per_user: int = 60
    seed: int = 1
    latency: str = "typical"
    exporter: bool = False
    refresh: bool = False
    gateway: bool = False
    fixed_ports: bool = False
    simulator: Sequence[str] = ()
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    service_environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    worker_environment: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def real_discord(self) -> bool:
        """Whether the environment names a bot and a user of the real Discord."""
        return bool(programs.read_env("DISCORD_BOT_TOKEN") and programs.read_env("DISCORD_USER_TOKEN"))


def ignore_report(_report: supervisor.Report) -> None:
    """Ignore a report."""


class Stack:
    """
    A stack, which can be started once.

    Its programs are named valkey, mongodb, simulator, service-1, service-2 …, worker-1, worker-2 …

    Attributes:
        users: The users, once started.
        redis_url: URL of Redis.
        mongodb_url: URL of MongoDB.
        database: Name of the MongoDB database.
        simulator_url: Root URL of the simulator, whose control endpoints are below /_sim; empty with the real Discord.
    """

    def __init__(
        self, options: Options | None = None, report: Callable[[supervisor.Report], None] = ignore_report
    ) -> None:
        self.options = options or Options()
        self.users: list[users.User] = []
        self.redis_url = programs.read_env("REDIS_URL")
        self.mongodb_url = programs.read_env("MONGODB_URL")
        self.simulator_url = ""
        self._services = [f"service-{number + 1}" for number in range(self.options.services)]
        self._workers = [f"worker-{number + 1}" for number in range(self.options.workers)]
        self._optional = [name for name in OPTIONAL_PROGRAMS if getattr(self.options, name)]
        self._programs: dict[str, programs.Program] = {}
        self._ports = ports.Ports(ports.FIXED if self.options.fixed_ports else None)
        self._discord = programs.read_env("DISCORD_API_BASE") or users.DISCORD
        self.database = programs.read_env("MONGODB_DATABASE") or f"indexer_stack_{uuid.uuid4().hex[:12]}"
        self._uses_external_mongodb = False
        self._supervisor = supervisor.Supervisor(report)

    @property
    def address(self) -> str:
        """host:port of the first service."""
        return self.addresses[0]

    @property
    def taken_ports(self) -> dict[str, int]:
        """Fixed ports on which something else listens, by program."""
        return dict(self._ports.taken)

    @property
    def logs(self) -> pathlib.Path:
        """Folder with one log for each program."""
        return self._supervisor.logs

    @property
    def names(self) -> list[str]:
        """Names of the programs that this stack starts, in the order of their display."""
        servers = [
            ("valkey", not programs.read_env("REDIS_URL")),
            ("mongodb", not programs.read_env("MONGODB_URL")),
            ("simulator", not self.options.real_discord),
        ]
        return [*(name for name, ours in servers if ours), *self._services, *self._workers, *self._optional]

    @property
    def addresses(self) -> list[str]:
        """host:port of each service."""
        return [self._programs[name].address for name in self._services]

    @property
    def metrics_urls(self) -> dict[str, str]:
        """URL of the Prometheus metrics of each service, worker and optional program, by name."""
        names = [*self._services, *self._workers, *self._optional]
        return {name: self._programs[name].metrics_url for name in names}

    @property
    def failure(self) -> supervisor.StackFailed | None:
        """Why the stack cannot go on, or None."""
        return self._supervisor.failure

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """
        Start everything and wait until it is ready.

        Raises:
            supervisor.StackFailed: A program did not start; all others are stopped.
        """
        try:
            self._start_servers()
            self._start_product()
        except programs.NotInstalled as missing:
            self.stop()
            raise supervisor.StackFailed(str(missing)) from missing
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop everything, and drop the stack's database from an external MongoDB. Idempotent."""
        self._supervisor.close()
        if self._uses_external_mongodb and not programs.read_env("MONGODB_DATABASE"):
            external_servers.drop_database(self.mongodb_url, self.database)

    def wait(self, seconds: float | None = None) -> supervisor.StackFailed | None:
        """Wait until the stack cannot go on; None when the time is over before that."""
        return self._supervisor.wait(seconds)

    def kill(self, name: str) -> None:
        """Kill a program with all its processes; it is not restarted."""
        self._supervisor.kill(name)

    def terminate(self, name: str) -> int:
        """Send SIGTERM to a program and wait until it ends; returns its exit code."""
        return self._supervisor.terminate(name)

    def restart(self, name: str) -> None:
        """Kill a program if it runs, start it on the same port and data, and wait until it is ready."""
        self._supervisor.restart(name)

    def process_id(self, name: str) -> int:
        """Return the process id of a program."""
        return self._supervisor.process_id(name)

    def signal(self, name: str, number: int) -> None:
        """Send a signal, such as SIGSTOP or SIGCONT, to all processes of a program."""
        self._supervisor.signal(name, number)

    def put_credentials(self) -> None:
        """Store every user's credential through the API."""
        users.put_credentials(self.address, self.users)

    def _start_servers(self) -> None:
        self._start_in_parallel([self._start_redis, self._start_mongodb, self._start_discord])

    def _start_redis(self) -> None:
        if self.redis_url:
            external_servers.wait_until_reachable("REDIS_URL", self.redis_url, probes.redis_answers)
        else:
            self.redis_url = self._start_program(lambda: programs.valkey(self._supervisor.directory)).address

    def _start_mongodb(self) -> None:
        if self.mongodb_url:
            external_servers.wait_until_reachable("MONGODB_URL", self.mongodb_url, probes.mongodb_answers)
            self._uses_external_mongodb = True
        else:
            self.mongodb_url = self._start_program(lambda: programs.mongodb(self._supervisor.directory)).address

    def _start_discord(self) -> None:
        if self.options.real_discord:
            self.users = [users.real_user(self._discord, programs.read_env("DISCORD_USER_TOKEN"))]
            return
        options = self.options
        world = {
            "--seed": str(options.seed),
            "--users": str(options.users),
            "--guilds-per-user": str(options.guilds_per_user),
            "--latency": options.latency,
        }
        command = [*(part for option in world.items() for part in option), *options.simulator]
        self.simulator_url = self._start_program(lambda: programs.simulator(command, self._ports)).address
        self.users = users.simulated_users(self.simulator_url, options.users)

    def _start_product(self) -> None:
        apart = {"WORKERS_REFRESH": "0"} if self.options.refresh else {}
        apart |= {"GATEWAY_ENABLED": "1"} if self.options.gateway else {}
        environment = programs.product_environment(self._connections(), {**apart, **self.options.environment})
        serving = {**environment, **self.options.service_environment}
        working = {**environment, **self.options.worker_environment}
        makers = [
            *(
                functools.partial(programs.service, name, serving | self._own(name), self._ports)
                for name in self._services
            ),
            *(
                functools.partial(programs.worker, name, working | self._own(name), self._ports)
                for name in self._workers
            ),
            *(
                functools.partial(OPTIONAL_PROGRAMS[name], environment | self._own(name), self._ports)
                for name in self._optional
            ),
        ]
        self._start_in_parallel([functools.partial(self._start_program, make) for make in makers])

    def _own(self, _name: str) -> dict[str, str]:
        """Return more settings of one process, overriding all others; for stacks with an address for each process."""
        return {}

    def _start_program(self, make: Callable[[], programs.Program]) -> programs.Program:
        program = self._supervisor.start(make)
        self._programs[program.name] = program
        return program

    def _start_in_parallel(self, starts: Sequence[Callable[[], object]]) -> None:
        pool = futures.ThreadPoolExecutor(len(starts))
        try:
            done, _ = futures.wait([pool.submit(start) for start in starts], return_when=futures.FIRST_EXCEPTION)
            for future in done:
                future.result()
        except BaseException:
            self.stop()  # ends the other waits
            raise
        finally:
            pool.shutdown()

    def _connections(self) -> dict[str, str]:
        connections = {
            "REDIS_URL": self.redis_url,
            "MONGODB_URL": self.mongodb_url,
            "MONGODB_DATABASE": self.database,
            "GLOBAL_BUDGET": programs.read_env("GLOBAL_BUDGET") or "50/1",
            "USER_BUDGET": programs.read_env("USER_BUDGET") or "5/5",
        }
        if not self.simulator_url:
            return {**connections, "DISCORD_API_BASE": self._discord}
        return {
            **connections,
            "DISCORD_API_BASE": f"{self.simulator_url}/api/v10",
            "DISCORD_BOT_TOKEN": SIMULATED_BOT_TOKEN,
            "DISCORD_CLIENT_ID": SIMULATED_CLIENT[0],
            "DISCORD_CLIENT_SECRET": SIMULATED_CLIENT[1],
            # The simulator has just started, so there are no earlier calls to wait for.
            "LIMITER_HOLD": "0",
        }
