"""`python -m indexer_service`: the gRPC service; with further words a command of its operator, see USAGE."""

import asyncio
import gc
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from indexer_service import inspect, migrate, rotate_keys, stops
from indexer_service.server import app, grpc_server
from indexing import errors, settings
from indexing.settings import display
from indexing.telemetry import audit, logs, tracing

Config = TypeVar("Config", settings.KeysConfig, settings.MigrationConfig, settings.StopsConfig)
GC_THRESHOLDS = (10_000, 10, 100)
"""
When Python collects reference cycles: net allocations for the youngest generation, then collections of the one below.

A full collection takes some 100 ms with 5,000 open streams and stops all of them. With the default thresholds one runs
every few seconds while streams open and close.
"""


def serve() -> int:
    """Run the service; returns the exit code: 2 for invalid settings, 1 for a server that cannot be reached."""
    try:
        config = settings.load()
        logs.configure(config.logs.level, config.logs.format)
        audit.configure(config.audit.log, config.audit.max_bytes, config.audit.files)
        if config.traces.on:
            tracing.configure("indexer-service")
        gc.set_threshold(*GC_THRESHOLDS)
        asyncio.run(app.run_until_signal(config))
    except settings.BadSettings as problems:
        print(problems, file=sys.stderr)  # noqa: T201 -- for the person who starts it
        return 2
    except grpc_server.CannotListen as problem:
        print(problem, file=sys.stderr)  # noqa: T201 -- as above
        return 2
    except audit.CannotWrite as problem:
        print(problem, file=sys.stderr)  # noqa: T201 -- as above
        return 2
    except (errors.StoreUnavailable, errors.QueueUnavailable) as problem:
        print(f"cannot start: {problem}", file=sys.stderr)  # noqa: T201 -- as above
        return 1
    return 0


def rotate() -> int:
    """Encrypt all credentials again; returns the exit code: 2 for invalid settings, 1 for an incomplete rotation."""
    return _run(settings.load_keys, rotate_keys.rotate_keys)


def migrate_rows() -> int:
    """Move the stored data to documents; returns the exit code: 2 for invalid settings, 1 for what is not complete."""
    return _run(settings.load_migration, migrate.migrate)


def drop_rows() -> int:
    """Drop the rows; returns the exit code: 2 for invalid settings, 1 when nothing, or not all, was dropped."""
    return _run(settings.load_migration, migrate.drop_rows)


def show_stops() -> int:
    """Print what stops the fleet; returns the exit code: 2 for invalid settings, 1 when Redis cannot be read."""
    return _run(settings.load_stops, stops.show)


def lift_stops() -> int:
    """Lift what stops the fleet; returns the exit code: 2 for invalid settings, 1 for a refusal or a failure."""
    return _run(settings.load_stops, stops.lift)


def _run(load: Callable[[], Config], command: Callable[[Config], Coroutine[Any, Any, int]]) -> int:
    """Run a command that can be repeated, with the settings that *load* reads; returns its exit code."""
    try:
        config = load()
        logs.configure(config.logs.level, config.logs.format)
        return asyncio.run(command(config))
    except settings.BadSettings as problems:
        print(problems, file=sys.stderr)  # noqa: T201 -- for the person who starts it
        return 2
    except audit.CannotWrite as problem:
        print(problem, file=sys.stderr)  # noqa: T201 -- as above
        return 2
    except (errors.StoreUnavailable, errors.QueueUnavailable, errors.LimiterUnavailable) as problem:
        print(f"not complete: {problem}; run it again to continue", file=sys.stderr)  # noqa: T201 -- as above
        return 1
    except KeyboardInterrupt:
        print("stopped; run it again to continue", file=sys.stderr)  # noqa: T201 -- as above
        return 130


def inspect_one(kind: str, identity: str) -> int:
    """Print what is stored of a guild or a user; returns the exit code: 2 for invalid settings."""
    return _run(settings.load_migration, lambda config: inspect.inspect(config, kind, int(identity)))


def print_settings() -> int:
    """Print every variable in force, and the problems on standard error; returns 2 when there are any."""
    lines, problems = display.list_settings()
    for line in lines:
        print(line)  # noqa: T201 -- for the person who asks
    for problem in problems:
        print(problem, file=sys.stderr)  # noqa: T201 -- as above
    return 2 if problems else 0


USAGE = """\
usage: python -m indexer_service                            run the service
       python -m indexer_service settings                   print the settings in force, without secrets
       python -m indexer_service keys rotate                encrypt every stored credential again
       python -m indexer_service migrate [--drop-rows]      move the stored data to the form of this release
       python -m indexer_service inspect guild|user ID      print what is stored of one
       python -m indexer_service stops                      print what stops all calls to Discord
       python -m indexer_service stops lift                 lift it; recorded in the audit log\
"""
COMMANDS = {
    "": serve,
    "settings": print_settings,
    "keys rotate": rotate,
    "migrate": migrate_rows,
    "migrate --drop-rows": drop_rows,
    "stops": show_stops,
    "stops lift": lift_stops,
}


def main(arguments: Sequence[str]) -> int:
    """Run the command that *arguments* name, the service without any; returns the exit code: 2 for unknown ones."""
    command = COMMANDS.get(" ".join(arguments))
    if command is not None:
        return command()
    match arguments:
        case ["inspect", "guild" | "user" as kind, identity] if identity.isascii() and identity.isdecimal():
            return inspect_one(kind, identity)
    print(USAGE, file=sys.stderr)  # noqa: T201 -- as above
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
