"""
`python -m indexer_service`: the gRPC service.

With the word `settings` it prints what it would run with, secrets left out; with `keys rotate` it seals every stored
credential anew with the first key.
"""

import asyncio
import gc
import sys

from indexer_service import rotate_keys as indexer_service_rotate_keys
from indexer_service.server import app, grpc_server
from indexing import errors, settings
from indexing.settings import display
from indexing.telemetry import logs, tracing

COLLECTING = (10_000, 10, 100)
"""
When Python looks for garbage that refers to itself: net allocations, then how many small looks make a larger one.

A look at everything takes some 100 ms with 5,000 streams open, during which nobody is told anything; by default it
comes every few seconds while streams begin and end.
"""


def main() -> int:
    """Run the service; returns the exit code: 2 for settings, 1 for a server that is away."""
    try:
        config = settings.load()
        logs.configure(config.logs.level, config.logs.format)
        if config.traces.on:
            tracing.configure("indexer-service")
        gc.set_threshold(*COLLECTING)
        asyncio.run(app.main(config))
    except settings.BadSettings as problems:
        print(problems, file=sys.stderr)  # noqa: T201 -- for the person who starts it
        return 2
    except grpc_server.CannotListen as problem:
        print(problem, file=sys.stderr)  # noqa: T201 -- as above
        return 2
    except (errors.StoreUnavailable, errors.QueueUnavailable) as problem:
        print(f"cannot start: {problem}", file=sys.stderr)  # noqa: T201 -- as above
        return 1
    return 0


def rotate_keys() -> int:
    """Seal all credentials anew; returns the exit code: 2 for settings, 1 for a server that is away or keys missing."""
    try:
        config = settings.load_keys()
        logs.configure(config.logs.level, config.logs.format)
        return asyncio.run(indexer_service_rotate_keys.rotate(config))
    except settings.BadSettings as problems:
        print(problems, file=sys.stderr)  # noqa: T201 -- for the person who starts it
        return 2
    except errors.StoreUnavailable as problem:
        print(f"not done, start again to go on: {problem}", file=sys.stderr)  # noqa: T201 -- as above
        return 1
    except KeyboardInterrupt:
        print("stopped; start again to go on", file=sys.stderr)  # noqa: T201 -- as above
        return 130


def show_settings() -> int:
    """Print every variable in force, and the problems on standard error; returns 2 when there are any."""
    lines, problems = display.list_settings()
    for line in lines:
        print(line)  # noqa: T201 -- for the person who asks
    for problem in problems:
        print(problem, file=sys.stderr)  # noqa: T201 -- as above
    return 2 if problems else 0


if __name__ == "__main__":
    words = " ".join(sys.argv[1:])
    sys.exit({"settings": show_settings, "keys rotate": rotate_keys}.get(words, main)())
