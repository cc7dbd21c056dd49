"""What a process does all the time beside its calls; a duty that fails begins again."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from indexing import errors
from indexing.telemetry import logs

AFTER_FAILURE = 1.0
"""Seconds until a duty that failed begins again."""
PATIENCE = 0.5
"""Seconds until a duty that did not end is cancelled again."""


async def every(seconds: float, work: Callable[[], Awaitable[object]]) -> None:
    """Do *work* again and again, with that pause; never returns."""
    while True:
        await work()
        await asyncio.sleep(seconds)


@contextlib.asynccontextmanager
async def running(**duties: Callable[[], Awaitable[object]]) -> AsyncIterator[None]:
    """Run the named duties until the block ends; each is begun again when it fails, and its failure logged."""
    tasks = [asyncio.create_task(_keep_running(name, duty), name=name) for name, duty in duties.items()]
    try:
        yield
    finally:
        await _end(set(tasks))


async def _end(tasks: set[asyncio.Task[None]]) -> None:
    """Cancel until all have ended: redis-py swallows a cancellation that meets it while it connects."""
    while tasks:
        for task in tasks:
            task.cancel()
        _, tasks = await asyncio.wait(tasks, timeout=PATIENCE)


async def _keep_running(name: str, duty: Callable[[], Awaitable[object]]) -> None:
    log = logs.get(__name__)
    while True:
        try:
            await duty()
        except errors.IndexerError as problem:
            log.warning("duty_failed", duty=name, reason=problem.reason, error=str(problem))
        except Exception:
            log.exception("duty_broke", duty=name)
        await asyncio.sleep(AFTER_FAILURE)
