"""
Erasure of a user, with concurrent work and with crashes at every step.

Two walks try every place: the erasure comes before each call that the job makes to a port, and the whole job
comes before each call that the erasure makes. Afterwards nothing of the user may be left in any of the stores.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from indexing import errors
from indexing.domain import job_updates, model, ports, turns
from indexing.usecases import control_credential, control_job, erase_user, start_job
from tests import fake_backend, stored, values

pytestmark = pytest.mark.clockwork
JOB, OTHERS_JOB = "a" * 32, "b" * 32
USER, OTHER = values.USER, values.USER + 1
OWN, SHARED = 77_000_000_000_000_001, 88_000_000_000_000_001
Deed = Callable[[fake_backend.FakeBackend, fake_backend.FakeBackend], Awaitable[None]]
"""Work for the user, through the second of two views of a backend."""
WATCHED = ("discord", "users", "credentials", "guilds", "jobs", "events", "queue", "user_data")


async def played() -> fake_backend.FakeBackend:
    """Return a backend with a user in a guild of their own and in a shared one; the other member's job has ended."""
    made = fake_backend.make()
    await made.add_user([values.user_guild(OWN), values.user_guild(SHARED)])
    await made.add_user([values.user_guild(SHARED)], OTHER)
    for guild_id in (OWN, SHARED):
        # So that roles are asked for as well.
        hidden = values.channel(guild_id + 2, guild_id, overwrites=(values.denied(guild_id), values.allowed(5)))
        made.discord.channels[guild_id].append(hidden)
        made.discord.roles |= {(USER, guild_id): (5,), (OTHER, guild_id): ()}
    await made.start_job(OTHERS_JOB, user_id=OTHER)
    await made.run_all_turns()
    return made


@pytest.fixture
async def backend() -> fake_backend.FakeBackend:
    """The same, with a job of the user that has ended, and everything else that may be stored of them."""
    made = await played()
    await made.users.put_preferences(USER, model.Preferences((OWN,), (SHARED,)))
    await made.start_job()
    await made.run_all_turns()
    await made.requests.store("StartIndexing:1", ports.StoredResponse(b"print", str(USER).encode(), USER), made.clock())
    await made.requests.store("StartIndexing:2", ports.StoredResponse(b"print", b"other", OTHER), made.clock())
    return made


def case(
    backend: fake_backend.FakeBackend, of: ports.Dependencies | None = None, budgets: ports.UserBudgets | None = None
) -> erase_user.EraseUser:
    """Return the use case."""
    of = of or backend.deps
    return erase_user.EraseUser(
        of, control_job.JobControl(of, backend.config), budgets or fake_backend.MemoryUserBudgets()
    )


def left(backend: fake_backend.FakeBackend) -> str:
    """Return all that the stores hold, as text."""
    guilds = {name: value for name, value in vars(backend.guilds).items() if name not in {"written", "_users"}}
    return repr(
        [vars(backend.users), guilds, vars(backend.jobs), backend.events.streams, vars(backend.requests)["_answers"]]
    )


def assert_gone(backend: fake_backend.FakeBackend) -> None:
    """Assert that nothing names the user or their own guild, and that the other user's data is there."""
    stored = left(backend)
    assert str(USER) not in stored
    assert str(OWN) not in stored
    assert str(OTHER) in stored
    assert str(SHARED) in stored


class Interruption:
    """Something that happens before the call of a certain number to the outside backend, once."""

    def __init__(self, at: int, deed: Callable[[], Awaitable[object]]) -> None:
        self.calls = 0
        self._at = at
        self._deed = deed

    def over(self, backend: ports.Dependencies) -> ports.Dependencies:
        """Return a backend whose calls are counted."""
        counted: dict[str, Any] = {name: _Counted(getattr(backend, name), self) for name in WATCHED}
        return dataclasses.replace(backend, **counted)

    async def called(self) -> None:
        """Count a call."""
        self.calls += 1
        if self.calls == self._at:
            await self._deed()


class _Counted:
    def __init__(self, port: object, interruption: Interruption) -> None:
        self._port = port
        self._interruption = interruption

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 -- any method of any port
        method = getattr(self._port, name)

        async def call(*given: Any, **named: Any) -> Any:  # noqa: ANN401 -- as above
            await self._interruption.called()
            return await method(*given, **named)

        return call


