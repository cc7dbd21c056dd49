"""Assembles a worker process. Dramatiq's command line calls `setup` in each process it starts."""

import dramatiq
from dramatiq import middleware

from indexing import settings
from indexing.messaging import queue
from indexing.telemetry import logs, tracing
from workers import worker


def setup() -> None:
    """Read the settings, set the global broker that Dramatiq's command line requires, and declare the actors."""
    config = settings.load()
    logs.configure(config.logs.level, config.logs.format)
    if config.traces.on:
        tracing.configure("indexer-worker")
    runtime = worker.WorkerRuntime(config)
    broker = queue.make_broker(
        config.redis, middleware=[middleware.TimeLimit(), middleware.Retries(), worker.EventLoop(), runtime]
    )
    broker.broker_id = queue.WORKER + broker.broker_id
    worker.declare_actors(broker, runtime)
    dramatiq.set_broker(broker)
