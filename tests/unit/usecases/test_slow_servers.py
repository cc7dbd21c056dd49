"""Turns while servers are slow, but answer: every turn makes progress, and what it waits for is counted."""

import asyncio
import dataclasses
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import structlog.testing

from indexing import errors, settings
from indexing.domain import model, ports, turns
from indexing.usecases import turn_time
from tests import fake_backend, fleet, values
from tests.unit.usecases import seven_guilds

pytestmark = pytest.mark.clockwork
USER, JOB, GUILDS, ROLE = seven_guilds.USER, seven_guilds.JOB, seven_guilds.GUILDS, seven_guilds.ROLE


class Slow:
    """A port each of whose methods takes *seconds* longer."""

    def __init__(self, port: Any, seconds: float) -> None:  # noqa: ANN401 -- any port
        self._port = port
        self._seconds = seconds

    def __getattr__(self, name: str) -> Callable[..., Awaitable[object]]:
        method = getattr(self._port, name)

        async def slow(*given: object, **options: object) -> object:
            await asyncio.sleep(self._seconds)
            return await method(*given, **options)

        return slow


def slowed(deps: ports.Dependencies, seconds: float) -> ports.Dependencies:
    """Return the dependencies with stores that take so long for each operation."""
    names = ("users", "credentials", "unproven", "guilds", "jobs", "user_data")
    stores: dict[str, Any] = {name: Slow(getattr(deps, name), seconds) for name in names}
    return dataclasses.replace(deps, **stores)


def with_slow_store(backend: fake_backend.FakeBackend, seconds: float) -> fake_backend.FakeBackend:
    """Return the backend with stores that take so long for each operation."""
    return dataclasses.replace(backend, wrap_deps=lambda deps: slowed(deps, seconds))


async def index_a_crowd(seconds: float) -> float:
    """Index 20 users who share guilds, with a store that takes so long more; returns the simulated seconds."""
    open_ = settings.Rate(capacity=1_000, window=1.0)
    async with fleet.running(latency=0.05, user_budget=open_, wrap=lambda deps: slowed(deps, seconds)) as running:
        chosen, users = random.Random(1), range(1, 21)
        for user in users:
            own = chosen.sample(range(1_000, 1_200), 30)
            await running.backend.add_user([values.user_guild(guild) for guild in own], user)
            running.discord.roles |= {(user, guild): (ROLE,) for guild in own}
        for guild in running.discord.channels:
            hidden = (values.denied(guild), values.allowed(ROLE))
            running.discord.channels[guild].append(values.channel(guild + 10**6, guild, overwrites=hidden))
        began = running.backend.clock()
        started = await asyncio.gather(*(running.start(user) for user in users))
        ended = [await fleet.ended(running, one.job.job_id) for one in started]
        assert {job.state for job in ended} == {model.JobState.SUCCEEDED}
        return max(job.finished_at or 0.0 for job in ended) - began


def count_idle(backend: fake_backend.FakeBackend, reason: str) -> float:
    """Return how many turns began nothing for a reason."""
    return float(backend.metrics.idle_turns.labels(reason)._value.get())


@pytest.fixture
async def backend() -> fake_backend.FakeBackend:
    """One user in seven guilds."""
    return await seven_guilds.make()


@pytest.mark.parametrize("seconds", [1.0, 2.0, 3.0])
async def test_every_turn_makes_progress_when_the_store_is_slow(
    backend: fake_backend.FakeBackend, seconds: float
) -> None:
    """Before its tasks a turn makes more operations than its time has seconds; the time starts after them."""
    slow = with_slow_store(backend, seconds)
    await backend.start_job()

    turned = await slow.run_all_turns(most=40)

    assert (await backend.get_job()).state is model.JobState.SUCCEEDED
    assert turned <= len(GUILDS) + 1
    assert [count_idle(backend, reason) for reason in ("time", "permit", "limiter")] == [0, 0, 0]


async def test_jobs_take_a_quarter_longer_at_most_when_each_operation_takes_100_ms_more() -> None:
    """Others use the budget while some wait for the store."""
    usual, slow = [await index_a_crowd(seconds) for seconds in (0.0, 0.1)]

    assert usual < slow <= 1.25 * usual


