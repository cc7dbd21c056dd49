"""
`python -m workers.refresh`: keeps the index fresh and erases what is gone, apart from the workers that run turns.

So refreshing has resources of its own, and can be stopped with nobody waiting for it; WORKERS_REFRESH=0 takes it from
the workers. Two of these processes are no faster than one: in each round one of them does all of it.
"""

import contextlib
import sys
import time
from collections.abc import AsyncIterator

from indexing import concurrency, settings, wiring
from indexing.domain import ports
from indexing.messaging import queue
from indexing.telemetry import logs, metric_types, metrics, tracing
from indexing.usecases import guild_lists
from workers import health, process, scheduler


@contextlib.asynccontextmanager
async def running_refresher(config: settings.Settings, clock: ports.Clock) -> AsyncIterator[None]:
    """
    Refresh until the block ends.

    Raises:
        errors.StoreUnavailable, errors.QueueUnavailable: A server is away at boot.
        OSError: The port is taken.
    """
    to = metric_types.new_registry()
    seen, beating = metrics.Metrics(to, scheduler.REFRESH_TASKS), health.Watchdog()
    async with contextlib.AsyncExitStack() as stack:
        parts = await stack.enter_async_context(
            wiring.open_components(config, queue.make_broker(config.redis, middleware=[]), seen, clock)
        )
        bot = guild_lists.GuildLists(parts.dependencies, config.indexing).bot
        shared = scheduler.Scheduler(parts, config.indexing, seen, clock)
        await stack.enter_async_context(
            concurrency.background_tasks(pulse=beating.record_heartbeats, **shared.refresh_tasks(bot))
        )
        stack.enter_context(
            health.serve_endpoints(config.workers.metrics_port, to, live=beating.live, ready=beating.live)
        )
        logs.get(__name__).info("refresher_started", port=config.workers.metrics_port)
        yield


async def main() -> None:
    """
    Read the settings, and refresh until SIGTERM or SIGINT; a reading under way is given up, and its guild stays due.

    Raises:
        settings.BadSettings, and what `refreshing` does.
    """
    config = settings.load()
    logs.configure(config.logs.level, config.logs.format)
    if config.traces.on:
        tracing.configure("indexer-refresh")
    await process.run_until_signal(running_refresher(config, time.time))  # noqa: TID251 -- the one clock of this process


if __name__ == "__main__":
    sys.exit(process.run_process(main))
