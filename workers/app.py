"""Puts a worker process together; Dramatiq's command line calls `setup` in each process it starts."""

import dramatiq
from dramatiq import middleware

from indexing import settings
from indexing.messaging import queue
from indexing.telemetry import logs, tracing
from workers import worker


def setup() -> None:
    """Read the settings, make the broker global (Dramatiq's command line asks for it), declare the actors."""
    config = settings.load()
    logs.configure(config.logs.level, config.logs.format)
    if config.traces.on:
        tracing.configure("indexer-worker")
    parts = worker.WorkerRuntime(config)
    broker = queue.make_broker(
        config.redis, middleware=[middleware.TimeLimit(), middleware.Retries(), worker.EventLoop(), parts]
    )
    broker.broker_id = queue.WORKER + broker.broker_id
    worker.declare_actors(broker, parts)
    dramatiq.set_broker(broker)
