"""A Redis client that blocks, in the clothes of the asynchronous one: the real script, in a loop without sockets."""

from collections.abc import Awaitable, Callable
from typing import Any, cast

import redis
import redis.asyncio


class BlockingClient:
    """What `RedisBudgets` needs of a client; counts its commands."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self.commands = 0

    def register_script(self, source: str) -> Callable[[list[str], list[bytes]], Awaitable[Any]]:
        """Return the script; each call is one command."""
        script = self._client.register_script(source)

        async def run(keys: list[str], args: list[bytes]) -> Any:  # noqa: ANN401 -- a script may reply anything
            self.commands += 1
            return script(keys, args)

        return run

    def pipeline(self, *, transaction: bool) -> "_Pipeline":
        """Return a pipeline that is executed by awaiting."""
        return _Pipeline(self._client.pipeline(transaction=transaction))

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        """Return any command."""
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
        """Run what was queued."""
        return self._pipeline.execute()


def dressed(client: BlockingClient) -> redis.asyncio.Redis:
    """Return it as what it stands for."""
    return cast("redis.asyncio.Redis", client)
