"""How a process of ours lives that runs nothing of Dramatiq: until it is told to stop, with an exit code that tells."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from indexing import errors, settings


async def run_until_signal(running: contextlib.AbstractAsyncContextManager[None]) -> None:
    """Hold what runs until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running:
        await stop.wait()


def run_process(life: Callable[[], Coroutine[Any, Any, None]]) -> int:
    """Live; returns the exit code: 2 for settings, 1 for a server that is away or a port that is taken."""
    try:
        asyncio.run(life())
    except settings.BadSettings as problems:
        print(problems, file=sys.stderr)  # noqa: T201 -- for the person who starts it
        return 2
    except (errors.StoreUnavailable, errors.QueueUnavailable, OSError) as problem:
        print(f"cannot start: {problem}", file=sys.stderr)  # noqa: T201 -- as above
        return 1
    return 0
