"""
Answers to starts that join a running job, kept in memory as they go over the wire.

Callers arrive twice, and in crowds. What a start that joins is told changes only when the job's progress is published,
so an answer is made once and given again for as long as the job's stream has nothing newer. How old it may be:

- not at all for what this process published or heard of itself: `forget`;
- CHECKED for what others published: so long ago Redis was asked at most;
- AGE for what Redis has lost.

Round trips for a call: none while its answer was checked lately, else one to Redis, shared by all calls that are under
way; those of `make` when something has changed, shared by all calls for the same user.
"""

import asyncio
import dataclasses
import random
from collections.abc import Awaitable, Callable

from indexing import concurrency
from indexing.domain import ports

CHECKED = 0.25
"""Seconds for which an answer is given without asking Redis again. The proto file names this bound, and the next."""
GATHER = CHECKED / 8
"""Seconds for which checks ahead of time wait for company, so that a crowd costs few questions a second."""
AGE = 10.0
"""Seconds after which an answer is not given again although nothing was published."""
RENEWED = (0.5, 0.9)
"""Part of its age at which an answer that is still asked for is made anew ahead of time, so that nobody waits for it;
some earlier and some later, so that those made together are not renewed together."""
MOST = 2_000
"""Answers kept at once, the newest: about 6 KB each for a user with 60 guilds."""
DICE = random.Random()  # noqa: S311 -- jitter


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What a start that joins *job_id* is told, serialised, and the place in the job's stream at which it is true."""

    job_id: str
    position: str
    body: bytes


@dataclasses.dataclass(slots=True, eq=False)
class _Known:
    answer: Answer
    checked: float
    renew: float
    until: float


class Joins:
    """Gives answers to joining starts; *make* returns a new one, None when the user has no job that can be joined."""

    def __init__(
        self, events: ports.Events, clock: ports.Clock, make: Callable[[int], Awaitable[Answer | None]]
    ) -> None:
        self._events = events
        self._clock = clock
        self._make = make
        self._known: dict[int, _Known] = {}
        self._making: dict[int, tuple[asyncio.Task[Answer | None], float]] = {}
        self._checks = concurrency.Coalescer(self._ask)
        self._early_checks = concurrency.Coalescer(self._ask, linger=GATHER)

    def forget(self, user_id: int) -> None:
        """Give no answer any more that was made before now: the user's job has changed."""
        self._known.pop(user_id, None)
        self._making.pop(user_id, None)

    async def get(self, user_id: int) -> bytes | None:
        """
        Return the answer for a start that joins; None when there is nothing to join.

        Raises:
            errors.QueueUnavailable, errors.StoreUnavailable: It cannot be known.
        """
        called = self._clock()
        while True:
            known = self._known.get(user_id)
            if known is not None and called < known.until and await self._still_true(known, called):
                if called > known.renew:
                    self._renewal(user_id)
                return known.answer.body
            making, began = self._renewal(user_id)
            answer = await asyncio.shield(making)
            if began >= called:
                return answer.body if answer is not None else None
            # It began before this call: what it brought is looked at like any answer that was there before.

    async def _still_true(self, known: _Known, called: float) -> bool:
        age = called - known.checked
        if age > CHECKED:
            await asyncio.shield(self._checks.request(known))
            return known.checked >= called
        if age > CHECKED / 2:
            self._early_checks.request(known)
        return True

    async def _ask(self, asking: list[_Known]) -> dict[_Known, None]:
        now = self._clock()
        positions: dict[str, str] = {}
        for known in asking:
            # Of two answers for one job the older came first: what is no news for it is none for the other.
            positions.setdefault(known.answer.job_id, known.answer.position)
        moved = await self._events.list_updated(positions)
        for known in asking:
            if known.answer.job_id not in moved:
                known.checked = now
        return {}

    def _renewal(self, user_id: int) -> "tuple[asyncio.Task[Answer | None], float]":
        """Return the answer that is being made, and since when; begins to make one if nobody does."""
        making = self._making.get(user_id)
        if making is None:
            now = self._clock()
            making = self._making[user_id] = concurrency.spawn_shared(self._renew(user_id, now)), now
        return making

    async def _renew(self, user_id: int, now: float) -> Answer | None:
        answer = None
        try:
            answer = await self._make(user_id)
        finally:
            making = self._making.get(user_id)
            if making is not None and making[0] is asyncio.current_task():
                del self._making[user_id]
                self._keep(user_id, answer, now)
        return answer

    def _keep(self, user_id: int, answer: Answer | None, now: float) -> None:
        self._known.pop(user_id, None)
        if answer is not None:
            self._known[user_id] = _Known(answer, now, now + AGE * DICE.uniform(*RENEWED), now + AGE)
            if len(self._known) > MOST:
                del self._known[next(iter(self._known))]
