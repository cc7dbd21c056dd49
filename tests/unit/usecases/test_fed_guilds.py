"""Jobs of guilds that the Gateway feeds: no permit, no call, and roles over the Gateway."""

import dataclasses
from collections.abc import Collection

import pytest

from indexing import errors
from indexing.domain import model
from indexing.usecases import start_job
from tests import fake_backend, fakes, stored, values

pytestmark = pytest.mark.clockwork
USER = values.USER
GUILDS = list(range(10, 100, 10))
ROLE = 77
PRIVATE = [values.denied(0), values.allowed(ROLE)]


class FedGuilds(fakes.MemoryGuilds):
    """Guilds of which some are fed."""

    def __init__(self, users: fakes.MemoryUsers, clock: object) -> None:
        super().__init__(users)
        self.fed: set[int] = set()
        self.now: object = clock

    async def get(self, guild_ids: Collection[int]) -> dict[int, model.Guild]:
        """Return those that are stored; the fed ones are as fresh as their session."""
        found = await super().get(guild_ids)
        return {
            key: dataclasses.replace(guild, fed_by="0/1", fetched_at=self.now()) if key in self.fed else guild  # type: ignore[operator]  # a clock
            for key, guild in found.items()
        }


class Roles:
    """Port `ports.FedRoles`."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.answer: tuple[int, ...] | Exception | None = (ROLE,)

    async def fetch(self, shard: str, guild_id: int, user_id: int) -> tuple[int, ...] | None:
        """Return the prepared answer."""
        assert (shard, user_id) == ("0/1", USER)
        self.asked.append(guild_id)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def roles() -> Roles:
    """Answers with one role."""
    return Roles()


@pytest.fixture
async def backend(roles: Roles) -> fake_backend.FakeBackend:
    """One user in nine fed guilds, each with a public and a private channel."""
    made = fake_backend.make()
    guilds = FedGuilds(made.users, made.clock)
    made = dataclasses.replace(made, guilds=guilds, wrap_deps=lambda deps: dataclasses.replace(deps, fed_roles=roles))
    await made.add_user([values.user_guild(guild_id) for guild_id in GUILDS])
    await guilds.upsert_guilds([values.user_guild(guild_id) for guild_id in GUILDS], set(GUILDS))
    for guild_id in GUILDS:
        overwrites = [values.denied(guild_id), values.allowed(ROLE)]
        rows = [
            values.channel(guild_id + 1, guild_id),
            values.channel(guild_id + 2, guild_id, overwrites=overwrites),
        ]
        fence = await guilds.acquire_lease(guild_id, now=0.0, until=1.0, fetched_before=0.0)
        assert fence is not None
        await stored.channels(guilds, guild_id, fence=fence, channels=rows, now=1.0)
    guilds.fed = set(GUILDS)
    made.discord.latency = 1.0
    return made


async def start(backend: fake_backend.FakeBackend, *, force: bool = False) -> start_job.StartResult:
    """Start a job and wait for the two best guilds."""
    starter = start_job.StartJob(backend.deps, backend.config, backend.turn_runner)
    return await starter.start(USER, wait=10.0, immediate=2, force=force)


async def test_the_answer_is_complete_when_all_guilds_are_fed(backend: fake_backend.FakeBackend, roles: Roles) -> None:
    """The first turn runs every fed guild, with its roles, and calls Discord for the lists only."""
    started = await start(backend)

    assert started.job.state is model.JobState.SUCCEEDED
    assert [task.channel_count for task in started.tasks] == [2] * len(GUILDS)
    assert sorted(roles.asked) == GUILDS
    assert {call.what for call in backend.discord.calls} == {"list", "installs"}
    user = await backend.users.load(USER)
    assert user is not None
    assert {member.role_ids for member in user.memberships.values()} == {(ROLE,)}


async def test_roles_are_read_by_rest_when_the_gateway_does_not_answer(
    backend: fake_backend.FakeBackend, roles: Roles
) -> None:
    """The task continues with a call of its own."""
    roles.answer = None
    backend.discord.roles = {(USER, guild_id): (ROLE,) for guild_id in GUILDS}

    started = await start(backend)
    await backend.run_all_turns()

    assert (await backend.get_job(started.job.job_id)).state is model.JobState.SUCCEEDED
    assert {call.what for call in backend.discord.calls} == {"list", "installs", *backend.discord.roles}


async def test_the_membership_ends_when_the_gateway_says_that_the_user_left(
    backend: fake_backend.FakeBackend, roles: Roles
) -> None:
    """As when a call says so."""
    roles.answer = errors.Gone(404, errors.UNKNOWN_MEMBER)

    started = await start(backend)

    assert started.job.state is model.JobState.SUCCEEDED
    user = await backend.users.load(USER)
    assert user is not None
    assert user.memberships == {}


async def test_only_the_best_guilds_are_run_at_once_when_none_is_fed(backend: fake_backend.FakeBackend) -> None:
    """Without the feed the first turn is as it was."""
    assert isinstance(backend.guilds, FedGuilds)
    backend.guilds.fed = set()

    started = await start(backend)

    assert sum(task.state.terminal for task in started.tasks) <= 2


async def test_a_fed_guild_keeps_its_channels_when_the_cached_list_of_the_bot_lacks_it(
    backend: fake_backend.FakeBackend,
) -> None:
    """Our bot has just joined it; no call is made to check that."""
    await backend.bot_guilds.store(frozenset(GUILDS[1:]), backend.clock())

    started = await start(backend)

    assert [task.channel_count for task in started.tasks] == [2] * len(GUILDS)
    assert {call.what for call in backend.discord.calls} == {"list"}


async def test_no_guild_is_checked_for_our_bot_when_the_gateway_follows_its_shard(
    backend: fake_backend.FakeBackend,
) -> None:
    """The Gateway tells when our bot joins a guild, so that a start asks for none."""
    backend.discord.lists[USER].append(values.user_guild(500, owner=True))

    started = await start(backend)

    assert {task.guild_id: task.reason for task in started.tasks}[500] == "BOT_NOT_INSTALLED"
    assert {call.what for call in backend.discord.calls} == {"list", "installs"}


async def test_roles_are_asked_again_over_the_gateway_when_they_are_an_hour_old(
    backend: fake_backend.FakeBackend, roles: Roles
) -> None:
    """At no call: roles that are read by REST are asked again after two days only."""
    await start(backend)
    backend.clock.elapsed += 4_000.0
    roles.asked.clear()

    await start(backend)

    assert sorted(roles.asked) == GUILDS
    assert [call.what for call in backend.discord.calls].count("list") == 2


async def test_known_roles_are_kept_when_the_gateway_does_not_answer_an_hour_later(
    backend: fake_backend.FakeBackend, roles: Roles
) -> None:
    """Without the Gateway they would not be asked again yet, so no call replaces its answer."""
    await start(backend)
    backend.clock.elapsed += 4_000.0
    roles.answer = None

    started = await start(backend)

    assert [task.channel_count for task in started.tasks] == [2] * len(GUILDS)
    assert {call.what for call in backend.discord.calls} == {"list", "installs"}
