"""
Members' roles over a shard's connection (op 8), for requests of all processes.

Requests are collected for 50 ms and sent for up to 100 users of one guild at a time. Asking by user ids needs no
privileged intent (developers/events/gateway-events.mdx, Request Guild Members, read 2026-08-06). What cannot be sent or
is not answered is asked by REST, by the process that wants it.
"""

import asyncio
import time
import uuid
from collections.abc import Callable, Iterable

from indexing import errors
from indexing.gateway import link
from indexing.messaging import role_requests
from indexing.telemetry import gateway_metrics, logs

COLLECT_FOR = 0.05
MOST_USERS = 100
MOST_AGE = 2.0
"""Seconds after which a request is dropped: its process has asked by REST."""

Waiting = dict[int, list[role_requests.RoleRequest]]


class RoleService:
    """Answers the role requests of one shard."""

    def __init__(
        self,
        desk: role_requests.RoleDesk,
        shard: str,
        current: Callable[[], link.Link | None],
        metrics: gateway_metrics.GatewayMetrics,
    ) -> None:
        """*current* returns the shard's connection."""
        self._desk = desk
        self._shard = shard
        self._current = current
        self._metrics = metrics
        self._asked: dict[str, tuple[float, Waiting]] = {}
        self._answers: asyncio.Queue[tuple[role_requests.RoleRequest, role_requests.RoleAnswer]] = asyncio.Queue()
        self._log = logs.get(__name__)

    async def run(self) -> None:
        """Serve until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._send_answers())
            group.create_task(self._take_requests())

    def on_answer(self, nonce: str, roles: dict[int, tuple[int, ...] | None]) -> None:
        """Take the answer to a request that was sent."""
        _, waiting = self._asked.pop(nonce, (0.0, {}))
        for user_id, requests in waiting.items():
            found = roles.get(user_id)
            known = user_id in roles
            self._metrics.roles.labels("answered" if found is not None else "not_member").inc(len(requests))
            for request in requests:
                answer = role_requests.RoleAnswer(request.id, known, None if found is None else list(found))
                self._answers.put_nowait((request, answer))

    async def _take_requests(self) -> None:
        while True:
            try:
                taken = await self._desk.take(self._shard)
                if taken:
                    await asyncio.sleep(COLLECT_FOR)
                    await self._ask(taken)
            except errors.QueueUnavailable as problem:
                self._log.warning("role_requests_unreadable", error=str(problem))
                await asyncio.sleep(1.0)
            self._forget_old()

    async def _ask(self, requests: Iterable[role_requests.RoleRequest]) -> None:
        now = time.time()  # noqa: TID251 -- compared with the requests' own time
        by_guild: dict[int, Waiting] = {}
        for request in requests:
            if now - request.made_at < MOST_AGE:
                by_guild.setdefault(request.guild_id, {}).setdefault(request.user_id, []).append(request)
        for guild_id, waiting in by_guild.items():
            users = list(waiting)
            for at in range(0, len(users), MOST_USERS):
                await self._ask_guild(guild_id, {user_id: waiting[user_id] for user_id in users[at : at + MOST_USERS]})

    async def _ask_guild(self, guild_id: int, waiting: Waiting) -> None:
        connection, nonce = self._current(), uuid.uuid4().hex
        self._asked[nonce] = (time.monotonic(), waiting)
        if connection is None or not await connection.request_members(guild_id, list(waiting), nonce):
            del self._asked[nonce]
            for requests in waiting.values():
                self._metrics.roles.labels("not_sent").inc(len(requests))
                for request in requests:
                    self._answers.put_nowait((request, role_requests.RoleAnswer(request.id, known=False)))

    def _forget_old(self) -> None:
        before = time.monotonic() - MOST_AGE
        for nonce, (at, waiting) in list(self._asked.items()):
            if at < before:
                del self._asked[nonce]
                self._metrics.roles.labels("unanswered").inc(sum(map(len, waiting.values())))

    async def _send_answers(self) -> None:
        while True:
            answers = [await self._answers.get()]
            while not self._answers.empty():
                answers.append(self._answers.get_nowait())
            try:
                await self._desk.answer(answers)
            except errors.QueueUnavailable as problem:
                self._log.warning("role_answers_not_sent", error=str(problem))
