"""Role requests of all processes over one shard's connection."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence

import pytest
from prometheus_client import registry

from indexing.gateway import roles
from indexing.messaging import role_requests
from indexing.telemetry import gateway_metrics

GUILD, OTHER = 1, 2
Answers = list[tuple[str, bool, list[int] | None]]


class Desk:
    """A desk whose requests are put in by the test."""

    def __init__(self) -> None:
        self.requests: asyncio.Queue[list[role_requests.RoleRequest]] = asyncio.Queue()
        self.answers: asyncio.Queue[role_requests.RoleAnswer] = asyncio.Queue()

    async def take(self, shard: str) -> list[role_requests.RoleRequest]:
        """Return requests."""
        assert shard == "0/1"
        return await self.requests.get()

    async def answer(self, answers: Sequence[tuple[role_requests.RoleRequest, role_requests.RoleAnswer]]) -> None:
        """Note answers."""
        for _, answer in answers:
            self.answers.put_nowait(answer)


class Connection:
    """A connection that notes what is asked."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[tuple[int, list[int], str]] = asyncio.Queue()
        self.may_send = True

    async def request_members(self, guild_id: int, user_ids: list[int], nonce: str) -> bool:
        """Note the request."""
        if self.may_send:
            self.asked.put_nowait((guild_id, user_ids, nonce))
        return self.may_send


class Service:
    """The service with its two ends."""

    def __init__(self) -> None:
        self.desk, self.connection = Desk(), Connection()
        metrics = gateway_metrics.GatewayMetrics(registry.CollectorRegistry())
        self.service = roles.RoleService(self.desk, "0/1", lambda: self.connection, metrics)  # type: ignore[arg-type,return-value]  # stand-ins

    def request(self, *users: int, guild_id: int = GUILD, age: float = 0.0) -> None:
        """Put in requests, each with the user's id as its own."""
        now = time.time() - age  # noqa: TID251 -- compared with the service's own
        made = [role_requests.RoleRequest(f"{user}", "me", guild_id, user, now) for user in users]
        self.desk.requests.put_nowait(made)

    async def answers(self, count: int) -> Answers:
        """Return the next answers, by request."""
        found = [await self.desk.answers.get() for _ in range(count)]
        return sorted((answer.id, answer.known, answer.roles) for answer in found)


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    """A running service."""
    made = Service()
    running = asyncio.create_task(made.service.run())
    async with asyncio.timeout(5):
        yield made
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_one_request_is_sent_when_several_users_of_a_guild_are_asked_for(service: Service) -> None:
    """Each gets their own roles; one who is no member, and one whom the answer leaves out, are told so."""
    service.request(5, 6, 7, 5)
    guild_id, users, nonce = await service.connection.asked.get()
    service.service.on_answer(nonce, {5: (9,), 6: None})

    assert (guild_id, users) == (GUILD, [5, 6, 7])
    expected = [("5", True, [9]), ("5", True, [9]), ("6", True, None), ("7", False, None)]
    assert await service.answers(4) == expected


async def test_a_request_names_one_guild_and_100_users_at_most(service: Service) -> None:
    """More users, and other guilds, take further requests."""
    service.request(*range(1, 151))
    service.request(1, guild_id=OTHER)
    sent = [await service.connection.asked.get() for _ in range(3)]

    assert [(guild_id, len(users)) for guild_id, users, _ in sent] == [(GUILD, 100), (GUILD, 50), (OTHER, 1)]


async def test_the_asker_is_told_at_once_when_nothing_can_be_sent(service: Service) -> None:
    """They ask by REST then, and do not wait for a second."""
    service.connection.may_send = False
    service.request(5)

    assert await service.answers(1) == [("5", False, None)]


async def test_an_old_request_is_dropped(service: Service) -> None:
    """Its process has asked by REST."""
    service.request(5, age=3.0)
    service.request(6)

    assert (await service.connection.asked.get())[1] == [6]


async def test_an_answer_is_ignored_when_nobody_waits_for_it(service: Service) -> None:
    """Another shard's, or one that came too late."""
    service.service.on_answer("unknown", {5: (9,)})
    service.request(6)
    _, _, nonce = await service.connection.asked.get()
    service.service.on_answer(nonce, {6: ()})

    assert await service.answers(1) == [("6", True, [])]
