"""
`python -m workers.exporter`: serves the state of the whole fleet as metrics.

It reads Redis and MongoDB at each scrape and writes nothing. The series of a source that does not respond are removed,
so that no stale value looks current. One replica is enough; a second one reports the same values.
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
from indexing.messaging import stats as queue_stats
from indexing.ratelimit import identifies, limits, redis_store
from indexing.store import database, shards
from indexing.store import stats as store_stats
from indexing.telemetry import fleet_metrics, logs, metric_types, metrics
from workers import health, process

TENTHS = 10
MOST_CALLERS = 32
"""Callers that are exported by name."""


class Exporter:
    """Copies the state of all sources into `fleet_metrics.FleetMetrics`."""

    def __init__(
        self,
        config: settings.ExporterConfig,
        client: redis.asyncio.Redis,
        db: database.Database,
        metrics: fleet_metrics.FleetMetrics,
        clock: Callable[[], float],
    ) -> None:
        self._config = config
        self._client = client
        self._db = db
        self._metrics = metrics
        self._feed = metrics.gateway
        self._clock = clock
        self._parameters = limits.LimiterParameters.from_settings(config.limiter, config.discord.timeout)
        self._application = wiring.application_name(config.discord)
        self._budgets = redis_store.RedisBudgetStore(client, self._application)
        self._active_user_ids: tuple[int, ...] = ()
        self._now = 0.0
        self._updating = asyncio.Lock()
        self._log = logs.get(__name__)

    async def update_metrics(self) -> None:
        """Read all sources in sequence, each with a timeout. Never raises."""
        async with self._updating:
            started = time.perf_counter()
            await self._read_source("mongodb", self._read_store, self._store_gauges())
            await self._read_source("redis", self._read_queue, self._queue_gauges())
            await self._read_source("budgets", self._read_budgets, self._budget_gauges())
            await self._read_source("gateway", self._read_feed, self._feed.gauges())
            self._metrics.scrape.set(time.perf_counter() - started)

    async def _read_source(
        self, source: str, read: Callable[[], Awaitable[None]], gauges: Sequence[prometheus_client.Gauge]
    ) -> None:
        try:
            async with asyncio.timeout(self._config.exporter.timeout):
                await read()
        except (errors.IndexerError, TimeoutError) as problem:
            self._log.warning("source_unreadable", source=source, error=str(problem))
            self._metrics.up.labels(source).set(0)
            for gauge in gauges:
                metric_types.clear_gauge(gauge)
        else:
            self._metrics.up.labels(source).set(1)

    async def _read_store(self) -> None:
        self._active_user_ids = ()
        self._now = self._clock()
        stats = await store_stats.read_store_stats(self._db, self._now)
        self._active_user_ids = stats.active_user_ids
        self._metrics.active.set(stats.active)
        self._metrics.overdue.set(stats.overdue)
        self._metrics.credentials.labels("stored").set(stats.users)
        self._metrics.credentials.labels("reauth_required").set(stats.reauth)

    async def _read_queue(self) -> None:
        stats = await queue_stats.read_queue_stats(self._client)
        for name, queue in stats.queues.items():
            for state, count in (("live", queue.live), ("ready", queue.ready), ("dead", queue.dead)):
                self._metrics.queue.labels(metric_types.QUEUE.fit(name), state).set(count)
            self._metrics.oldest.labels(metric_types.QUEUE.fit(name)).set(queue.oldest)
        self._metrics.waiting.set(stats.waiting)
        self._metrics.workers.set(stats.workers)
        facts = await queue_stats.read_server_facts(self._client)
        self._metrics.redis_memory.set(facts.memory_used)
        self._metrics.redis_replicas.set(facts.replicas)
        self._metrics.redis_replica_lag.set(facts.replica_lag)
        self._metrics.redis_fault.labels("evicts").set(facts.evicts)
        self._metrics.redis_fault.labels("disk").set(facts.disk_failed)

    async def _read_budgets(self) -> None:
        states = await self._budgets.snapshot(self._parameters, self._active_user_ids)
        for state in states:
            if state.kind in metric_types.SINGLE_BUDGET.values and not state.key:
                self._metrics.free.labels(state.kind).set(state.free)
                self._metrics.capacity.labels(state.kind).set(state.capacity)
                self._metrics.window.labels(state.kind).set(state.window)
                for reason in metric_types.REFUSAL_REASON.values:
                    seconds = state.paused_for if reason == state.reason else 0.0
                    self._metrics.paused.labels(state.kind, reason).set(seconds)
        self._set_callers([state for state in states if state.kind == "invalid_requests" and state.key])
        user_budget = self._config.limiter.user_budget
        self._metrics.capacity.labels("user").set(user_budget.capacity)
        self._metrics.window.labels("user").set(user_budget.window)
        shares = [state.free / state.capacity for state in states if state.kind == "user"]
        self._metrics.user_free.labels("min").set(min(shares, default=1.0))
        self._metrics.user_free.labels("p10").set(tenth_percentile(shares))
        routes = [route_state(state) for state in states if state.kind == "route"]
        for name in metric_types.ROUTE_STATE.values:
            self._metrics.routes.labels(name).set(routes.count(name))

    async def _read_feed(self) -> None:
        stats = await shards.read_feed_stats(self._db, self._now)
        if not stats.shards:
            return
        self._feed.unowned.set(stats.unowned)
        self._feed.proof_age.set(stats.oldest_proof)
        self._feed.fed.set(stats.fed / stats.known if stats.known else 0.0)
        left = await identifies.read_left(self._client, self._application)
        if left is not None:
            self._feed.identifies_left.set(left[0])

    def _set_callers(self, states: Sequence[limits.BudgetState]) -> None:
        """Set the series of callers whose tokens were refused lately, those with the most first; remove the others."""
        for gauge in (self._metrics.refused_tokens, self._metrics.caller_stopped):
            metric_types.clear_gauge(gauge)
            gauge.labels(metric_types.OTHER)  # at 0, so that the series exists before the first refusal
        by_count = sorted(states, key=lambda state: (-state.paused_for, state.free))
        for rank, state in enumerate(by_count):
            name = state.key if rank < MOST_CALLERS else metric_types.OTHER
            self._metrics.refused_tokens.labels(name).inc(state.capacity - state.free)
            if rank <= MOST_CALLERS:
                # Of the others, the one that is stopped longest.
                self._metrics.caller_stopped.labels(name).set(state.paused_for)

    def _store_gauges(self) -> list[prometheus_client.Gauge]:
        return [self._metrics.active, self._metrics.overdue, self._metrics.credentials]

    def _queue_gauges(self) -> list[prometheus_client.Gauge]:
        fleet = self._metrics
        servers = [fleet.redis_memory, fleet.redis_replicas, fleet.redis_replica_lag, fleet.redis_fault]
        return [fleet.queue, fleet.oldest, fleet.waiting, fleet.workers, *servers]

    def _budget_gauges(self) -> list[prometheus_client.Gauge]:
        fleet = self._metrics
        callers = [fleet.refused_tokens, fleet.caller_stopped]
        return [fleet.free, fleet.capacity, fleet.window, fleet.paused, fleet.user_free, fleet.routes, *callers]


def tenth_percentile(shares: Sequence[float]) -> float:
    """Return the 10th percentile, 1 without any share."""
    if len(shares) < 2:  # noqa: PLR2004 -- one value is all its percentiles
        return min(shares, default=1.0)
    return statistics.quantiles(shares, n=TENTHS, method="inclusive")[0]


def route_state(state: limits.BudgetState) -> str:
    """Return the value of the label `state` for a route's budget."""
    if state.paused_for:
        return "paused"
    return "open" if state.free else "exhausted"


