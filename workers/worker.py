"""
The worker process: Dramatiq's event loop, the runtime that opens the core's components, and the actor that runs a turn.

The runtime follows the event loop in the middleware, so that the loop runs both when it opens and when it closes.
Dramatiq logs and ignores exceptions of a hook, except MiddlewareError, so a failed boot raises one.
"""

import contextlib
import time
from collections.abc import Callable
from typing import Any

import dramatiq
import dramatiq.asyncio
import dramatiq.middleware
from opentelemetry import trace

from indexing import concurrency, errors, settings, wiring
from indexing.domain import turns
from indexing.messaging import queue
from indexing.telemetry import logs, metric_types, metrics, tracing
from indexing.usecases import guild_lists, run_turn, turn_capacity
from workers import health, scheduler

PERIODIC_TASKS = ("delayed_queue", "sweep", *scheduler.REFRESH_TASKS)
"""Includes the refresh tasks even when the refresher runs them, so that their metrics exist without one too."""
TIME_LIMIT_MS = 180_000
"""
Far beyond the longest turn, also when each operation of MongoDB takes two seconds. Dramatiq aborts a turn that hangs;
its job goes on without it as soon as the lease of the turn expires.
"""


INTERRUPT_CHECK = 1.0
"""Seconds between two checks of a waiting thread whether its turn is to be aborted, instead of Dramatiq's 0.1."""


class BootFailed(dramatiq.middleware.MiddlewareError):
    """A server is unreachable, so the process must exit and be restarted."""


class EventLoop(dramatiq.middleware.AsyncIO):
    """
    Dramatiq's event loop in a daemon thread.

    Dramatiq's own thread is not a daemon: a process that failed to boot, or got a second SIGTERM, would never exit.
    """

    def before_worker_boot(self, broker: dramatiq.Broker, worker: Any) -> None:  # noqa: ANN401, ARG002 -- their hook
        """Start the loop."""
        thread = dramatiq.asyncio.EventLoopThread(self.logger, INTERRUPT_CHECK)
        thread.daemon = True
        thread.start(timeout=1.0)
        dramatiq.asyncio.set_event_loop_thread(thread)


