"""
`python -m workers.exporter`: shows what belongs to the whole fleet, to one who scrapes it.

It reads Redis and MongoDB when it is scraped and never writes. A source that does not answer takes its series with it,
so that nobody takes an old number for a new one. One replica is enough; two show the same.
"""

import asyncio
import contextlib
import statistics
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import prometheus_client
import redis.asyncio

from indexing import errors, settings, wiring
from indexing.messaging import redis_client
from indexing.messaging import stats as queue_readings
from indexing.ratelimit import limits, redis_store
from indexing.store import database as store_database
from indexing.store import stats as store_readings
from indexing.telemetry import logs, metric_types, metrics
from workers import health, process

TENTHS = 10


class Exporter:
    """Reads all sources into `metrics.FleetMetrics`."""

    def __init__(
        self,
        config: settings.ExporterConfig,
        client: redis.asyncio.Redis,
        database: store_database.Database,
        seen: metrics.FleetMetrics,
        clock: Callable[[], float],
    ) -> None:
        self._config = config
        self._client = client
        self._database = database
        self._seen = seen
        self._clock = clock
        self._rules = limits.Rules.of(config.limiter, config.discord.timeout)
        self._budgets = redis_store.RedisBudgets(client, wiring.application_name(config.discord))
        self._working: tuple[int, ...] = ()
        self._one_reads = asyncio.Lock()
        self._log = logs.get(__name__)

    async def update_metrics(self) -> None:
        """Read all sources, one after the other, each within its time; never raises."""
        async with self._one_reads:
            started = time.perf_counter()
            await self._read_source("mongodb", self._read_store, self._store_gauges())
            await self._read_source("redis", self._read_queue, self._queue_gauges())
            await self._read_source("budgets", self._read_budgets, self._budget_gauges())
            self._seen.scrape.set(time.perf_counter() - started)

    async def _read_source(
        self, source: str, read: Callable[[], Awaitable[None]], gauges: Sequence[prometheus_client.Gauge]
    ) -> None:
        try:
            async with asyncio.timeout(self._config.exporter.timeout):
                await read()
        except (errors.IndexerError, TimeoutError) as problem:
            self._log.warning("source_unreadable", source=source, error=str(problem))
            self._seen.up.labels(source).set(0)
            for gauge in gauges:
                metric_types.clear_gauge(gauge)
        else:
            self._seen.up.labels(source).set(1)

    async def _read_store(self) -> None:
        self._working = ()
        found = await store_readings.read_store_stats(self._database, self._clock())
        self._working = found.working
        self._seen.active.set(found.active)
        self._seen.overdue.set(found.overdue)
        self._seen.credentials.labels("stored").set(found.users)
        self._seen.credentials.labels("reauth_required").set(found.reauth)

    async def _read_queue(self) -> None:
        found = await queue_readings.read_queue_stats(self._client)
        for name, queue in found.queues.items():
            for state, count in (("live", queue.live), ("ready", queue.ready), ("dead", queue.dead)):
                self._seen.queue.labels(metric_types.QUEUE.fit(name), state).set(count)
            self._seen.oldest.labels(metric_types.QUEUE.fit(name)).set(queue.oldest)
        self._seen.waiting.set(found.waiting)
        self._seen.workers.set(found.workers)

    async def _read_budgets(self) -> None:
        states = await self._budgets.snapshot(self._rules, self._working)
        for one in states:
            if one.kind in metric_types.SINGLE_BUDGET.values:
                self._seen.free.labels(one.kind).set(one.free)
                self._seen.capacity.labels(one.kind).set(one.capacity)
                self._seen.window.labels(one.kind).set(one.window)
                for why in metric_types.REFUSAL_REASON.values:
                    self._seen.paused.labels(one.kind, why).set(one.paused_for if why == one.why else 0.0)
        users = self._config.limiter.user_budget
        self._seen.capacity.labels("user").set(users.capacity)
        self._seen.window.labels("user").set(users.window)
        shares = [one.free / one.capacity for one in states if one.kind == "user"]
        self._seen.user_free.labels("min").set(min(shares, default=1.0))
        self._seen.user_free.labels("p10").set(lowest_tenth(shares))
        routes = [route_state(one) for one in states if one.kind == "route"]
        for state in metric_types.BUCKET_STATE.values:
            self._seen.routes.labels(state).set(routes.count(state))

    def _store_gauges(self) -> list[prometheus_client.Gauge]:
        return [self._seen.active, self._seen.overdue, self._seen.credentials]

    def _queue_gauges(self) -> list[prometheus_client.Gauge]:
        return [self._seen.queue, self._seen.oldest, self._seen.waiting, self._seen.workers]

    def _budget_gauges(self) -> list[prometheus_client.Gauge]:
        seen = self._seen
        return [seen.free, seen.capacity, seen.window, seen.paused, seen.user_free, seen.routes]


def lowest_tenth(shares: Sequence[float]) -> float:
    """Return the 10th percentile, 1 of nothing."""
    if len(shares) < 2:  # noqa: PLR2004 -- one value is all its percentiles
        return min(shares, default=1.0)
    return statistics.quantiles(shares, n=TENTHS, method="inclusive")[0]


def route_state(state: limits.BudgetState) -> str:
    """Return what is said of a route's budget."""
    if state.paused_for:
        return "paused"
    return "open" if state.free else "exhausted"


@contextlib.asynccontextmanager
async def running_exporter(config: settings.ExporterConfig, clock: Callable[[], float]) -> AsyncIterator[None]:
    """
    Serve until the block ends.

    Raises:
        errors.StoreUnavailable, errors.QueueUnavailable: A server is away at boot.
        OSError: The port is taken.
    """
    loop = asyncio.get_running_loop()
    to = metric_types.new_registry()
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(redis_client.open_redis(config.redis))
        database = await stack.enter_async_context(store_database.open_database(config.mongo))
        process = metrics.ProcessMetrics(to, ["read"])
        exporter = Exporter(config, client, database, metrics.FleetMetrics(to), clock)
        closing = threading.Event()

        def update_metrics() -> None:
            """Read on our loop, for the thread that serves a scrape."""
            if not closing.is_set():
                asyncio.run_coroutine_threadsafe(exporter.update_metrics(), loop).result()
                process.record_success("read", clock())

        serving = health.serve_endpoints(
            config.exporter.port, to, live=lambda: True, ready=lambda: not closing.is_set(), before=update_metrics
        )
        await asyncio.to_thread(serving.__enter__)
        logs.get(__name__).info("exporter_started", port=config.exporter.port)
        try:
            yield
        finally:
            closing.set()
            # In a thread, because a scrape that is being served still needs this loop.
            await asyncio.to_thread(serving.__exit__, None, None, None)


async def main() -> None:
    """Read the settings, and serve until SIGTERM or SIGINT; raises settings.BadSettings, and what `exporting` does."""
    config = settings.load_exporter()
    logs.configure(config.logs.level, config.logs.format)
    await process.run_until_signal(running_exporter(config, time.time))  # noqa: TID251 -- the one clock of this process


if __name__ == "__main__":
    sys.exit(process.run_process(main))
