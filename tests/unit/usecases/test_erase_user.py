"""
A user is erased, whatever runs at that moment and whoever is killed in the middle of it.

Two walks try every place: the erasure comes before each call that his job makes to the outside world, and the whole job
comes before each call that the erasure makes. Afterwards nothing of him may be left in any of the stores.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from indexing import errors
from indexing.domain import model, ports, turns
from indexing.usecases import control_job, erase_user, start_job, tokens
from tests import stored, values, worlds

pytestmark = pytest.mark.clockwork
JOB, OTHERS_JOB = "a" * 32, "b" * 32
USER, OTHER = values.USER, values.USER + 1
OWN, SHARED = 77_000_000_000_000_001, 88_000_000_000_000_001
Deed = Callable[[worlds.World, worlds.World], Awaitable[None]]
"""Work for the user, through the second of two views of a world."""
WATCHED = ("discord", "users", "credentials", "guilds", "jobs", "events", "queue", "user_data")


async def played() -> worlds.World:
    """Return a world with one user in a guild of his own and one that he shares; the other's job has ended."""
    made = worlds.world()
    await made.add_user([values.user_guild(OWN), values.user_guild(SHARED)])
    await made.add_user([values.user_guild(SHARED)], OTHER)
    for guild_id in (OWN, SHARED):
        # So that roles are asked for as well.
        hidden = values.channel(guild_id + 2, guild_id, overwrites=(values.denied(guild_id), values.allowed(5)))
        made.discord.channels[guild_id].append(hidden)
        made.discord.roles |= {(USER, guild_id): (5,), (OTHER, guild_id): ()}
    await made.start(OTHERS_JOB, user_id=OTHER)
    await made.work()
    return made


@pytest.fixture
async def world() -> worlds.World:
    """The same, with a job of the user that has ended, and all else that may be stored of him."""
    made = await played()
    await made.users.put_preferences(USER, model.Preferences((OWN,), (SHARED,)))
    await made.start()
    await made.work()
    await made.requests.store("StartIndexing:1", ports.StoredResponse(b"print", str(USER).encode(), USER), made.clock())
    await made.requests.store("StartIndexing:2", ports.StoredResponse(b"print", b"other", OTHER), made.clock())
    return made


def case(
    world: worlds.World, of: ports.Dependencies | None = None, budgets: ports.UserBudgets | None = None
) -> erase_user.EraseUser:
    """Return the use case."""
    of = of or world.ports
    return erase_user.EraseUser(of, control_job.JobControl(of, world.rules), budgets or worlds.MemoryUserBudgets())


def left(world: worlds.World) -> str:
    """Return all that the stores hold, as text."""
    guilds = {name: value for name, value in vars(world.guilds).items() if name not in {"written", "_users"}}
    return repr([vars(world.users), guilds, vars(world.jobs), world.events.streams, vars(world.requests)["_answers"]])


def assert_gone(world: worlds.World) -> None:
    """Nothing names the user or what only he has brought; the other's is there."""
    stored = left(world)
    assert str(USER) not in stored
    assert str(OWN) not in stored
    assert str(OTHER) in stored
    assert str(SHARED) in stored


class Intrusion:
    """Something that happens before the call of a certain number to the outside world, once."""

    def __init__(self, at: int, deed: Callable[[], Awaitable[object]]) -> None:
        self.calls = 0
        self._at = at
        self._deed = deed

    def over(self, world: ports.Dependencies) -> ports.Dependencies:
        """Return a world whose calls are counted."""
        counted: dict[str, Any] = {name: _Counted(getattr(world, name), self) for name in WATCHED}
        return dataclasses.replace(world, **counted)

    async def called(self) -> None:
        """Count a call."""
        self.calls += 1
        if self.calls == self._at:
            await self._deed()


class _Counted:
    def __init__(self, port: object, intrusion: Intrusion) -> None:
        self._port = port
        self._intrusion = intrusion

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 -- any method of any port
        method = getattr(self._port, name)

        async def call(*given: Any, **named: Any) -> Any:  # noqa: ANN401 -- as above
            await self._intrusion.called()
            return await method(*given, **named)

        return call


async def test_nothing_of_the_user_is_left_when_he_is_erased(world: worlds.World) -> None:
    """What he shares with others stays, as theirs; the answer counts what went."""
    budgets = worlds.MemoryUserBudgets()

    removed = await case(world, budgets=budgets).erase(USER)

    assert_gone(world)
    assert removed == {
        "users": 1,
        "rosters": 1,
        "jobs": 1,
        "requests": 1,
        "guilds": 1,
    }
    assert budgets.forgotten == [USER]
    with pytest.raises(errors.UserNotFound):
        await world.browser.list_guilds(USER, after=None, size=10)
    assert len(await world.guilds.list_channels([SHARED])) == 2


async def test_nothing_happens_when_nobody_is_known(world: worlds.World) -> None:
    """A stranger, and one who was erased before: no error, and nothing counted."""
    await case(world).erase(USER)
    before = left(world)

    assert await case(world).erase(USER) == {}
    assert await case(world).erase(values.USER + 9) == {}
    assert left(world) == before


async def test_the_watchers_are_told_when_the_user_is_erased_while_his_job_runs() -> None:
    """The job ends before it goes, so that nobody waits for it."""
    world = await played()
    await world.start()
    await world.turner.run_turn(turns.Turn(JOB, 0), world.limits(first=1))
    published: list[model.JobUpdate] = []

    class Look(Intrusion):
        async def called(self) -> None:
            published.extend(world.events.streams[JOB][-1:])

    await case(world, Look(0, world.work).over(world.ports)).erase(USER)

    assert (published[-1].job.state, published[-1].job.reason) == (model.JobState.FAILED, erase_user.USER_ERASED)
    assert published[-1].tally.open == 0
    assert_gone(world)


