"""
`python -m workers.refresh`: keeps the index fresh and erases what is gone, apart from the workers that run turns.

So refreshing has resources of its own, and can be stopped with nobody waiting for it; WORKERS_REFRESH=0 takes it from
the workers. Two of these processes are no faster than one: in each round one of them does all of it.
"""

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import AsyncIterator

from indexing import duties, errors, instruments, listing, logs, metrics, ports, settings, traces, wiring
from indexing.bus import queue
from workers import pulse, rota, web


@contextlib.asynccontextmanager
async def refreshing(config: settings.Settings, clock: ports.Clock) -> AsyncIterator[None]:
    """
    Refresh until the block ends.

    Raises:
        errors.StoreUnavailable, errors.QueueUnavailable: A server is away at boot.
        OSError: The port is taken.
    """
    to = instruments.new_registry()
    seen, beating = metrics.Metrics(to, rota.REFRESHING), pulse.Pulse()
    async with contextlib.AsyncExitStack() as stack:
        parts = await stack.enter_async_context(
            wiring.open_parts(config, queue.make_broker(config.redis, middleware=[]), seen, clock)
        )
        bot = listing.Listing(parts.world, config.indexing).bot
        shared = rota.Rota(parts, config.indexing, seen, clock)
        await stack.enter_async_context(duties.running(pulse=beating.beat, **shared.refreshing(bot)))
        stack.enter_context(web.serving(config.workers.metrics_port, to, live=beating.live, ready=beating.live))
        yield


async def serve(config: settings.Settings) -> None:
    """Refresh until SIGTERM or SIGINT; a reading that is under way is given up, and its guild stays due."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with refreshing(config, time.time):  # noqa: TID251 -- the one clock of this process
        logs.get(__name__).info("refreshing", port=config.workers.metrics_port)
        await stop.wait()


def main() -> int:
    """Run the process; returns the exit code: 2 for settings, 1 for a server that is away or a port that is taken."""
    try:
        config = settings.load()
        logs.configure(config.logs.level, config.logs.format)
        if config.traces.on:
            traces.configure("indexer-refresh")
        asyncio.run(serve(config))
    except settings.BadSettings as problems:
        print(problems, file=sys.stderr)  # noqa: T201 -- for the person who starts it
        return 2
    except (errors.StoreUnavailable, errors.QueueUnavailable, OSError) as problem:
        print(f"cannot start: {problem}", file=sys.stderr)  # noqa: T201 -- as above
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
