"""
What lives in a worker process besides Dramatiq: the core's parts, the alarm, shared duties, and a small web server.

Listed after the event loop in the middleware, so that the loop is alive at both ends. Dramatiq logs and drops what a
hook raises, except MiddlewareError, so a failed boot raises one.

The actor that runs a turn; declared on a broker, not at import.
"""

import contextlib
import time
from typing import Any

import dramatiq
import dramatiq.asyncio
import dramatiq.middleware
from opentelemetry import trace

from indexing import concurrency, errors, settings, wiring
from indexing.domain import turns
from indexing.messaging import queue
from indexing.telemetry import logs, metric_types, metrics, tracing
from indexing.usecases import guild_lists, run_turn
from workers import health, scheduler

PERIODIC_TASKS = ("alarm", "sweep", *scheduler.REFRESH_TASKS)
"""Refreshing too when a process of its own does it: should there be none, somebody has to say that nobody does."""


class BootFailed(dramatiq.middleware.MiddlewareError):
    """A server is away, so this process must end and be started again."""


class EventLoop(dramatiq.middleware.AsyncIO):
    """
    Dramatiq's event loop in a daemon thread.

    Its own is not one: a process whose boot failed, or that got a second SIGTERM, would then never exit.
    """

    def before_worker_boot(self, broker: dramatiq.Broker, worker: Any) -> None:  # noqa: ANN401, ARG002 -- their hook
        """Start the loop."""
        thread = dramatiq.asyncio.EventLoopThread(self.logger)
        thread.daemon = True
        thread.start(timeout=1.0)
        dramatiq.asyncio.set_event_loop_thread(thread)


class WorkerRuntime(dramatiq.Middleware):
    """Opens the parts before the worker takes messages and closes them after its last one."""

    def __init__(self, config: settings.Settings) -> None:
        self._config = config
        self._clock = time.time  # noqa: TID251 -- the one clock of this process
        self._stack = contextlib.AsyncExitStack()
        self._registry = metric_types.new_registry()
        self._seen = metrics.Metrics(self._registry, PERIODIC_TASKS)
        self._work = metrics.WorkerMetrics(self._registry)
        self._work.threads.set(config.workers.threads)
        self._advance: run_turn.TurnRunner | None = None
        self._worker: Any = None
        self._pulse = health.Watchdog()
        self._log = logs.get(__name__)

    async def run_turn(self, turn: turns.Turn) -> None:
        """Run one turn; a failure of a server leaves the job to the sweeper, so that no message is retried."""
        if self._advance is None:
            raise RuntimeError("the worker is not booted")
        try:
            serving = tracing.continue_trace(turns.ACTOR, turn.carried, trace.SpanKind.CONSUMER)
            with self._work.running.track_inprogress(), serving, logs.bound(job=turn.job_id):
                await self._advance.run_background_turn(turn)
        except errors.IndexerError as problem:
            self._log.warning("turn_failed", job=turn.job_id, reason=problem.reason, error=str(problem))

    def before_process_message(self, broker: dramatiq.Broker, message: dramatiq.MessageProxy) -> None:  # noqa: ARG002 -- their hook
        """Note for how long a turn was in the queue, by the clocks of two machines."""
        waited = self._clock() - message.message_timestamp / 1000
        self._work.delay.labels(metric_types.QUEUE.fit(message.queue_name)).observe(max(0.0, waited))

    def before_worker_boot(self, broker: dramatiq.Broker, worker: Any) -> None:  # noqa: ANN401 -- their hook
        """Open everything; a failure ends the process."""
        self._worker = worker
        thread = _loop_thread()
        try:
            thread.run_coroutine(self._open(broker))
        except (errors.IndexerError, OSError) as problem:
            self._log.error("cannot_start", error=str(problem))
            raise BootFailed(str(problem)) from problem

    def after_worker_shutdown(self, broker: dramatiq.Broker, worker: Any) -> None:  # noqa: ANN401, ARG002 -- their hook
        """Close everything; the web server goes last."""
        _loop_thread().run_coroutine(self._stack.aclose())

    async def _open(self, broker: dramatiq.Broker) -> None:
        async with contextlib.AsyncExitStack() as opening:
            port = self._config.workers.metrics_port
            opening.enter_context(
                health.serve_endpoints(port, self._registry, live=self._is_live, ready=self._is_ready)
            )
            parts = await opening.enter_async_context(
                wiring.open_components(self._config, broker, self._seen, self._clock)
            )
            rules = self._config.indexing
            lists = guild_lists.GuildLists(parts.dependencies, rules)
            self._advance = run_turn.TurnRunner(parts.dependencies, rules, self._seen.indexing, lists)
            shared = scheduler.Scheduler(parts, rules, self._seen, self._clock)
            alarm = queue.DelayedQueuePoller(parts.redis, parts.queue)
            opening.push_async_callback(alarm.close)

            async def ring() -> None:
                while True:
                    pause = await alarm.enqueue_due()
                    self._seen.process.record_success("alarm", self._clock())
                    await alarm.sleep(pause)

            await opening.enter_async_context(
                concurrency.background_tasks(
                    alarm=ring,
                    pulse=self._pulse.record_heartbeats,
                    **shared.sweep_tasks(),
                    **(shared.refresh_tasks(lists.bot) if self._config.workers.refresh else {}),
                )
            )
            self._stack = opening.pop_all()

    def _is_live(self) -> bool:
        """Return whether the loop ticks and Dramatiq's threads do; that Redis is away is no reason to restart."""
        return self._are_threads_live() and self._pulse.live()

    def _are_threads_live(self) -> bool:
        if self._worker is None:
            return True
        broker = self._worker.broker
        heard_at = broker.heard_at if isinstance(broker, queue.Broker) else {}
        silent = {name for name, at in heard_at.items() if time.monotonic() - at > health.STALE}
        threads = [*self._worker.workers, *self._worker.consumers.values()]
        hung = [self._worker.consumers[name] for name in silent & self._worker.consumers.keys()]
        # One that was told to stop says that it does not run: in the drain all is well.
        return not any(thread.running for thread in hung) and all(
            thread.is_alive() or not thread.running for thread in threads
        )

    def _is_ready(self) -> bool:
        return self._advance is not None and self._is_live()


def _loop_thread() -> dramatiq.asyncio.EventLoopThread:
    thread = dramatiq.asyncio.get_event_loop_thread()
    if thread is None:
        raise BootFailed("EventLoop must stand before Runtime in the middleware")
    return thread


TIME_LIMIT_MS = 60_000
"""Far beyond the longest turn; a turn that hangs that long is cut off, and the sweeper gives its job to another."""


def declare_actors(broker: dramatiq.Broker, parts: WorkerRuntime) -> None:
    """Declare our actors on *broker*."""

    async def run_turn(**payload: object) -> None:
        await parts.run_turn(turns.parse(payload))

    dramatiq.actor(
        broker=broker,
        actor_name=turns.ACTOR,
        queue_name=turns.QUEUE,
        max_retries=0,
        time_limit=TIME_LIMIT_MS,
    )(run_turn)
