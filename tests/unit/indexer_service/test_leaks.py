"""
No method reveals a channel that the user may not see: these tests search every byte of every response.

A guild has one channel for everyone and one for staff. No response to a member without the role may contain the staff
channel's name, topic, id or count.
"""

import dataclasses
from typing import Any

import pytest

from indexer_service.v1 import indexer_pb2 as pb
from indexing import errors
from indexing.domain import model
from tests import edge, fake_backend, stored, values
from tests.unit.indexer_service import contexts

pytestmark = pytest.mark.clockwork
USER, STAFF, STRANGER = values.USER, values.USER + 1, values.USER + 2
GUILD, ROLE = 77_000_001, 5
VIEW = values.VIEW
SECRET = values.channel(
    424_242_424_242,
    GUILD,
    name="merger-with-acme",
    topic="who is to be fired",
    last_message_id=values.snowflake(3_400_000_000.0),
    overwrites=(values.denied(GUILD), values.allowed(ROLE)),
)
OPEN = values.channel(111, GUILD, name="lobby", parent_id=222)
CLOSED_ROOM = values.channel(333_333_333_333, GUILD, kind=4, name="boardroom", overwrites=(values.denied(GUILD),))
MARKS = [b"merger", b"acme", b"fired", b"424242424242", b"boardroom", b"333333333333"]
METHODS = [method.name for method in pb.DESCRIPTOR.services_by_name["IndexerService"].methods]
REQUESTS: dict[str, list[dict[str, Any]]] = {
    "ListChannels": [
        {},
        {"guild_id": str(GUILD)},
        {"name_prefix": "merger"},
        {"name_prefix": "board"},
        {"types": [4]},
        {"order": pb.CHANNEL_ORDER_ACTIVITY},
        {"page_size": 1},
        {"page_size": 1, "order": pb.CHANNEL_ORDER_ACTIVITY},
    ],
    "ListGuilds": [{}, {"page_size": 1}],
    "StartIndexing": [{}, {"force": True}, {"wait": {"seconds": 1}}],
}
"""Fields of the requests; a method that is missing here is called with ids alone."""


@dataclasses.dataclass
class Bench:
    """The service over a backend in which a job has run for three users."""

    backend: fake_backend.FakeBackend
    jobs: dict[int, str]

    async def answers(self, method: str, user: int) -> list[bytes]:
        """Return all responses of a method to all requests; an error counts with its message."""
        found = []
        request_type: Any = getattr(pb, f"{method}Request")
        names = request_type.DESCRIPTOR.fields_by_name
        for extra in REQUESTS.get(method, [{}]):
            request = request_type(**extra)
            if "job_id" in names:
                request.job_id = self.jobs[user]
            elif "user_id" in names:
                request.user_id = str(user)
            found += await self._pages(method, request)
        return found

    async def _pages(self, method: str, request: Any) -> list[bytes]:  # noqa: ANN401 -- any message
        found: list[bytes] = []
        service = edge.service(self.backend)
        if method == "WatchIndex":
            return [one.SerializeToString() for one in (await contexts.open_stream(service, request)).written]
        while True:
            context = contexts.Context()
            try:
                answer = await getattr(service, method)(request, context)
            except (errors.IndexerError, NotImplementedError) as refusal:
                return [*found, str(refusal).encode()]
            messages = [answer] if answer is not None else context.written
            found += [one if isinstance(one, bytes) else one.SerializeToString() for one in messages]
            request_token = getattr(answer, "next_page_token", "")
            if not request_token:
                return found
            request.page_token = request_token


@pytest.fixture
async def bench() -> Bench:
    """All jobs have ended; only the staff role gives access to the secret channel."""
    backend = fake_backend.make()
    backend.discord.channels[GUILD] = [
        values.channel(222, GUILD, kind=4, name="Rooms"),
        dataclasses.replace(SECRET, parent_id=CLOSED_ROOM.channel_id),
        CLOSED_ROOM,
        OPEN,
    ]
    jobs = {}
    for number, user in enumerate((USER, STAFF, STRANGER)):
        mine = GUILD if user != STRANGER else GUILD + 1
        await backend.add_user([values.user_guild(mine, name="The Guild" if mine == GUILD else "elsewhere")], user)
        backend.discord.roles[user, GUILD] = (ROLE,) if user == STAFF else ()
        jobs[user] = f"{number}" * 32
        await backend.start_job(jobs[user], user_id=user)
        await backend.run_all_turns()
    return Bench(backend, jobs)


