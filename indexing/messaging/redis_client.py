"""Redis connections: one instrumented pool per event loop, and translation of client errors."""

import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import dramatiq.errors
import redis.asyncio
import redis.asyncio.retry
import redis.backoff
import redis.exceptions

from indexing import errors, settings
from indexing.telemetry import metrics, tracing


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Translate errors of redis-py and Dramatiq into errors.QueueUnavailable."""
    try:
        yield
    except (redis.exceptions.RedisError, dramatiq.errors.BrokerConnectionError, OSError) as error:
        raise errors.QueueUnavailable(f"Redis failed: {type(error).__name__}") from error


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
            tracing.record_span("redis", seconds)
            if not connection.is_connected:
                self.server_metrics.redis_errors.inc()
        await super().release(connection)


@contextlib.asynccontextmanager
async def open_redis(
    config: settings.RedisSettings, metrics: metrics.ServerMetrics | None = None
) -> AsyncIterator[redis.asyncio.Redis]:
    """
    Connect in the running loop and close when the block ends.

    A command is retried once, over a new connection, when the pooled connection turns out to be closed, as after a
    restart of Redis: all commands are idempotent. A command that times out is not retried (redis-py 8 would retry it
    ten times). Callers beyond the pool's size wait for a connection.

    Raises:
        errors.QueueUnavailable: Redis does not answer within the timeout.
    """
    pool = _InstrumentedPool.from_url(
        config.url.get_secret_value(),
        max_connections=config.connections,
        timeout=config.timeout,
        socket_timeout=config.timeout,
        socket_connect_timeout=config.timeout,
        retry=redis.asyncio.retry.Retry(
            redis.backoff.NoBackoff(), 1, supported_errors=(redis.exceptions.ConnectionError,)
        ),
    )
    pool.server_metrics = metrics
    client = redis.asyncio.Redis(connection_pool=pool)
    try:
        with translated():
            await client.ping()
        yield client
    finally:
        await client.aclose()
        await pool.disconnect()


def make_blocking_client(client: redis.asyncio.Redis, *, max_block: float) -> redis.asyncio.Redis:
    """Return a client with one connection of its own, for commands that block for up to *max_block* seconds."""
    timeout = client.connection_pool.connection_kwargs["socket_timeout"]
    options = {**client.connection_pool.connection_kwargs, "socket_timeout": max_block + timeout}
    pool = redis.asyncio.ConnectionPool(
        connection_class=client.connection_pool.connection_class, max_connections=1, **options
    )
    return redis.asyncio.Redis.from_pool(pool)
