"""The connection to Redis: one pool per event loop, one place that translates its errors."""

import contextlib
from collections.abc import AsyncIterator, Iterator

import dramatiq.errors
import redis.asyncio
import redis.asyncio.retry
import redis.backoff
import redis.exceptions

from indexing import errors, settings


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn the failures of redis-py and Dramatiq into ours."""
    try:
        yield
    except (redis.exceptions.RedisError, dramatiq.errors.BrokerConnectionError, OSError) as error:
        raise errors.QueueUnavailable(f"Redis does not answer as it should: {type(error).__name__}") from error


@contextlib.asynccontextmanager
async def open_redis(config: settings.RedisSettings) -> AsyncIterator[redis.asyncio.Redis]:
    """
    Connect in the running loop and close at the end.

    A command is sent again once, over a new connection, when the one that was kept turns out to be closed, as after a
    restart of Redis; what we send may be repeated without harm. A command that is not answered in time is not repeated
    (redis-py 8 would repeat it ten times). Callers beyond the pool's size wait for a connection.

    Raises:
        errors.QueueUnavailable: Redis does not answer within the timeout.
    """
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        config.url.get_secret_value(),
        max_connections=config.connections,
        timeout=config.timeout,
        socket_timeout=config.timeout,
        socket_connect_timeout=config.timeout,
        retry=redis.asyncio.retry.Retry(
            redis.backoff.NoBackoff(), 1, supported_errors=(redis.exceptions.ConnectionError,)
        ),
    )
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
