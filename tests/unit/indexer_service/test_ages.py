"""
No method says anything new about a guild when the user's data are too old, or when they have left it.

The test walks all methods of the API's descriptor over all ages of the inputs. A new method fails it until `SAYS` says
what it is about.
"""

import dataclasses
import enum
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from indexer_service import interceptors
from indexer_service.v1 import indexer_pb2 as pb
from indexing import errors
from indexing.domain import model
from indexing.usecases import memberships
from tests import edge, fake_backend, fakes, stored, values
from tests.unit.indexer_service import contexts
from tests.unit.indexer_service.interceptors import calls

pytestmark = pytest.mark.clockwork
USER, OTHER = values.USER, values.USER + 1
GUILD, KEPT = 77_000_001, 77_000_002
ROLE = 5
CHANNEL_IDS = ["11", "12", "99"]
LOOKUPS: dict[str, list[dict[str, Any]]] = {
    "GetGuild": [{"guild_id": str(guild_id)} for guild_id in (GUILD, KEPT)],
    "GetChannel": [{"channel_id": channel_id} for channel_id in CHANNEL_IDS],
    "BatchGetChannels": [{"channel_ids": CHANNEL_IDS}],
    "SearchChannels": [{"query": query} for query in ("channel", "old", "new", "role")],
}
"""Fields of the requests that find rows."""
REQUEST_ID = str(uuid.UUID(int=9))


class Says(enum.Enum):
    """What a method's responses are about."""

    GUILDS = "names guilds, in rows of a list or of a job"
    CHANNELS = "names channels"
    JOBS = "counts a job's guilds by state"
    OTHER = "names no guild, except the ids that its own request has"
    FLEET = "names guilds of the fleet by id, to operators"


SAYS = {
    "StartIndexing": Says.GUILDS,
    "WatchProgress": Says.GUILDS,
    "WatchIndex": Says.CHANNELS,
    "ListGuilds": Says.GUILDS,
    "ListChannels": Says.CHANNELS,
    "GetGuild": Says.GUILDS,
    "GetChannel": Says.CHANNELS,
    "BatchGetChannels": Says.CHANNELS,
    "SearchChannels": Says.CHANNELS,
    "WaitJob": Says.JOBS,
    "GetJob": Says.JOBS,
    "ListJobs": Says.JOBS,
    "CancelJob": Says.JOBS,
    "RetryJob": Says.JOBS,
    "PutCredential": Says.OTHER,
    "GetCredentialStatus": Says.OTHER,
    "RevokeCredential": Says.OTHER,
    "DeleteUserData": Says.OTHER,
    "GetPreferences": Says.OTHER,
    "UpdatePreferences": Says.OTHER,
    "GetRateLimits": Says.FLEET,
}
METHODS = [method.name for method in pb.DESCRIPTOR.services_by_name["IndexerService"].methods]


@dataclasses.dataclass
class Bench:
    """The service over a backend in which two users were indexed."""

    backend: fake_backend.FakeBackend
    requests: fakes.MemoryIdempotencyStore
    job_id: str
    watch_token: str

    def _requests_of(self, method: str) -> list[Any]:
        """Return requests about the user by every id and token that the method takes."""
        request_type: Any = getattr(pb, f"{method}Request")
        names = request_type.DESCRIPTOR.fields_by_name
        made = []
        if "job_id" in names:
            made.append(request_type(job_id=self.job_id))
        if "user_id" in names:
            made.append(request_type(user_id=str(USER)))
        if method == "ListChannels":
            made.append(request_type(user_id=str(USER), guild_id=str(GUILD)))
        if method in LOOKUPS:
            made = [request_type(user_id=str(USER), **fields) for fields in LOOKUPS[method]]
        if method == "StartIndexing":
            made.append(request_type(user_id=str(USER), request_id=REQUEST_ID))
        if method == "WatchProgress":
            made.append(request_type(job_id=self.job_id, resume_token=self.watch_token))
        if method == "PutCredential":
            made[0].access_token = "token"
        return made or [request_type()]

    async def answers(self, method: str) -> bytes:
        """Return all that a method says about the user, and the messages of its errors."""
        service: Any = edge.service(self.backend)
        found = []
        for request in self._requests_of(method):
            if method == "WatchIndex":
                watched = await contexts.open_stream(service, request)
                found += [one.SerializeToString() for one in watched.written]
                continue
            context = contexts.Context()
            handler: Callable[[Any, Any], Awaitable[Any]] = getattr(service, method)
            if method != "WatchProgress":
                handler = calls.wrap(self._interceptor(), handler, method)
            try:
                answer = await handler(request, context)
            except errors.IndexerError as refusal:
                found.append(str(refusal).encode())
                continue
            messages = [answer] if answer is not None else context.written
            found += [one if isinstance(one, bytes) else one.SerializeToString() for one in messages]
        return b"\n".join(found)

    def _interceptor(self) -> interceptors.IdempotencyInterceptor:
        load = memberships.Memberships(self.backend.deps).load
        return interceptors.IdempotencyInterceptor(self.requests, [edge.KEY], self.backend.clock, load)

    async def relist(self, *guild_ids: int) -> None:
        """Store a guild list of the user that was requested now."""
        rows = [row for row in self.backend.discord.lists[USER] if row.guild_id in guild_ids]
        self.backend.discord.lists[USER] = rows
        await stored.guild_list(self.backend.users, USER, rows, self.backend.clock())

    async def others_read(self) -> None:
        """Let another user's job find out that the guild has another name and another channel."""
        backend = self.backend
        backend.discord.lists[OTHER] = [values.user_guild(GUILD, name="New Name", icon="newicon", member_count=4_242)]
        newest = values.snowflake(backend.clock())
        backend.discord.channels[GUILD] = [values.channel(99, GUILD, name="new-channel", last_message_id=newest)]
        await backend.start_job("c" * 32, user_id=OTHER, force=True)
        await backend.run_all_turns()


