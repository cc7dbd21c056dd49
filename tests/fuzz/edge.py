"""
Sends random requests to the real gRPC server over a real connection, and checks how each call ends.

The service runs over fakes that keep their contracts (tests/contract), so that a hundred thousand calls take
minutes. The backend is built again every ROUND calls, because fakes keep everything in memory.
"""

import asyncio
import collections
import dataclasses
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import grpc.aio
from google.protobuf import message_factory
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from devstack import stack
from indexer_service.api import watch_encoder
from indexer_service.v1 import indexer_pb2 as pb
from indexer_service.v1 import indexer_pb2_grpc as pb_grpc
from indexing import errors
from tests import clockwork, edge, fake_backend, values
from tests.fuzz import requests

DEADLINE = 2.0
"""Seconds for one call; longer valid waits are refused."""
ROUND = 5_000
SIDE_BY_SIDE = 20
USERS = [values.USER + number for number in range(4)]
ERASED = values.USER + 4
GUILDS = [values.GUILD + number for number in range(3)]
JOBS = [letter * 32 for letter in "abc"]
FINE = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}
WAITS = {"StartIndexing", "WaitJob", "WatchProgress"}
"""Methods that may still wait at their deadline."""
ENDLESS = "WatchIndex"
"""A stream without an end: it is left at its first bookmark."""


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """A call that ended in a way that no call may."""

    method: str
    request: bytes
    problem: str


@dataclasses.dataclass(slots=True)
class Outcome:
    """The results of all calls: their codes, and the faults."""

    codes: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    answered: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    faults: list[Fault] = dataclasses.field(default_factory=list)
    slowest: float = 0.0


async def send_requests(count: int, seed: int) -> Outcome:
    """Send *count* requests; the same seed sends the same ones."""
    dice, outcome = random.Random(seed), Outcome()
    for at in range(0, count, ROUND):
        backend = await _backend()
        async with edge.serving(backend) as address, grpc.aio.insecure_channel(address) as channel:
            maker = requests.RequestMaker(dice, _known())
            calls = (maker.call() for _ in range(min(ROUND, count - at)))
            async with asyncio.TaskGroup() as group:
                for _ in range(SIDE_BY_SIDE):
                    group.create_task(_call_in_sequence(channel, calls, outcome, backend.clock.advance))
    return outcome


def send_requests_to_stack(count: int, seed: int) -> Outcome:
    """Send *count* requests to a whole stack: real stores, real limiter, simulated Discord."""
    with stack.Stack(stack.Options(users=3, guilds_per_user=6, latency="none")) as running:
        running.put_credentials()
        with grpc.insecure_channel(running.address) as channel:
            known = _index_users(pb_grpc.IndexerServiceStub(channel), [user.id for user in running.users])
        return asyncio.run(_send_to(running.address, requests.RequestMaker(random.Random(seed), known), count))


async def _send_to(address: str, maker: requests.RequestMaker, count: int) -> Outcome:
    outcome = Outcome()
    calls = (maker.call() for _ in range(count))
    async with grpc.aio.insecure_channel(address) as channel, asyncio.TaskGroup() as group:
        for _ in range(SIDE_BY_SIDE):
            group.create_task(_call_in_sequence(channel, calls, outcome, _keep_time))
    return outcome


def _keep_time(_seconds: float) -> None:
    """Advance no clock: real time passes."""


def _index_users(api: pb_grpc.IndexerServiceStub, users: list[str]) -> dict[str, list[str]]:
    """Index the users; returns the ids and tokens in the responses."""
    known = _known() | {"user_id": users, requests.ERASED: users[-1:]}
    starts = [api.StartIndexing(pb.StartIndexingRequest(user_id=user), timeout=20) for user in users]
    guilds = [
        api.ListGuilds(pb.ListGuildsRequest(user_id=user, page_size=size), timeout=20)
        for user in users
        for size in (1, 2)
    ]
    channels = api.ListChannels(pb.ListChannelsRequest(user_id=users[0], page_size=1), timeout=20)
    known["job_id"] = [start.job.job_id for start in starts]
    known["resume_token"] = ["", *(start.watch_token for start in starts)]
    known["page_token"] = ["", "", channels.next_page_token, *(page.next_page_token for page in guilds)]
    found = [guild.guild_id for page in guilds for guild in page.guilds]
    seen = [channel.channel_id for channel in channels.channels]
    return known | {"guild_id": ["", *found], "pinned_guild_id": found, "muted_guild_id": found, "channel_id": seen}


