"""The output of `up` once everything is ready: addresses, and commands to try."""

import pathlib
import sysconfig
from typing import Any

from rich import console, text

from devstack import ports, stack

SHOWN_USERS = 5
DEFAULT_ADDRESS = f"{ports.HOST}:{ports.FIXED['service-1']}"
"""Where the command line looks for the service if no address is given."""


def document(running: stack.Stack) -> dict[str, Any]:
    """Return all addresses as JSON values."""
    return {
        "addresses": running.addresses,
        "redis_url": running.redis_url,
        "mongodb_url": running.mongodb_url,
        "mongodb_database": running.database,
        "simulator_url": running.simulator_url,
        "metrics_urls": running.metrics_urls,
        "logs": str(running.logs),
        "users": [user.id for user in running.users],
    }


def print_connection_info(running: stack.Stack, screen: console.Console) -> None:
    """Print addresses, log directory, users, and the commands to paste next."""
    lines = [("API (gRPC)", address) for address in running.addresses]
    lines += [(f"metrics {name}", url) for name, url in running.metrics_urls.items()]
    lines += [("simulator statistics", f"{running.simulator_url}/_sim/stats")] if running.simulator_url else []
    lines += [("logs", str(running.logs)), ("users", _users(running))]
    screen.print()
    width = max(len(label) for label, _ in lines)
    for label, value in lines:
        screen.print(text.Text.assemble((label.ljust(width + 2), "dim"), value), soft_wrap=True)
    for name, port in running.taken_ports.items():
        screen.print(text.Text(f"port {port} is in use, so {name} listens on another", style="yellow"))
    screen.print("\nThe users' tokens are stored. In another terminal, paste:\n", style="bold")
    for line in commands(running):
        screen.print(f"  {line}", soft_wrap=True)
    screen.print("\nPress Ctrl-C to stop everything.")


def commands(running: stack.Stack) -> list[str]:
    """Return shell commands that index the first user of a stack and show the result."""
    user = running.users[0].id
    path = [f'export PATH="{pathlib.Path(sysconfig.get_path("scripts"))}:$PATH"']
    address = [] if running.address == DEFAULT_ADDRESS else [f"export INDEXER_ADDRESS={running.address}"]
    shown = [f"index {user} --watch", f"guilds {user}", f"channels {user} --prefix gen", f"limits --user {user}"]
    return [*path, *address, *(f"indexer {command}" for command in shown)]


def _users(running: stack.Stack) -> str:
    ids = [user.id for user in running.users]
    more = f" and {len(ids) - SHOWN_USERS} more" if len(ids) > SHOWN_USERS else ""
    return ", ".join(ids[:SHOWN_USERS]) + more
