"""
`python -m workers.refresh`: refreshes guilds and purges old data, separately from the workers that run turns.

The refresher has resources of its own, and can be stopped without delaying any caller; WORKERS_REFRESH=0 disables the
same tasks in the workers. A second refresher adds no speed: one elected process does each round.
"""

import contextlib
import sys
import time
from collections.abc import AsyncIterator

from indexing import concurrency, settings, wiring
from indexing.domain import ports
from indexing.messaging import queue
from indexing.telemetry import logs, metric_types, metrics, tracing
from indexing.usecases import bot_list
from workers import health, process, scheduler


@contextlib.asynccontextmanager
async def running_refresher(config: settings.Settings, clock: ports.Clock) -> AsyncIterator[None]:
    """
    Refresh until the block ends.

    Raises:
        errors.StoreUnavailable, errors.QueueUnavailable: A server does not answer at the start.
        OSError: The port is in use.
    """
    registry = metric_types.new_registry()
    refresher_metrics, watchdog = metrics.Metrics(registry, scheduler.REFRESH_TASKS), health.Watchdog()
    async with contextlib.AsyncExitStack() as stack:
        broker = queue.make_broker(config.redis, middleware=[])
        components = await stack.enter_async_context(wiring.open_components(config, broker, refresher_metrics, clock))
        bot_guilds = bot_list.BotGuilds(components.dependencies, config.indexing)
        stack.push_async_callback(bot_guilds.close)
        tasks = scheduler.Scheduler(components, config.indexing, refresher_metrics, components.clock).refresh_tasks(
            bot_guilds
        )
        await stack.enter_async_context(concurrency.background_tasks(watchdog=watchdog.record_heartbeats, **tasks))
        servers_reason = components.unready_reason
        stack.enter_context(
            health.serving_endpoints(
                config.workers.metrics_address,
                registry,
                live=watchdog.is_live,
                unready=lambda: servers_reason() if watchdog.is_live() else "not live",
            )
        )
        logs.get(__name__).info("refresher_started", port=config.workers.metrics_port)
        yield


async def main() -> None:
    """
    Read the settings and refresh until SIGTERM or SIGINT. A fetch in progress is cancelled, and its guild stays due.

    Raises:
        settings.BadSettings: The settings are invalid.
        errors.StoreUnavailable, errors.QueueUnavailable, OSError: See `running_refresher`.
    """
    config = settings.load()
    logs.configure(config.logs.level, config.logs.format)
    if config.traces.on:
        tracing.configure("indexer-refresh")
    await process.run_until_signal(running_refresher(config, time.time))  # noqa: TID251 -- the one clock of this process


if __name__ == "__main__":
    sys.exit(process.run_process(main))