@contextlib.asynccontextmanager
async def running_exporter(config: settings.ExporterConfig, clock: Callable[[], float]) -> AsyncIterator[None]:
    """
    Serve until the block ends.

    Raises:
        errors.StoreUnavailable, errors.QueueUnavailable: A server does not answer at the start.
        OSError: The port is in use.
    """
    loop = asyncio.get_running_loop()
    registry = metric_types.new_registry()
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(
            redis_client.open_redis(config.redis, start_timeout=config.redis.start_timeout)
        )
        db = await stack.enter_async_context(database.open_database(config.mongo))
        process_metrics = metrics.ProcessMetrics(registry, ["export"])
        exporter = Exporter(config, client, db, fleet_metrics.FleetMetrics(registry), clock)
        closing = threading.Event()

        def update_metrics() -> None:
            """Run the update on the event loop, for the thread that serves a scrape."""
            if not closing.is_set():
                asyncio.run_coroutine_threadsafe(exporter.update_metrics(), loop).result()
                process_metrics.record_success("export", clock())

        server = health.serving_endpoints(
            (config.exporter.host, config.exporter.port),
            registry,
            live=lambda: True,
            unready=lambda: "closing" if closing.is_set() else "",
            before_scrape=update_metrics,
        )
        await asyncio.to_thread(server.__enter__)
        logs.get(__name__).info("exporter_started", port=config.exporter.port)
        try:
            yield
        finally:
            closing.set()
            # In a thread, because a scrape in progress still needs this loop.
            await asyncio.to_thread(server.__exit__, None, None, None)


async def main() -> None:
    """
    Read the settings and serve until SIGTERM or SIGINT.

    Raises:
        settings.BadSettings: The settings are invalid.
        errors.StoreUnavailable, errors.QueueUnavailable, OSError: See `running_exporter`.
    """
    config = settings.load_exporter()
    logs.configure(config.logs.level, config.logs.format)
    await process.run_until_signal(running_exporter(config, time.time))  # noqa: TID251 -- the one clock of this process


if __name__ == "__main__":
    sys.exit(process.run_process(main))