@pytest.fixture
async def bench() -> Bench:
    """One channel of the guild is open and one needs a role, which the user has; their first start has ended."""
    backend = fake_backend.make(list_max_age=1e9)
    rows = [values.user_guild(GUILD, name="Old Name"), values.user_guild(KEPT, name="Kept Name")]
    for user in (USER, OTHER):
        await backend.add_user(rows, user)
        backend.discord.roles[user, GUILD] = (ROLE,)
    backend.discord.channels[GUILD] = [
        values.channel(11, GUILD, name="old-channel"),
        values.channel(12, GUILD, name="role-channel", overwrites=(values.denied(GUILD), values.allowed(ROLE))),
    ]
    requests = fakes.MemoryIdempotencyStore(backend.users)
    made = Bench(backend, requests, "", "")
    request = pb.StartIndexingRequest(user_id=str(USER), request_id=REQUEST_ID, wait={"seconds": 2})
    service: Any = edge.service(backend)
    handler = calls.wrap(made._interceptor(), service.StartIndexing, "StartIndexing")
    started = await handler(request, contexts.Context())
    await backend.run_all_turns()
    return dataclasses.replace(made, job_id=started.job.job_id, watch_token=started.watch_token)


async def left_by_list(bench: Bench) -> None:
    """A later guild list lacks the guild."""
    await bench.relist(KEPT)


async def left_by_role_request(bench: Bench) -> None:
    """Discord answered a request for the user's roles with Unknown Member."""
    await stored.left(bench.backend.users, USER, GUILD)


async def list_too_old(bench: Bench) -> None:
    """The user was not indexed any more, while others were."""
    bench.backend.clock.advance(bench.backend.config.roles_hard_age)
    await bench.others_read()


async def roles_too_old(bench: Bench) -> None:
    """The list is fresh, but the roles were not fetched again."""
    bench.backend.clock.advance(bench.backend.config.roles_hard_age)
    await bench.relist(GUILD, KEPT)


async def channels_too_old(bench: Bench) -> None:
    """The list and the roles are fresh, but nobody could read the guild."""
    bench.backend.clock.advance(bench.backend.config.channels_hard_age)
    await bench.relist(GUILD, KEPT)
    await stored.roles(bench.backend.users, USER, GUILD, (ROLE,), bench.backend.clock())


AGES: dict[str, tuple[Callable[[Bench], Awaitable[None]], set[bytes]]] = {
    "left by a list": (left_by_list, {b"Old Name", b"old-channel", b"role-channel", str(GUILD).encode()}),
    "left by a role request": (
        left_by_role_request,
        {b"Old Name", b"old-channel", b"role-channel", str(GUILD).encode()},
    ),
    "list too old": (list_too_old, {b"New Name", b"newicon", b"new-channel", b"old-channel", b"role-channel"}),
    "roles too old": (roles_too_old, {b"role-channel"}),
    "channels too old": (channels_too_old, {b"old-channel", b"role-channel"}),
}
"""How each age is brought about, and what no response may contain then."""


def test_every_method_is_classified() -> None:
    """A new method must say here what it is about, and be walked below."""
    assert set(SAYS) == set(METHODS)


@pytest.mark.parametrize("age", AGES)
@pytest.mark.parametrize("method", METHODS)
async def test_a_method_says_nothing_new_when_an_input_is_too_old(bench: Bench, method: str, age: str) -> None:
    """Neither lists, nor old jobs, nor their streams, nor repeated requests."""
    happen, forbidden = AGES[age]
    await happen(bench)

    said = await bench.answers(method)

    assert {mark for mark in forbidden if mark in said} == set()


async def test_the_marks_are_found_while_everything_is_fresh(bench: Bench) -> None:
    """Otherwise the test above could not fail: each kind of response has its marks."""
    for method, says in SAYS.items():
        said = await bench.answers(method)
        marks = {Says.GUILDS: {b"Old Name", str(GUILD).encode()}, Says.CHANNELS: {b"old-channel", b"role-channel"}}
        assert {mark for mark in marks.get(says, set()) if mark not in said} == set(), method
        if says in {Says.GUILDS, Says.CHANNELS}:
            assert b"Kept Name" in said or says is Says.CHANNELS