def leaks(answers: list[bytes]) -> set[bytes]:
    """Return the marks that responses contain."""
    return {mark for mark in MARKS for answer in answers if mark in answer}


@pytest.mark.parametrize("method", METHODS)
async def test_nothing_of_a_hidden_channel_is_returned_when_any_method_is_called(bench: Bench, method: str) -> None:
    """Neither to a member without the role nor to another user."""
    for user in (USER, STRANGER):
        assert leaks(await bench.answers(method, user)) == set()


async def test_the_marks_are_found_when_the_user_may_see_them(bench: Bench) -> None:
    """Otherwise the test above could not fail."""
    for method in ("ListChannels", "WatchIndex"):
        assert leaks(await bench.answers(method, STAFF)) == set(MARKS)


async def test_counts_include_only_visible_channels_when_a_guild_has_more(bench: Bench) -> None:
    """In the guild, in the job's row, in its updates, and in the response to a start."""
    counts = {}
    for user in (USER, STAFF):
        (guild,) = pb.ListGuildsResponse.FromString((await bench.answers("ListGuilds", user))[0]).guilds
        rows = await bench.backend.jobs.list_tasks(bench.jobs[user])
        updates = bench.backend.events.streams[bench.jobs[user]]
        updated = [task.channel_count or 0 for update in updates for task in update.tasks]
        started = pb.StartIndexingResponse.FromString((await bench.answers("StartIndexing", user))[0])
        counts[user] = [guild.channel_count, rows[0].channel_count, max(updated), started.guilds[0].channel_count]

    assert counts == {USER: [2] * 4, STAFF: [4] * 4}


@pytest.mark.parametrize("method", METHODS)
async def test_nothing_depends_on_a_role_when_roles_are_too_old(bench: Bench, method: str) -> None:
    """Also for a user who had the role."""
    bench.backend.clock.advance(bench.backend.config.roles_hard_age)
    await stored.guild_list(bench.backend.users, STAFF, bench.backend.discord.lists[STAFF], bench.backend.clock())
    bench.backend.discord.fail((STAFF, GUILD), *[errors.DiscordTransient("502")] * 99)

    assert leaks(await bench.answers(method, STAFF)) == set()


@pytest.mark.parametrize("method", METHODS)
async def test_nothing_depends_on_a_role_when_the_list_gives_other_rights(bench: Bench, method: str) -> None:
    """A user who has lost a permission may have lost a role: until roles are fetched again, none counts."""
    lesser = [dataclasses.replace(row, permissions=row.permissions | 1) for row in bench.backend.discord.lists[STAFF]]
    bench.backend.discord.lists[STAFF] = lesser
    await stored.guild_list(bench.backend.users, STAFF, lesser, bench.backend.clock())
    bench.backend.discord.fail((STAFF, GUILD), *[errors.DiscordTransient("502")] * 99)

    assert leaks(await bench.answers(method, STAFF)) == set()


async def test_roles_are_fetched_again_when_the_list_gives_other_rights(bench: Bench) -> None:
    """By the job that fetched the list, although they are fresh; a user who still has the role sees the same."""
    backend = bench.backend
    backend.discord.lists[STAFF] = [
        dataclasses.replace(row, permissions=VIEW | 1) for row in backend.discord.lists[STAFF]
    ]
    asked = backend.discord.asked((STAFF, GUILD))

    await backend.start_job("7" * 32, user_id=STAFF)
    await backend.run_all_turns()

    assert backend.discord.asked((STAFF, GUILD)) == asked + 1
    assert leaks(await bench.answers("ListChannels", STAFF)) == set(MARKS)


