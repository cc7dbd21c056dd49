"""
A cache of the responses to StartIndexing calls that join a running job, as serialized bytes.

Callers repeat calls and arrive in crowds. The response to a joining start changes only when the job's progress is
published, so a response is made once and returned until the job's event stream has something newer. Its greatest age is

- 0 for changes that this process has published or received: `forget`;
- CHECK_AGE for changes that other processes have published: Redis was asked at most so long ago;
- MAX_AGE for changes that Redis has lost.

A call costs no round trip while the response was checked within CHECK_AGE. Otherwise it costs one to Redis, shared by
all calls in flight. When something has changed it costs those of `make`, shared by all calls for the same user.
"""

import asyncio
import dataclasses
import random
from collections.abc import Awaitable, Callable

from indexing import concurrency
from indexing.domain import ports

CHECK_AGE = 0.25
"""Seconds for which a response is returned without asking Redis again. The proto file promises it, and MAX_AGE."""
EARLY_CHECK_DELAY = CHECK_AGE / 8
"""Seconds for which early checks are collected, so that a crowd costs few checks a second."""
MAX_AGE = 10.0
"""Seconds after which a response is not returned again even though nothing was published."""
RENEW_AT = (0.5, 0.9)
"""Range of the share of MAX_AGE after which a response in demand is made again in the background, so that no caller
waits for it. It is drawn at random, so that responses made together are not renewed together."""
MAX_RESPONSES = 2_000
"""Most responses kept, the newest; each has about 6 KB for a user with 60 guilds."""
JITTER = random.Random()  # noqa: S311 -- not for secrets


@dataclasses.dataclass(frozen=True, slots=True)
class JoinResponse:
    """
    The serialized response to a start that joins *job_id*, and the position in the job's stream that it reflects.

    Attributes:
        callers: Callers that are stored with the job. The code that stores a joining caller adds it here.
    """

    job_id: str
    position: str
    body: bytes
    callers: set[str] = dataclasses.field(default_factory=set)


@dataclasses.dataclass(slots=True, eq=False)
class _Entry:
    response: JoinResponse
    checked_at: float
    renew_at: float
    expires_at: float


class JoinCache:
    """
    Returns responses to joining starts.

    *make* returns a new response; None when the user has no job that can be joined.
    """

    def __init__(
        self, events: ports.Events, clock: ports.Clock, make: Callable[[int], Awaitable[JoinResponse | None]]
    ) -> None:
        self._events = events
        self._clock = clock
        self._make = make
        self._entries: dict[int, _Entry] = {}
        self._making: dict[int, tuple[asyncio.Task[JoinResponse | None], float]] = {}
        self._checks = concurrency.Coalescer(self._check)
        self._early_checks = concurrency.Coalescer(self._check, linger=EARLY_CHECK_DELAY)

    def forget(self, user_id: int) -> None:
        """Return no response that was made before now: the user's job has changed."""
        self._entries.pop(user_id, None)
        self._making.pop(user_id, None)

    async def get(self, user_id: int) -> JoinResponse | None:
        """
        Return the response to a start that joins; None when there is nothing to join.

        Raises:
            errors.QueueUnavailable, errors.StoreUnavailable: The response cannot be checked or made.
        """
        called_at = self._clock()
        while True:
            entry = self._entries.get(user_id)
            if entry is not None and called_at < entry.expires_at and await self._is_current(entry, called_at):
                if called_at > entry.renew_at:
                    self._renewal(user_id)
                return entry.response
            making, began_at = self._renewal(user_id)
            response = await asyncio.shield(making)
            if began_at >= called_at:
                return response
            # It was begun before this call, so its result is checked like any entry that existed before.

    async def _is_current(self, entry: _Entry, called_at: float) -> bool:
        age = called_at - entry.checked_at
        if age > CHECK_AGE:
            await self._checks.fetch([entry])
            return entry.checked_at >= called_at
        if age > CHECK_AGE / 2:
            self._early_checks.request(entry)
        return True

    async def _check(self, entries: list[_Entry]) -> dict[_Entry, None]:
        now = self._clock()
        positions: dict[str, str] = {}
        for entry in entries:
            # Of two responses for one job the older is first: nothing new for it is nothing new for the other.
            positions.setdefault(entry.response.job_id, entry.response.position)
        updated = await self._events.list_updated(positions)
        for entry in entries:
            if entry.response.job_id not in updated:
                entry.checked_at = now
        return {}

    def _renewal(self, user_id: int) -> "tuple[asyncio.Task[JoinResponse | None], float]":
        """Return the task that makes a response and the time it began; starts one if there is none."""
        making = self._making.get(user_id)
        if making is None:
            now = self._clock()
            making = self._making[user_id] = concurrency.spawn_shared(self._renew(user_id, now)), now
        return making

    async def _renew(self, user_id: int, now: float) -> JoinResponse | None:
        response = None
        try:
            response = await self._make(user_id)
        finally:
            making = self._making.get(user_id)
            if making is not None and making[0] is asyncio.current_task():
                del self._making[user_id]
                self._store(user_id, response, now)
        return response

    def _store(self, user_id: int, response: JoinResponse | None, now: float) -> None:
        self._entries.pop(user_id, None)
        if response is not None:
            renew_at = now + MAX_AGE * JITTER.uniform(*RENEW_AT)
            self._entries[user_id] = _Entry(response, now, renew_at, now + MAX_AGE)
            if len(self._entries) > MAX_RESPONSES:
                del self._entries[next(iter(self._entries))]
