"""Process runner for programs without Dramatiq: runs until a signal and maps failures to exit codes."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from indexing import errors, settings


async def run_until_signal(program: contextlib.AbstractAsyncContextManager[None]) -> None:
    """Hold *program* open until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with program:
        await stop.wait()


def run_process(main: Callable[[], Coroutine[Any, Any, None]]) -> int:
    """Run *main*; return the exit code: 2 for invalid settings, 1 for an unreachable server or a port in use."""
    try:
        asyncio.run(main())
    except settings.BadSettings as problems:
        print(problems, file=sys.stderr)  # noqa: T201 -- for the operator who starts it
        return 2
    except (errors.StoreUnavailable, errors.QueueUnavailable, OSError) as problem:
        print(f"cannot start: {problem}", file=sys.stderr)  # noqa: T201 -- as above
        return 1
    return 0