@pytest.mark.parametrize("how", ["list", "10007"])
async def test_a_guild_is_gone_at_once_when_the_user_has_left(bench: Bench, how: str) -> None:
    """Whether the guild list or the role request shows it; the job's row has the reason and no count."""
    backend = bench.backend
    if how == "list":
        await stored.guild_list(backend.users, STAFF, [], backend.clock())
    else:
        del backend.discord.roles[STAFF, GUILD]
        backend.clock.advance(backend.config.roles_max_age)
        await backend.start_job("9" * 32, user_id=STAFF)
        await backend.run_all_turns()
        (row,) = await backend.jobs.list_tasks("9" * 32)
        assert (row.state, row.reason, row.channel_count) == (model.TaskState.SKIPPED, "USER_LEFT", 0)

    channels = await bench.answers("ListChannels", STAFF)
    guilds = await bench.answers("ListGuilds", STAFF)

    assert {answer for answer in channels + guilds if b"Guild" in answer or b"lobby" in answer} == set()


async def test_a_running_job_skips_a_guild_when_the_user_leaves_it(bench: Bench) -> None:
    """Its next turn makes no request about that guild."""
    backend = bench.backend
    backend.discord.lists[STAFF].append(values.user_guild(GUILD + 5))
    backend.discord.installed.add(GUILD + 5)
    backend.discord.channels[GUILD + 5] = [values.channel(999, GUILD + 5)]
    backend.discord.fail(GUILD + 5, errors.DiscordTransient("502"))
    await backend.bot_guilds.store(frozenset({GUILD, GUILD + 1, GUILD + 5}), backend.clock())
    await backend.start_job("8" * 32, user_id=STAFF)
    await backend.run_next_turn()
    asked = backend.discord.asked(GUILD + 5)

    await stored.left(backend.users, STAFF, GUILD + 5)
    await backend.run_all_turns()

    row = next(row for row in await backend.jobs.list_tasks("8" * 32) if row.guild_id == GUILD + 5)
    assert (row.state, row.reason, row.channel_count) == (model.TaskState.SKIPPED, "USER_LEFT", 0)
    assert backend.discord.asked(GUILD + 5) == asked


async def test_a_page_token_is_refused_when_another_user_sends_it(bench: Bench) -> None:
    """It is bound to the user and the filters."""
    service = edge.service(bench.backend)
    mine = pb.ListChannelsRequest(user_id=str(STAFF), page_size=1)
    body = await service.ListChannels(mine, contexts.Context())  # type: ignore[arg-type]  # a stand-in
    page = pb.ListChannelsResponse.FromString(body)
    for changed in (
        pb.ListChannelsRequest(user_id=str(USER), page_size=1),
        pb.ListChannelsRequest(user_id=str(STAFF), page_size=1, name_prefix="m"),
        pb.ListChannelsRequest(user_id=str(STAFF), page_size=1, order=pb.CHANNEL_ORDER_ACTIVITY),
    ):
        changed.page_token = page.next_page_token

        with pytest.raises(errors.InvalidArgument) as refused:
            await service.ListChannels(changed, contexts.Context())  # type: ignore[arg-type]  # as above

        assert refused.value.field == "page_token"


async def test_the_time_of_a_hidden_message_is_not_revealed_when_it_ranks_a_guild(bench: Bench) -> None:
    """A new message in the staff channel changes no response to others within the same hours."""
    backend = bench.backend

    async def ranks_for(user: int) -> list[pb.Rank]:
        page = pb.ListGuildsResponse.FromString((await bench.answers("ListGuilds", user))[0])
        return [guild.rank for guild in page.guilds]

    async def store_message(at: float) -> None:
        newest = dataclasses.replace(SECRET, last_message_id=values.snowflake(at))
        rows = [
            newest if row.channel_id == newest.channel_id else row
            for row in await stored.list_channels(backend.guilds, [GUILD])
        ]
        now = backend.clock()
        fence = await backend.guilds.acquire_lease(GUILD, now=now, until=now + 1, fetched_before=now)
        assert fence is not None
        await stored.channels(backend.guilds, GUILD, fence=fence, channels=rows, now=now)

    ranks = []
    for hours in (1.0, 2.0, 5.0):
        await store_message(backend.clock() - hours * 3600)
        ranks.append(await ranks_for(USER))
    await store_message(backend.clock() - 30 * 86_400)

    assert ranks[0] == ranks[1] == ranks[2]
    assert ranks[0] != await ranks_for(USER)