async def test_a_list_of_guilds_stays_the_same_when_others_read_while_it_is_too_old(bench: Bench) -> None:
    """No times, no counts, no access, no order by others' activity: every byte is as before."""
    bench.backend.clock.advance(bench.backend.config.roles_hard_age)
    before = await bench.answers("ListGuilds")
    await bench.others_read()
    await bench.backend.guilds.mark_bot_removed([KEPT], bench.backend.clock())

    assert await bench.answers("ListGuilds") == before
    assert b"LIST_TOO_OLD" in before


async def test_guilds_that_the_user_is_still_in_are_named_when_they_left_another(bench: Bench) -> None:
    """By old jobs and repeated requests as well: only what was left is left out."""
    await left_by_list(bench)

    said = [await bench.answers(method) for method, says in SAYS.items() if says is Says.GUILDS]

    assert [b"Kept Name" in each for each in said] == [True] * 4


async def test_a_change_carries_no_name_when_its_watcher_resumes_after_the_user_left(bench: Bench) -> None:
    """The updates are from before; the row's id stays, because the watcher has to drop it. No cached bytes are sent."""
    backend = bench.backend
    backend.discord.fail(KEPT, errors.DiscordTransient("502"))
    job = await backend.start_job("d" * 32, user_id=USER, force=True)
    await backend.run_next_turn()
    assert (await backend.get_job(job.job_id)).state is model.JobState.RUNNING
    service = edge.service(backend)

    async def resume() -> bytes:
        token = service._encoder.resume_token(job.job_id, backend.events.streams[job.job_id][0].position)
        context = contexts.Context()
        service._slots.drain()
        request = pb.WatchProgressRequest(job_id=job.job_id, resume_token=token, heartbeat={"seconds": 5})
        await service.WatchProgress(request, context)  # type: ignore[arg-type]  # a stand-in
        return b"\n".join(message.SerializeToString() for message in context.written)

    before = await resume()
    await left_by_list(bench)
    after = await resume()

    assert b"Old Name" in before
    assert b"Old Name" not in after
    assert str(GUILD).encode() in after
    assert b"Kept Name" in after


@pytest.mark.parametrize("leave", [left_by_list, left_by_role_request], ids=["list", "role request"])
@pytest.mark.parametrize("method", ["ListGuilds", "ListChannels"])
async def test_a_next_page_names_nothing_of_a_guild_that_was_left_before_it(
    bench: Bench, method: str, leave: Callable[[Bench], Awaitable[None]]
) -> None:
    """Pages are cut from what is kept of the first one."""
    await bench.backend.users.put_preferences(USER, model.Preferences(pinned=(KEPT,)))
    service: Any = edge.service(bench.backend)
    request = getattr(pb, f"{method}Request")(user_id=str(USER), page_size=1)

    async def read_rest(token: str) -> list[bytes]:
        said: list[bytes] = []
        while token:
            request.page_token = token
            try:
                answer = await getattr(service, method)(request, contexts.Context())
            except errors.IndexerError as refusal:
                return [*said, str(refusal).encode()]
            said.append(answer if isinstance(answer, bytes) else answer.SerializeToString())
            token = getattr(pb, f"{method}Response").FromString(said[-1]).next_page_token
        return said

    first = await getattr(service, method)(request, contexts.Context())
    raw = first if isinstance(first, bytes) else first.SerializeToString()
    token = getattr(pb, f"{method}Response").FromString(raw).next_page_token
    before = b"\n".join(await read_rest(token))
    await leave(bench)
    after = b"\n".join(await read_rest(token))

    assert str(GUILD).encode() in before
    assert [mark for mark in (b"Old Name", b"old-channel", b"role-channel", str(GUILD).encode()) if mark in after] == []


@pytest.mark.parametrize("leave", [left_by_list, left_by_role_request], ids=["list", "role request"])
async def test_an_index_stream_names_no_channel_of_a_guild_that_was_left_when_it_resumes(
    bench: Bench, leave: Callable[[Bench], Awaitable[None]]
) -> None:
    """It says that the guild is gone, by its id, because the watcher has it."""
    service: Any = edge.service(bench.backend)
    before = (await contexts.open_stream(service, pb.WatchIndexRequest(user_id=str(USER)))).written
    token = next(one.resume_token for one in reversed(before) if one.resume_token)
    await leave(bench)

    after = await contexts.open_stream(service, pb.WatchIndexRequest(user_id=str(USER), resume_token=token))

    said = b"\n".join(one.SerializeToString() for one in after.written)
    assert str(GUILD).encode() in said
    assert [mark for mark in (b"Old Name", b"old-channel", b"role-channel") if mark in said] == []
