"""A blocking Redis client with the asynchronous interface: the real script, in an event loop without sockets."""

from collections.abc import Awaitable, Callable
from typing import Any, cast

import redis
import redis.asyncio


class BlockingClient:
    """The part of a client that `RedisBudgetStore` uses."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def register_script(self, source: str) -> Callable[[list[str], list[bytes]], Awaitable[Any]]:
        """Return the script as a coroutine function."""
        script = self._client.register_script(source)

        async def run(keys: list[str], args: list[bytes]) -> Any:  # noqa: ANN401 -- a script may reply anything
            return script(keys, args)

        return run

    def pipeline(self, *, transaction: bool) -> "_Pipeline":
        """Return a pipeline with an awaitable `execute`."""
        return _Pipeline(self._client.pipeline(transaction=transaction))

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        """Return any command as a coroutine function."""
        command = getattr(self._client, name)

        async def run(*args: Any, **options: Any) -> Any:  # noqa: ANN401 -- passed on
            return command(*args, **options)

        return run


class _Pipeline:
    def __init__(self, pipeline: Any) -> None:  # noqa: ANN401 -- passed on
        self._pipeline = pipeline

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 -- passed on
        return getattr(self._pipeline, name)

    async def execute(self) -> Any:  # noqa: ANN401 -- replies of any commands
        """Run the queued commands."""
        return self._pipeline.execute()


def as_async(client: BlockingClient) -> redis.asyncio.Redis:
    """Return it with the type that it stands for."""
    return cast("redis.asyncio.Redis", client)