async def test_a_list_is_asked_for_once_when_each_operation_takes_500_ms_more() -> None:
    """No worker takes over a job whose first turn is about to store the list."""
    async with fleet.running(wrap=lambda deps: slowed(deps, 0.5)) as running:
        await running.backend.add_user([values.user_guild(10), values.user_guild(20)])
        started = await running.start(values.USER)
        ended = await fleet.ended(running, started.job.job_id)

        assert ended.state is model.JobState.SUCCEEDED
        assert [what for what, _ in running.discord.answered].count("list") == 1


async def test_no_call_and_no_task_waits_for_updates_to_watchers(backend: fake_backend.FakeBackend) -> None:
    """A Redis that takes 3 s for each delays the end of the turn once, not each of seven guilds twice."""
    events: Any = Slow(backend.deps.events, 3.0)
    slow = dataclasses.replace(backend, wrap_deps=lambda deps: dataclasses.replace(deps, events=events))
    await backend.start_job()
    began = backend.clock()

    await slow.run_all_turns(most=10)

    assert (await backend.get_job()).state is model.JobState.SUCCEEDED
    assert backend.clock() - began <= 9.0


async def test_lease_is_renewed_when_much_of_it_is_used_before_the_tasks(backend: fake_backend.FakeBackend) -> None:
    """Otherwise the sweeper hands the job to a second turn while the first one still works on it."""
    slow = with_slow_store(backend, 3.0)
    await backend.start_job()
    leases: list[float] = []
    backend.discord.latency = 1.0

    async def look() -> None:
        leases.append((await backend.get_job()).next_turn_at - backend.clock())

    backend.discord.before_answer = look
    await slow.run_next_turn()

    assert min(leases) > backend.config.turn_lease / 2


async def test_turn_ends_when_another_owns_the_job_before_its_tasks(backend: fake_backend.FakeBackend) -> None:
    """A turn that outlived its lease starts no task."""
    slow = with_slow_store(backend, 3.0)
    job = await backend.start_job()
    running = asyncio.create_task(slow.run_next_turn())
    await asyncio.sleep(20.0)

    now = backend.clock()
    assert await backend.jobs.begin_turn(job.job_id, 1, now=now, until=now + 40.0) is not None
    await running

    assert backend.discord_calls == []


async def test_idle_turn_is_counted_and_logged_when_its_permits_expire(backend: fake_backend.FakeBackend) -> None:
    """It ends well and schedules the next, so that nothing else shows that the job stands still."""
    await backend.start_job()
    expired = errors.RateLimited("global", retry_after=10.0, why=errors.PERMIT_EXPIRED)
    for guild_id in GUILDS:
        backend.discord.fail(guild_id, expired)

    with structlog.testing.capture_logs() as lines:
        await backend.run_next_turn()

    assert count_idle(backend, "permit") == 1
    assert [line for line in lines if line["event"] == "turns_began_nothing"] == [
        {"event": "turns_began_nothing", "log_level": "warning", "turns": 1, "reason": "permit"}
    ]


async def test_idle_turn_is_counted_when_the_limiter_does_not_answer(backend: fake_backend.FakeBackend) -> None:
    """A Redis that answers too late for the limiter stops all calls."""
    await backend.start_job()
    backend.discord.fail("list", errors.LimiterUnavailable(1.0))

    await backend.run_next_turn()

    assert count_idle(backend, "limiter") == 1


async def test_turn_that_waits_for_quota_is_not_idle(backend: fake_backend.FakeBackend) -> None:
    """Its job says what it waits for."""
    await backend.start_job()
    backend.discord.fail(10, errors.RateLimited("user", retry_after=10.0, why="used up"))

    await backend.turn_runner.run_background_turn(turns.Turn(JOB, 0))

    assert [count_idle(backend, reason) for reason in ("time", "permit", "limiter")] == [0, 0, 0]


async def test_idle_turns_are_logged_once_a_minute_when_many_jobs_stand_still(
    backend: fake_backend.FakeBackend,
) -> None:
    """With how many there were since the last line."""
    moments = iter([0.0, 1.0, 59.0, 60.0])
    idle = turn_time.TurnTime(backend.deps, backend.config, backend.metrics, monotonic=lambda: next(moments))

    with structlog.testing.capture_logs() as lines:
        for _ in range(4):
            idle.note_idle("time")

    assert [line["turns"] for line in lines] == [1, 3]
