"""The output of `up` once everything is ready: addresses, and commands to try."""

import pathlib
import sys
import sysconfig
from typing import Any

from rich import console, text

from devstack import stack

SHOWN_USERS = 5


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
    """Print addresses, log directory, users, and commands to try."""
    lines = [(f"metrics {name}", url) for name, url in running.metrics_urls.items()]
    lines += [("simulator statistics", f"{running.simulator_url}/_sim/stats")] if running.simulator_url else []
    lines += [("logs", str(running.logs)), ("users", _users(running))]
    screen.print()
    width = max(len(label) for label, _ in lines)
    for label, value in lines:
        screen.print(text.Text.assemble((label.ljust(width + 2), "dim"), value), soft_wrap=True)
    indexer, user = _indexer(), running.users[0].id
    screen.print("\nIn another terminal, try:\n", style="bold")
    commands = [f"index {user}", f"guilds {user}", f"channels {user} --order activity", f"limits --watch --user {user}"]
    for line in [f"export INDEXER_ADDRESS={running.address}", *(f"{indexer} {command}" for command in commands)]:
        screen.print(f"  {line}", soft_wrap=True)
    screen.print("\nPress Ctrl-C to stop everything.")


def _users(running: stack.Stack) -> str:
    ids = [user.id for user in running.users]
    more = f" and {len(ids) - SHOWN_USERS} more" if len(ids) > SHOWN_USERS else ""
    return ", ".join(ids[:SHOWN_USERS]) + more


def _indexer() -> str:
    """Return the shortest command that runs `indexer` from the current directory."""
    script = pathlib.Path(sysconfig.get_path("scripts"), "indexer")
    if not script.exists():
        return f"{sys.executable} -m indexer_client.cli"
    here = pathlib.Path.cwd()
    return str(script.relative_to(here)) if script.is_relative_to(here) else str(script)
