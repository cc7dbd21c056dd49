"""
The budgets in Redis: one script settles and takes, atomically, by Redis' own clock.

The client has a short timeout of its own and no retries: a slow Redis is a Redis that is away, and what was asked may
have been done, in which case the permit is simply held until its time is over. Redis' run id is read on every new
connection, so that a restart or a failover counts as lost state.
"""

import contextlib
import importlib.resources
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Protocol

import msgspec
import redis.asyncio
import redis.asyncio.retry
import redis.backoff
import redis.exceptions

from indexing import errors, settings
from indexing.permits import budgets

ANSWER_WITHIN = 0.25
"""Seconds after which Redis counts as away."""
RETRY_AFTER = 1.0
CONNECTIONS = 16


class Store(Protocol):
    """Where the budgets are kept."""

    async def ask(self, keys: list[str], question: dict[str, Any]) -> dict[str, Any]:
        """Settle and take; see ledger.lua. Raises errors.LimiterUnavailable."""

    async def look(self, keys: list[str]) -> dict[str, Any]:
        """Return the state of budgets, changing nothing; see state.lua. Raises errors.LimiterUnavailable."""

    async def forget(self, keys: list[str]) -> None:
        """Delete budgets. Raises errors.LimiterUnavailable."""


@contextlib.asynccontextmanager
async def open_budgets(config: settings.RedisSettings, application: str) -> AsyncIterator["RedisBudgets"]:
    """Open the budgets of *application* in the running loop, on connections of their own, and close them at the end."""
    store: RedisBudgets

    async def connected(link: redis.asyncio.Connection) -> None:
        await link.on_connect()
        store.connected()

    pool = redis.asyncio.BlockingConnectionPool.from_url(
        config.url.get_secret_value(),
        max_connections=CONNECTIONS,
        timeout=ANSWER_WITHIN,
        socket_timeout=ANSWER_WITHIN,
        socket_connect_timeout=ANSWER_WITHIN,
        retry=redis.asyncio.retry.Retry(redis.backoff.NoBackoff(), 0),
        redis_connect_func=connected,
    )
    store = RedisBudgets(redis.asyncio.Redis(connection_pool=pool), application)
    try:
        yield store
    finally:
        await pool.disconnect()


class RedisBudgets:
    """The budgets of one application; all processes that use the same bot token share them."""

    def __init__(
        self, client: redis.asyncio.Redis, application: str, *, now_ms: Callable[[], int] | None = None
    ) -> None:
        """*now_ms* replaces Redis' clock, for tests."""
        self._client = client
        self._application = application
        self._now_ms = now_ms
        self._epoch = ""
        self._ledger = client.register_script(_text("ledger.lua"))
        self._state = client.register_script(_text("state.lua"))

    async def ask(self, keys: list[str], question: dict[str, Any]) -> dict[str, Any]:
        """Settle and take; see ledger.lua. One round trip. Raises errors.LimiterUnavailable."""
        with _translated():
            epoch = await self._current_epoch()
            return await self._run(self._ledger, keys, {**question, "epoch": epoch})

    async def look(self, keys: list[str]) -> dict[str, Any]:
        """Return the state of budgets, changing nothing; see state.lua. Raises errors.LimiterUnavailable."""
        with _translated():
            return await self._run(self._state, keys, {})

    async def forget(self, keys: list[str]) -> None:
        """Delete budgets. Raises errors.LimiterUnavailable."""
        with _translated():
            await self._client.delete(*(budgets.full_key(self._application, key) for key in keys))

    def connected(self) -> None:
        """Note a new connection: it may be to another Redis than the one before."""
        self._epoch = ""

    async def _current_epoch(self) -> str:
        if self._now_ms is not None:
            return "test"
        if not self._epoch:
            info: Any = await self._client.info("server")
            self._epoch = info["run_id"]
        return self._epoch

    async def _run(self, script: Any, keys: list[str], question: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401 -- untyped there
        if self._now_ms is not None:
            question = {**question, "now": self._now_ms()}
        full = [budgets.full_key(self._application, key) for key in [*budgets.SHARED_KEYS, *keys]]
        return msgspec.json.decode(await script(keys=full, args=[msgspec.json.encode(question)]), type=dict[str, Any])


def _text(name: str) -> str:
    return importlib.resources.files(__package__).joinpath(name).read_text()


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (redis.exceptions.RedisError, OSError, TimeoutError) as error:
        raise errors.LimiterUnavailable(RETRY_AFTER) from error
