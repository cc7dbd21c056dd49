"""Who of all processes does a periodic duty this time."""

import redis.asyncio

from indexing.messaging import redis_client


class Leader:
    """The first who asks in a period is the one; when it dies, another is first in the next."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client

    async def first(self, duty: str, seconds: float) -> bool:
        """Return whether nobody else was first in the last *seconds*. One round trip; errors.QueueUnavailable."""
        with redis_client.translated():
            done = await self._client.set(f"indexer:{{duty}}:{duty}", "1", nx=True, px=int(seconds * 1000))
        return bool(done)
