"""Puts a worker process together; Dramatiq's command line calls `setup` in each process it starts."""

import dramatiq
from dramatiq import middleware

from indexing import logs, settings, traces
from indexing.bus import queue
from workers import actors, runtime


def setup() -> None:
    """Read the settings, make the broker global (Dramatiq's command line asks for it), declare the actors."""
    config = settings.load()
    logs.configure(config.logs.level, config.logs.format)
    if config.traces.on:
        traces.configure("indexer-worker")
    parts = runtime.Runtime(config)
    broker = queue.make_broker(
        config.redis, middleware=[middleware.TimeLimit(), middleware.Retries(), runtime.EventLoop(), parts]
    )
    broker.broker_id = queue.WORKER + broker.broker_id
    actors.declare(broker, parts)
    dramatiq.set_broker(broker)