async def _backend() -> fake_backend.FakeBackend:
    """Return a backend of users with jobs in every state, and one with only a credential."""
    backend = fake_backend.make(clockwork.ManualClock())
    broken = GUILDS[-1] + 1
    backend.discord.fail(broken, errors.DiscordRefused(400, 50035))
    for user, job_id in zip(USERS, JOBS, strict=False):
        mine = [*GUILDS, broken] if user == USERS[1] else GUILDS
        await backend.add_user([values.user_guild(guild_id) for guild_id in mine], user)
        if user != USERS[0]:
            await backend.start_job(job_id, user_id=user)
    await backend.run_all_turns()
    await backend.start_job(JOBS[0], user_id=USERS[0])
    await backend.users.put_credential(USERS[3], values.credential())
    await backend.add_user([values.user_guild(guild_id) for guild_id in GUILDS], ERASED)
    await backend.start_job("e" * 32, user_id=ERASED)
    return backend


def _known() -> dict[str, list[str]]:
    users, guilds = [str(user) for user in USERS], [str(guild) for guild in GUILDS]
    positions = [[job, position] for job in JOBS for position in ("", "0-0", "9-9")]
    resume = [edge.TOKENS.sign(watch_encoder.PURPOSE, position) for position in positions]
    resume += [edge.TOKENS.sign(f"index:{user}", value) for user in users for value in ([1, ""], [1, "x"], [2, ""])]
    pages = [edge.TOKENS.sign(f"guilds:{users[0]}", 1), edge.TOKENS.sign(f"jobs:{users[0]}", 1.5)]
    return {
        "user_id": users,
        requests.ERASED: [str(ERASED)],
        "guild_id": ["", *guilds],
        "pinned_guild_id": guilds,
        "muted_guild_id": guilds,
        "channel_id": [str(guild + 1) for guild in GUILDS],
        "job_id": JOBS,
        "request_id": ["", "123e4567-e89b-12d3-a456-426614174000"],
        "page_token": ["", "", *pages, *resume],
        "resume_token": ["", *resume, *pages],
        "access_token": ["an-access-token"],
        "refresh_token": ["", "a-refresh-token"],
        "scope": ["identify", "guilds"],
        "name_prefix": ["", "ch", "CHANNEL"],
    }


async def _call_in_sequence(
    channel: grpc.aio.Channel,
    calls: Iterator[tuple[Any, bytes]],
    outcome: Outcome,
    pass_time: Callable[[float], None],
) -> None:
    for method, body in calls:
        began = time.perf_counter()
        code, problem = await _call(channel, method, body)
        outcome.slowest = max(outcome.slowest, time.perf_counter() - began)
        outcome.codes[code] += 1
        outcome.answered[method.name] += code == "OK"
        if problem:
            outcome.faults.append(Fault(method.name, body, f"{code}: {problem}"))
        pass_time(0.01)


async def _call(channel: grpc.aio.Channel, method: Any, body: bytes) -> tuple[str, str]:  # noqa: ANN401 -- a descriptor
    """Call; returns the code's name, and the fault if there is one."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    answer = message_factory.GetMessageClass(method.output_type).FromString
    try:
        async with asyncio.timeout(DEADLINE * 3):
            if method.server_streaming:
                timeout = DEADLINE / 4 if method.name in WAITS else DEADLINE
                stream = channel.unary_stream(path, _unchanged, answer)(body, timeout=timeout)
                async for message in stream:
                    if method.name == ENDLESS and message.HasField("bookmark"):
                        stream.cancel()
                        break
            else:
                await channel.unary_unary(path, _unchanged, answer)(body, timeout=DEADLINE)
    except grpc.aio.AioRpcError as error:
        return error.code().name, _problem(method.name, error)
    except TimeoutError:
        return "HANG", "the call outlived its deadline"
    return "OK", ""


def _unchanged(body: bytes) -> bytes:
    return body


def _problem(method: str, error: grpc.aio.AioRpcError) -> str:
    code = error.code()
    if code is grpc.StatusCode.DEADLINE_EXCEEDED and method in WAITS:
        return ""
    if code not in FINE:
        return str(error.details())
    if code is grpc.StatusCode.INVALID_ARGUMENT and not _names_field(error):
        return f"no field is named: {error.details()}"
    return ""


def _names_field(error: grpc.aio.AioRpcError) -> bool:
    call: Any = error  # the function takes calls of either kind, its stubs one
    status = rpc_status.from_call(call)
    bad = error_details_pb2.BadRequest()
    return any(
        packed.Unpack(bad) and all(one.field for one in bad.field_violations) for packed in status.details if status
    )