async def a_job(world: worlds.World, watched: worlds.World) -> None:
    """Run a job as workers do; it has to wait for quota once."""
    world.discord.fail(OWN, errors.RateLimited("user", retry_after=3.0, why="used up"))
    await world.start()
    await watched.work()


async def a_start(world: worlds.World, watched: worlds.World) -> None:
    """Start a job as callers do, with its first turn."""
    await start_job.StartJob(watched.ports, world.rules, watched.turner).start(USER, wait=5.0, immediate=1, force=False)


async def a_cancellation(world: worlds.World, watched: worlds.World) -> None:
    """Cancel a job that has done a part."""
    await world.start()
    await world.turner.run_turn(turns.Turn(JOB, 0), world.limits(first=1))
    await control_job.JobControl(watched.ports, world.rules).cancel(JOB)


async def a_retry(world: worlds.World, watched: worlds.World) -> None:
    """Try again what failed."""
    world.discord.fail(OWN, errors.DiscordRefused(400, 50035))
    await world.start()
    await world.work()
    await control_job.JobControl(watched.ports, world.rules).retry(JOB)


@pytest.mark.parametrize("deed", [a_job, a_start, a_cancellation, a_retry])
async def test_nothing_is_left_when_the_user_is_erased_at_any_moment_of_his_work(deed: Deed) -> None:
    """Whoever works for him, and whatever is written late: it is gone when the last turn is."""
    number = 0
    while True:
        number += 1
        world = await played()
        intrusion = Intrusion(number, functools.partial(case(world).erase, USER))
        watched = dataclasses.replace(world, through=intrusion.over)
        # The caller may learn that the user, or his job, is gone.
        with contextlib.suppress(errors.CredentialMissing, errors.JobNotFound, errors.NothingFailed):
            await deed(world, watched)
        await watched.work()
        if intrusion.calls < number:
            break

        assert_gone(world)
    assert number > 5


@pytest.mark.parametrize("deed", [a_job, a_start])
async def test_nothing_is_left_when_work_is_done_at_any_moment_of_the_erasure(deed: Deed) -> None:
    """A job that ran before, or one that begins just then, comes between any two steps."""
    number = 0
    while True:
        number += 1
        world = await played()
        if deed is a_job:
            await world.start()

        async def work(world: worlds.World = world) -> None:
            with contextlib.suppress(errors.CredentialMissing, errors.JobNotFound):
                await (world.work() if deed is a_job else deed(world, world))
            await world.work()

        intrusion = Intrusion(number, work)
        await case(world, intrusion.over(world.ports)).erase(USER)
        await world.work()

        assert_gone(world)
        if intrusion.calls < number:
            break
    assert number > 10


async def test_nothing_is_left_when_an_erasure_that_was_killed_is_called_again() -> None:
    """Killed before any of its steps; the second call does what is left."""
    number = 0
    while True:
        number += 1
        world = await played()
        await world.start()
        await world.turner.run_turn(turns.Turn(JOB, 0), world.limits(first=1))

        async def kill() -> None:
            raise errors.StoreUnavailable("played")

        intrusion = Intrusion(number, kill)
        try:
            await case(world, intrusion.over(world.ports)).erase(USER)
        except errors.StoreUnavailable:
            await case(world).erase(USER)
        else:
            break

        assert_gone(world)
    assert number > 10


async def test_the_erasure_is_not_done_when_the_budgets_are_away(world: worlds.World) -> None:
    """The caller is told to come again, and then it is."""
    budgets = worlds.MemoryUserBudgets()
    budgets.away = True
    with pytest.raises(errors.LimiterUnavailable):
        await case(world, budgets=budgets).erase(USER)

    budgets.away = False
    await case(world, budgets=budgets).erase(USER)

    assert budgets.forgotten == [USER]
    assert_gone(world)


async def test_a_late_turn_takes_nothing_when_the_user_has_come_back(world: worlds.World) -> None:
    """Only what the old job left goes; what he has brought anew is his."""
    await world.start("c" * 32)

    async def again() -> None:
        world.discord.before_answer = None
        await case(world).erase(USER)
        await world.add_user([values.user_guild(OWN)])
        await world.start("d" * 32)

    world.discord.before_answer = again
    await world.turn()
    await world.work()

    assert await world.states("d" * 32) == {OWN: "SUCCEEDED"}
    assert await world.jobs.list_tasks("c" * 32) == []
    assert not world.events.streams["c" * 32]


async def test_discord_is_asked_nothing_more_when_the_user_is_erased(world: worlds.World) -> None:
    """The turn that still runs notices at its next write; only what is on its way is finished."""
    guilds = [values.user_guild(90_000 + number) for number in range(40)]
    await world.add_user(guilds)
    await stored.guild_list(world.users, OTHER, [values.user_guild(SHARED), *guilds], world.clock())
    await world.installs.store(frozenset(guild.guild_id for guild in guilds), world.clock())
    await world.start("c" * 32)
    asked: list[int] = []

    async def at_the_sixth() -> None:
        asked.append(len(asked) + 1)
        if len(asked) == 6:
            await case(world).erase(USER)

    world.discord.before_answer = at_the_sixth
    await world.work()

    assert 6 <= len(asked) <= 6 + 5
    assert_gone(world)


async def test_revoking_says_nothing_of_an_erased_user(world: worlds.World) -> None:
    """He is as unknown as one who never came."""
    await case(world).erase(USER)

    status = await tokens.CredentialControl(world.ports, control_job.JobControl(world.ports, world.rules)).get_status(
        USER
    )

    assert status.state is tokens.CredentialState.MISSING
    assert_gone(world)