async def test_nothing_of_the_user_is_left_when_they_are_erased(backend: fake_backend.FakeBackend) -> None:
    """Shared guilds stay; the result counts the deleted documents."""
    budgets = fake_backend.MemoryUserBudgets()

    removed = await case(backend, budgets=budgets).erase(USER)

    assert_gone(backend)
    assert removed == {
        "users": 1,
        "rosters": 1,
        "jobs": 1,
        "requests": 1,
        "guilds": 1,
    }
    assert budgets.forgotten == [USER]
    with pytest.raises(errors.UserNotFound):
        await backend.browser.list_guilds(USER, after=None, size=10)
    assert len(await stored.list_channels(backend.guilds, [SHARED])) == 2


async def test_erasure_does_nothing_when_the_user_is_unknown(backend: fake_backend.FakeBackend) -> None:
    """Never seen, or erased before: no error, and nothing counted."""
    await case(backend).erase(USER)
    before = left(backend)

    assert await case(backend).erase(USER) == {}
    assert await case(backend).erase(values.USER + 9) == {}
    assert left(backend) == before


async def test_watchers_see_the_end_when_the_user_is_erased_during_a_job() -> None:
    """The job ends before it is deleted, so that no watcher waits for it."""
    backend = await played()
    await backend.start_job()
    await backend.turn_runner.run_turn(turns.Turn(JOB, 0), backend.turn_limits(first=1))
    published: list[job_updates.JobUpdate] = []

    class Look(Interruption):
        async def called(self) -> None:
            published.extend(backend.events.streams[JOB][-1:])

    await case(backend, Look(0, backend.run_all_turns).over(backend.deps)).erase(USER)

    assert (published[-1].job.state, published[-1].job.reason) == (model.JobState.FAILED, erase_user.USER_ERASED)
    assert published[-1].tally.open == 0
    assert_gone(backend)


async def a_job(backend: fake_backend.FakeBackend, watched: fake_backend.FakeBackend) -> None:
    """Run a job as workers do; it has to wait for quota once."""
    backend.discord.fail(OWN, errors.RateLimited("user", retry_after=3.0, why="used up"))
    await backend.start_job()
    await watched.run_all_turns()


async def a_start(backend: fake_backend.FakeBackend, watched: fake_backend.FakeBackend) -> None:
    """Start a job as callers do, with its first turn."""
    await start_job.StartJob(watched.deps, backend.config, watched.turn_runner).start(
        USER, wait=5.0, immediate=1, force=False
    )


async def a_cancellation(backend: fake_backend.FakeBackend, watched: fake_backend.FakeBackend) -> None:
    """Cancel a job that has done a part."""
    await backend.start_job()
    await backend.turn_runner.run_turn(turns.Turn(JOB, 0), backend.turn_limits(first=1))
    await control_job.JobControl(watched.deps, backend.config).cancel(JOB)


async def a_retry(backend: fake_backend.FakeBackend, watched: fake_backend.FakeBackend) -> None:
    """Try again what failed."""
    backend.discord.fail(OWN, errors.DiscordRefused(400, 50035))
    await backend.start_job()
    await backend.run_all_turns()
    await control_job.JobControl(watched.deps, backend.config).retry(JOB)


@pytest.mark.parametrize("deed", [a_job, a_start, a_cancellation, a_retry])
async def test_nothing_is_left_when_the_user_is_erased_before_any_call_of_their_work(deed: Deed) -> None:
    """Late writes of any process are gone after the last turn."""
    number = 0
    while True:
        number += 1
        backend = await played()
        interruption = Interruption(number, functools.partial(case(backend).erase, USER))
        watched = dataclasses.replace(backend, wrap_deps=interruption.over)
        # The caller may learn that the user, or their job, is gone.
        with contextlib.suppress(errors.CredentialMissing, errors.JobNotFound, errors.NothingFailed):
            await deed(backend, watched)
        await watched.run_all_turns()
        if interruption.calls < number:
            break

        assert_gone(backend)
    assert number > 5


@pytest.mark.parametrize("deed", [a_job, a_start])
async def test_nothing_is_left_when_a_job_runs_before_any_call_of_the_erasure(deed: Deed) -> None:
    """A job that ran before, or one that begins just then, comes between any two steps."""
    number = 0
    while True:
        number += 1
        backend = await played()
        if deed is a_job:
            await backend.start_job()

        async def work(backend: fake_backend.FakeBackend = backend) -> None:
            with contextlib.suppress(errors.CredentialMissing, errors.JobNotFound):
                await (backend.run_all_turns() if deed is a_job else deed(backend, backend))
            await backend.run_all_turns()

        interruption = Interruption(number, work)
        await case(backend, interruption.over(backend.deps)).erase(USER)
        await backend.run_all_turns()

        assert_gone(backend)
        if interruption.calls < number:
            break
    assert number > 10


