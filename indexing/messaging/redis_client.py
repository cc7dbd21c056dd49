"""The connection to Redis: one pool per event loop, one place that translates its errors."""

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
    """Turn the failures of redis-py and Dramatiq into ours."""
    try:
        yield
    except (redis.exceptions.RedisError, dramatiq.errors.BrokerConnectionError, OSError) as error:
        raise errors.QueueUnavailable(f"Redis does not answer as it should: {type(error).__name__}") from error


class _Timed(redis.asyncio.BlockingConnectionPool):
    """
    A pool that measures for how long a connection is lent: one command or one pipeline.

    redis-py drops a connection on which a command failed or was given up, so one that comes back closed is an error.
    """

    seen: metrics.ServerMetrics | None = None

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 -- redis-py's
        super().__init__(**options)
        self._lent: dict[Any, float] = {}

    async def get_connection(self, *_: object, **__: object) -> Any:  # noqa: ANN401 -- its arguments are deprecated
        try:
            connection: Any = await super().get_connection()  # type: ignore[no-untyped-call]  # untyped there
        except redis.exceptions.RedisError:
            if self.seen is not None:
                self.seen.redis_errors.inc()
            raise
        self._lent[connection] = time.perf_counter()
        return connection

    async def release(self, connection: Any) -> None:  # noqa: ANN401 -- as above
        lent_at = self._lent.pop(connection, None)
        if self.seen is not None and lent_at is not None:
            took = time.perf_counter() - lent_at
            self.seen.redis.observe(took)
            tracing.record_span("redis", took)
            if not connection.is_connected:
                self.seen.redis_errors.inc()
        await super().release(connection)


@contextlib.asynccontextmanager
async def open_redis(
    config: settings.RedisSettings, seen: metrics.ServerMetrics | None = None
) -> AsyncIterator[redis.asyncio.Redis]:
    """
    Connect in the running loop and close at the end.

    A command is sent again once, over a new connection, when the one that was kept turns out to be closed, as after a
    restart of Redis; what we send may be repeated without harm. A command that is not answered in time is not repeated
    (redis-py 8 would repeat it ten times). Callers beyond the pool's size wait for a connection.

    Raises:
        errors.QueueUnavailable: Redis does not answer within the timeout.
    """
    pool = _Timed.from_url(
        config.url.get_secret_value(),
        max_connections=config.connections,
        timeout=config.timeout,
        socket_timeout=config.timeout,
        socket_connect_timeout=config.timeout,
        retry=redis.asyncio.retry.Retry(
            redis.backoff.NoBackoff(), 1, supported_errors=(redis.exceptions.ConnectionError,)
        ),
    )
    pool.seen = seen
    client = redis.asyncio.Redis(connection_pool=pool)
    try:
        with translated():
            await client.ping()
        yield client
    finally:
        await client.aclose()
        await pool.disconnect()


def blocking_twin(client: redis.asyncio.Redis, *, longest: float) -> redis.asyncio.Redis:
    """Return a client with one connection of its own, for commands that block on purpose, *longest* seconds at most."""
    slack = client.connection_pool.connection_kwargs["socket_timeout"]
    options = {**client.connection_pool.connection_kwargs, "socket_timeout": longest + slack}
    pool = redis.asyncio.ConnectionPool(
        connection_class=client.connection_pool.connection_class, max_connections=1, **options
    )
    return redis.asyncio.Redis.from_pool(pool)