class WorkerRuntime(dramatiq.Middleware):
    """Opens the components before the worker takes messages, and closes them after its last message."""

    def __init__(self, config: settings.Settings) -> None:
        self._config = config
        self._clock = time.time  # noqa: TID251 -- the one clock of this process
        self._stack = contextlib.AsyncExitStack()
        self._registry = metric_types.new_registry()
        self._metrics = metrics.Metrics(self._registry, PERIODIC_TASKS)
        self._worker_metrics = metrics.WorkerMetrics(self._registry)
        self._worker_metrics.threads.set(config.workers.threads)
        self._capacity = turn_capacity.Capacity(config.limiter.user_budget.capacity, config.workers.threads)
        self._turn_runner: run_turn.TurnRunner | None = None
        self._worker: Any = None
        self._watchdog = health.Watchdog()
        self._servers_unready: Callable[[], str] | None = None
        self._log = logs.get(__name__)

    async def run_turn(self, turn: turns.Turn) -> None:
        """Run one turn. When a server fails, the job is left to the sweeper, so that no message is retried."""
        if self._turn_runner is None:
            raise RuntimeError("the worker is not booted")
        try:
            trace_context = tracing.continue_trace(turns.ACTOR, turn.carried, trace.SpanKind.CONSUMER)
            with self._worker_metrics.running.track_inprogress(), trace_context, logs.bound(job=turn.job_id):
                await self._turn_runner.run_background_turn(turn)
        except errors.IndexerError as problem:
            self._log.warning("turn_failed", job=turn.job_id, reason=problem.reason, error=str(problem))

    def before_process_message(self, broker: dramatiq.Broker, message: dramatiq.MessageProxy) -> None:  # noqa: ARG002 -- their hook
        """Measure how long a turn was queued. The clocks of two machines are compared."""
        delay = self._clock() - message.message_timestamp / 1000 + message.options.get(queue.WAITED, 0.0)
        self._worker_metrics.delay.labels(metric_types.QUEUE.fit(message.queue_name)).observe(max(0.0, delay))

    def before_worker_boot(self, broker: dramatiq.Broker, worker: Any) -> None:  # noqa: ANN401 -- their hook
        """Open the components. A failure ends the process."""
        self._worker = worker
        thread = _event_loop_thread()
        try:
            thread.run_coroutine(self._open(broker))
        except (errors.IndexerError, OSError) as problem:
            self._log.error("cannot_start", error=str(problem))
            raise BootFailed(str(problem)) from problem

    def before_worker_shutdown(self, broker: dramatiq.Broker, worker: Any) -> None:  # noqa: ANN401, ARG002 -- their hook
        """Have the running turns end soon."""
        self._capacity.drain()

    def after_worker_shutdown(self, broker: dramatiq.Broker, worker: Any) -> None:  # noqa: ANN401, ARG002 -- their hook
        """Close the components, the web server last."""
        _event_loop_thread().run_coroutine(self._stack.aclose())

    async def _open(self, broker: dramatiq.Broker) -> None:
        async with contextlib.AsyncExitStack() as stack:
            address = self._config.workers.metrics_address
            stack.enter_context(
                health.serving_endpoints(address, self._registry, live=self._is_live, unready=self._unready_reason)
            )
            components = await stack.enter_async_context(
                wiring.open_components(self._config, broker, self._metrics, self._clock)
            )
            dependencies, config = components.dependencies, self._config.indexing
            lists = guild_lists.GuildLists(
                dependencies, config, most_stored=lambda: components.database.operations_limit
            )
            stack.push_async_callback(lists.close)
            self._turn_runner = run_turn.TurnRunner(
                dependencies,
                config,
                self._metrics.indexing,
                lists,
                capacity=self._capacity,
            )
            tasks = scheduler.Scheduler(components, config, self._metrics, components.clock)
            poller = queue.DelayedQueuePoller(
                components.redis,
                components.queue,
                most_ready=self._config.workers.spare_turns,
                on_sweep_requested=tasks.request_sweep,
            )
            stack.push_async_callback(poller.close)

            async def poll_delayed_queue() -> None:
                while True:
                    pause = await poller.enqueue_due()
                    self._metrics.process.record_success("delayed_queue", components.clock())
                    await poller.sleep(pause)

            await stack.enter_async_context(
                concurrency.background_tasks(
                    delayed_queue=poll_delayed_queue,
                    watchdog=self._watchdog.record_heartbeats,
                    **tasks.sweep_tasks(),
                    **(tasks.refresh_tasks(lists.bot_guilds) if self._config.workers.refresh else {}),
                )
            )
            self._servers_unready = components.unready_reason
            self._stack = stack.pop_all()

    def _is_live(self) -> bool:
        """Return whether the event loop and Dramatiq's threads run. An outage of Redis does not need a restart."""
        return self._are_threads_live() and self._watchdog.is_live()

    def _are_threads_live(self) -> bool:
        if self._worker is None:
            return True
        broker = self._worker.broker
        last_heartbeat = broker.last_heartbeat if isinstance(broker, queue.Broker) else {}
        stale = {name for name, at in last_heartbeat.items() if time.monotonic() - at > health.STALE}
        threads = [*self._worker.workers, *self._worker.consumers.values()]
        hung = [self._worker.consumers[name] for name in stale & self._worker.consumers.keys()]
        # A thread that has been asked to stop has `running` False: during the drain it is neither hung nor dead.
        return not any(thread.running for thread in hung) and all(
            thread.is_alive() or not thread.running for thread in threads
        )

    def _unready_reason(self) -> str:
        """Return why the worker is not ready; empty when it is."""
        if self._turn_runner is None or self._servers_unready is None:
            return "starting"
        return self._servers_unready() if self._is_live() else "not live"


def _event_loop_thread() -> dramatiq.asyncio.EventLoopThread:
    thread = dramatiq.asyncio.get_event_loop_thread()
    if thread is None:
        raise BootFailed("EventLoop must precede WorkerRuntime in the middleware")
    return thread


def declare_actors(broker: dramatiq.Broker, runtime: WorkerRuntime) -> None:
    """Declare the product's actors on *broker*."""

    async def run_turn(**payload: object) -> None:
        await runtime.run_turn(turns.parse(payload))

    dramatiq.actor(
        broker=broker,
        actor_name=turns.ACTOR,
        queue_name=turns.QUEUE,
        max_retries=0,
        time_limit=TIME_LIMIT_MS,
    )(run_turn)