async def test_nothing_is_left_when_an_erasure_that_was_killed_is_called_again() -> None:
    """Killed before any of its steps; the second call does what is left."""
    number = 0
    while True:
        number += 1
        backend = await played()
        await backend.start_job()
        await backend.turn_runner.run_turn(turns.Turn(JOB, 0), backend.turn_limits(first=1))

        async def kill() -> None:
            raise errors.StoreUnavailable("played")

        interruption = Interruption(number, kill)
        try:
            await case(backend, interruption.over(backend.deps)).erase(USER)
        except errors.StoreUnavailable:
            await case(backend).erase(USER)
        else:
            break

        assert_gone(backend)
    assert number > 10


async def test_erasure_fails_and_can_be_repeated_when_the_limiter_is_unavailable(
    backend: fake_backend.FakeBackend,
) -> None:
    """The caller gets an error, repeats the call, and it completes."""
    budgets = fake_backend.MemoryUserBudgets()
    budgets.away = True
    with pytest.raises(errors.LimiterUnavailable):
        await case(backend, budgets=budgets).erase(USER)

    budgets.away = False
    await case(backend, budgets=budgets).erase(USER)

    assert budgets.forgotten == [USER]
    assert_gone(backend)


async def test_a_late_turn_deletes_nothing_new_when_the_user_has_come_back(backend: fake_backend.FakeBackend) -> None:
    """Only the old job's writes are deleted; the new data stays."""
    await backend.start_job("c" * 32)

    async def again() -> None:
        backend.discord.before_answer = None
        await case(backend).erase(USER)
        await backend.add_user([values.user_guild(OWN)])
        await backend.start_job("d" * 32)

    backend.discord.before_answer = again
    await backend.run_next_turn()
    await backend.run_all_turns()

    assert await backend.task_states("d" * 32) == {OWN: "SUCCEEDED"}
    assert await backend.jobs.list_tasks("c" * 32) == []
    assert not backend.events.streams["c" * 32]


async def test_a_user_who_comes_back_has_their_new_job_when_the_erasure_goes_on() -> None:
    """They come back before any call of the erasure: it deletes what was there before, and all of it or nothing new."""
    number = 0
    while True:
        number += 1
        backend = await played()
        await backend.start_job()

        new: list[model.Job] = []
        back: list[bool] = []

        async def come_back(
            backend: fake_backend.FakeBackend = backend, new: list[model.Job] = new, back: list[bool] = back
        ) -> None:
            back.append(not await backend.users.exists(USER))
            await backend.add_user([values.user_guild(OWN)])
            if back == [True]:
                job, created = await backend.jobs.create_or_join(values.job("d" * 32))
                new.extend([job] * created)

        interruption = Interruption(number, come_back)
        await case(backend, interruption.over(backend.deps)).erase(USER)
        if interruption.calls < number:
            break

        assert await backend.users.exists(USER) == (back == [True])
        assert [job.job_id for job in new] == await backend.deps.user_data.list_jobs(USER)
    assert number > 10


async def test_discord_is_asked_nothing_more_when_the_user_is_erased(backend: fake_backend.FakeBackend) -> None:
    """The turn that still runs notices at its next write; only what is on its way is finished."""
    guilds = [values.user_guild(90_000 + number) for number in range(40)]
    await backend.add_user(guilds)
    await stored.guild_list(backend.users, OTHER, [values.user_guild(SHARED), *guilds], backend.clock())
    await backend.bot_guilds.store(frozenset(guild.guild_id for guild in guilds), backend.clock())
    await backend.start_job("c" * 32)
    asked: list[int] = []

    async def at_the_sixth() -> None:
        asked.append(len(asked) + 1)
        if len(asked) == 6:
            await case(backend).erase(USER)

    backend.discord.before_answer = at_the_sixth
    await backend.run_all_turns()

    assert 6 <= len(asked) <= 6 + 5
    assert_gone(backend)


async def test_status_is_missing_when_the_user_was_erased(backend: fake_backend.FakeBackend) -> None:
    """They are as unknown as a user who was never stored."""
    await case(backend).erase(USER)

    status = await control_credential.CredentialControl(
        backend.deps, backend.config, backend.metrics, control_job.JobControl(backend.deps, backend.config)
    ).get_status(USER)

    assert status.state is control_credential.CredentialState.MISSING
    assert_gone(backend)
