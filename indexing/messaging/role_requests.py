"""
Requests for members' roles over the Gateway: from any process to the process that owns the guild's shard, and back.

A request is an entry of the shard's list, and its answer an entry of the asking process's list. Both lists expire, so
that nothing is left of a process that ended; a lost request is made by REST after `role_wait`.
"""

import asyncio
import time
import uuid
from collections.abc import Sequence

import msgspec
import redis.asyncio
import redis.exceptions

from indexing import errors
from indexing.messaging import redis_client
from indexing.telemetry import logs

KEY = "indexer:{gateway}:roles"
TTL = 5
"""Seconds for which requests and answers are kept."""
BLOCK = 2.0
"""Longest wait for the next entry of a list, in seconds."""
MOST_TAKEN = 200
DEAF_FOR = 10.0
"""Seconds for which a shard that did not answer in time is not asked again."""


class RoleRequest(msgspec.Struct, frozen=True, array_like=True):
    """A request; `reply_to` names the asking process, `made_at` is in epoch seconds."""

    id: str
    reply_to: str
    guild_id: int
    user_id: int
    made_at: float


class RoleAnswer(msgspec.Struct, frozen=True, array_like=True):
    """An answer: role ids, None for a user who is not a member; without `known` the shard cannot ask now."""

    id: str
    known: bool
    roles: list[int] | None = None


_REQUEST = msgspec.msgpack.Decoder(RoleRequest)
_ANSWER = msgspec.msgpack.Decoder(RoleAnswer)
_ENCODER = msgspec.msgpack.Encoder(enc_hook=int)


class RoleAsker:
    """Port `ports.FedRoles`. A process that asks runs `relay_answers` as a background task."""

    def __init__(self, client: redis.asyncio.Redis, *, wait: float) -> None:
        self._client = client
        self._wait = wait
        self._own_key = f"{KEY}:answers:{uuid.uuid4().hex}"
        self._blocking = redis_client.make_blocking_client(client, max_block=BLOCK)
        self._waiting: dict[str, asyncio.Future[RoleAnswer]] = {}
        self._deaf_until: dict[str, float] = {}

    async def fetch(self, shard: str, guild_id: int, user_id: int) -> tuple[int, ...] | None:
        """
        Return a member's role ids; None when no answer came in time.

        Raises:
            errors.Gone: The user is not a member.
        """
        if self._deaf_until.get(shard, 0.0) > time.monotonic():
            return None
        request = RoleRequest(uuid.uuid4().hex, self._own_key, guild_id, user_id, time.time())  # noqa: TID251 -- an age
        future: asyncio.Future[RoleAnswer] = asyncio.get_running_loop().create_future()
        self._waiting[request.id] = future
        try:
            async with asyncio.timeout(self._wait):
                await self._push(request_key(shard), request)
                answer = await future
        except (TimeoutError, errors.QueueUnavailable):
            self._deaf_until[shard] = time.monotonic() + DEAF_FOR
            return None
        finally:
            del self._waiting[request.id]
        if not answer.known:
            return None
        if answer.roles is None:
            raise errors.Gone(404, errors.UNKNOWN_MEMBER)
        return tuple(answer.roles)

    async def _push(self, key: str, request: RoleRequest) -> None:
        with redis_client.translated():
            async with self._client.pipeline(transaction=False) as pipe:
                pipe.rpush(key, _ENCODER.encode(request))
                pipe.expire(key, TTL)
                await pipe.execute()

    async def relay_answers(self) -> None:
        """Hand answers to those who wait, until cancelled."""
        while True:
            for packed in await _take(self._blocking, self._own_key):
                answer = _ANSWER.decode(packed)
                future = self._waiting.get(answer.id)
                if future is not None and not future.done():
                    future.set_result(answer)

    async def close(self) -> None:
        """Close the connection that waits for answers."""
        await self._blocking.aclose()
        await self._blocking.connection_pool.disconnect()


class RoleDesk:
    """The other end, in the process that owns a shard."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self._blocking = redis_client.make_blocking_client(client, max_block=BLOCK)
        self._log = logs.get(__name__)

    async def take(self, shard: str) -> list[RoleRequest]:
        """Return requests of a shard, waiting up to `BLOCK` seconds for the first; unreadable ones are dropped."""
        found = []
        for packed in await _take(self._blocking, request_key(shard)):
            try:
                found.append(_REQUEST.decode(packed))
            except msgspec.MsgspecError:
                self._log.exception("role_request_unreadable")
        return found

    async def answer(self, answers: Sequence[tuple[RoleRequest, RoleAnswer]]) -> None:
        """Send answers; 1 round trip for all."""
        with redis_client.translated():
            async with self._client.pipeline(transaction=False) as pipe:
                for request, answer in answers:
                    pipe.rpush(request.reply_to, _ENCODER.encode(answer))
                    pipe.expire(request.reply_to, TTL)
                await pipe.execute()

    async def close(self) -> None:
        """Close the connection that waits for requests."""
        await self._blocking.aclose()
        await self._blocking.connection_pool.disconnect()


def request_key(shard: str) -> str:
    """Return the key of a shard's requests."""
    return f"{KEY}:{shard}"


async def _take(client: redis.asyncio.Redis, key: str) -> list[bytes]:
    """Wait for an entry of a list, and return it with those behind it."""
    with redis_client.translated():
        first = await client.blpop([key], timeout=BLOCK)
        if first is None:
            return []
        rest = await client.lpop(key, MOST_TAKEN) or []
    return [first[1], *rest]
