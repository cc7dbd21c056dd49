"""Redis clients: one instrumented pool per event loop, one client for Dramatiq's threads, one for blocking commands."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import redis.asyncio
import redis.asyncio.retry
import redis.backoff
import redis.exceptions
import redis.maint_notifications
import redis.retry

from indexing import errors, settings
from indexing.messaging import redis_connections, redis_errors
from indexing.messaging.redis_errors import translated as translated
from indexing.telemetry import logs, metrics, tracing

RETRY_INTERVAL = 0.5
"""Seconds between two attempts to reach Redis at the start of a process."""
NO_MAINTENANCE = redis.maint_notifications.MaintNotificationsConfig(enabled=False)
"""Saves a round trip for each connection; the notifications are an extension of one vendor."""


class _InstrumentedPool(redis.asyncio.BlockingConnectionPool):
    """
    Measures how long each connection is borrowed: one command or one pipeline.

    redis-py closes a connection on which a command failed or was cancelled, so a connection returned closed counts as
    an error.
    """

    server_metrics: metrics.ServerMetrics | None = None

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 -- redis-py's
        super().__init__(**options)
        self._borrowed_at: dict[Any, float] = {}

    async def get_connection(self, *_: object, **__: object) -> Any:  # noqa: ANN401 -- its arguments are deprecated
        try:
            connection: Any = await super().get_connection()  # type: ignore[no-untyped-call]  # untyped there
        except redis.exceptions.RedisError:
            if self.server_metrics is not None:
                self.server_metrics.redis_errors.inc()
            raise
        self._borrowed_at[connection] = time.perf_counter()
        return connection

    async def release(self, connection: Any) -> None:  # noqa: ANN401 -- as above
        borrowed_at = self._borrowed_at.pop(connection, None)
        if self.server_metrics is not None and borrowed_at is not None:
            seconds = time.perf_counter() - borrowed_at
            self.server_metrics.redis.observe(seconds)
            self.server_metrics.redis_speed.observe(seconds)
            tracing.record_span("redis", seconds)
            if not connection.is_connected:
                self.server_metrics.redis_errors.inc()
        await super().release(connection)


@contextlib.asynccontextmanager
async def open_redis(
    config: settings.RedisSettings, metrics: metrics.ServerMetrics | None = None, *, start_timeout: float = 0.0
) -> AsyncIterator[redis.asyncio.Redis]:
    """
    Connect in the running loop and close when the block ends.

    A command is retried once, over a new connection, when the pooled connection turns out to be closed or leads to a
    server that is no primary any more: all commands are idempotent. A command that times out is not retried (redis-py 8
    would retry it ten times). Callers beyond the pool's size wait for a connection.

    Args:
        config: Where Redis is.

        metrics: Where commands are measured.

        start_timeout: Seconds to wait for a Redis that is away, loads its data or is a replica.

    Raises:
        errors.QueueUnavailable: Redis cannot be used; the text begins with REDIS_URL and its address.
    """
    options: dict[str, Any] = {
        "max_connections": config.connections,
        "timeout": config.timeout,
        "socket_timeout": config.timeout,
        "socket_connect_timeout": config.timeout,
        "maint_notifications_config": NO_MAINTENANCE,
        "retry": redis.asyncio.retry.Retry(
            redis.backoff.NoBackoff(), 1, supported_errors=(redis.exceptions.ConnectionError,)
        ),
    }
    pool = _InstrumentedPool(**options | redis_connections.connection_options(config))
    pool.server_metrics = metrics
    client = redis.asyncio.Redis(connection_pool=pool)
    try:
        await _wait_until_usable(client, config, start_timeout)
        yield client
    finally:
        await client.aclose()
        await pool.disconnect()


async def _wait_until_usable(client: redis.asyncio.Redis, config: settings.RedisSettings, seconds: float) -> None:
    """Ping until Redis answers. What waiting cannot mend fails at once; one line is logged when waiting begins."""
    log = logs.get(__name__)
    started = time.monotonic()
    waiting = False
    while True:
        try:
            await client.ping()
        except (redis.exceptions.RedisError, OSError) as error:
            diagnosis = redis_errors.diagnose(error)
            problem = _boot_line(config, diagnosis)
            left = started + seconds - time.monotonic()
            if diagnosis.trouble in redis_errors.LASTING or left <= 0:
                raise errors.QueueUnavailable(problem) from error
            if not waiting:
                log.warning("waiting_for_redis", problem=problem, seconds=seconds)
                waiting = True
            await asyncio.sleep(min(RETRY_INTERVAL, left))
        else:
            if waiting:
                log.info("redis_answers", seconds=round(time.monotonic() - started, 1))
            return


def _boot_line(config: settings.RedisSettings, diagnosis: redis_errors.Diagnosis) -> str:
    """Return the line for the operator: which variable, which address, what is wrong."""
    if diagnosis.trouble is redis_errors.Trouble.CLUSTER:
        return f"REDIS_URL: {redis_errors.CLUSTER_LINE}"
    # A server without TLS waits for more, as one that is silent does.
    silent_tls = config.tls and diagnosis.text == redis_errors.SILENT
    return f"REDIS_URL: {config.address} {diagnosis.text}{' in TLS' if silent_tls else ''}"


def make_blocking_client(client: redis.asyncio.Redis, *, max_block: float) -> redis.asyncio.Redis:
    """Return a client with one connection of its own, for commands that block for up to *max_block* seconds."""
    timeout = client.connection_pool.connection_kwargs["socket_timeout"]
    options = {**client.connection_pool.connection_kwargs, "socket_timeout": max_block + timeout}
    pool = redis.asyncio.ConnectionPool(
        connection_class=client.connection_pool.connection_class,
        max_connections=1,
        maint_notifications_config=NO_MAINTENANCE,
        **options,
    )
    return redis.asyncio.Redis.from_pool(pool)


def open_threaded_client(config: settings.RedisSettings) -> redis.Redis:
    """
    Return a client for Dramatiq's threads, whose pool the caller disconnects. It connects with its first command.

    A command is retried once only when a server refused it for being no primary, not when its reply was lost: it may be
    a push.
    """
    options: dict[str, Any] = {
        "socket_timeout": config.timeout,
        "socket_connect_timeout": config.timeout,
        "maint_notifications_config": NO_MAINTENANCE,
        "retry": redis.retry.Retry(redis.backoff.NoBackoff(), 1, supported_errors=(redis_connections.NotPrimary,)),
    }
    given = redis_connections.blocking_connection_options(config)
    given.pop("timeout", None)
    return redis.Redis(connection_pool=redis.ConnectionPool(**options | given))
