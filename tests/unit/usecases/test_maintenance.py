"""Periodic tasks: overdue turns, due guilds, and purging."""

import asyncio
import dataclasses

import pytest

from indexing import errors
from indexing.domain import freshness, model, turns
from indexing.usecases import maintenance
from tests import fake_backend, stored, values

pytestmark = pytest.mark.clockwork
JOB = "a" * 32


@pytest.fixture
async def backend() -> fake_backend.FakeBackend:
    """One job whose first turn is due now."""
    made = fake_backend.make()
    await made.jobs.create_or_join(values.job(JOB, next_turn_at=made.clock()))
    return made


def sweeper(backend: fake_backend.FakeBackend) -> maintenance.Sweeper:
    """Return the use case."""
    return maintenance.Sweeper(backend.deps, backend.config)


async def test_nothing_is_enqueued_when_a_turn_is_hardly_late(backend: fake_backend.FakeBackend) -> None:
    """Queue and poller need some time."""
    backend.clock.advance(maintenance.OVERDUE_AFTER)

    assert await sweeper(backend).sweep() == 0
    assert backend.queue.enqueued == []


async def test_the_current_turn_is_enqueued_when_it_is_overdue(backend: fake_backend.FakeBackend) -> None:
    """Whatever happened to it before."""
    await backend.jobs.begin_turn(JOB, 0, now=backend.clock(), until=backend.clock() + 40)
    backend.clock.advance(40 + maintenance.OVERDUE_AFTER + 0.1)

    assert await sweeper(backend).sweep() == 1
    assert backend.queue.enqueued == [turns.Turn(JOB, 1)]


async def test_a_turn_is_enqueued_sooner_when_a_sweep_is_requested(backend: fake_backend.FakeBackend) -> None:
    """After an outage of Redis: what is due was not enqueued, or is lost."""
    backend.clock.advance(0.6)

    assert await sweeper(backend).sweep(0.5) == 1
    assert await sweeper(backend).sweep(0.5) == 0


async def test_a_turn_is_not_enqueued_at_every_sweep_when_the_queue_is_long(backend: fake_backend.FakeBackend) -> None:
    """It would make the queue longer; after a while the turn counts as lost again."""
    backend.clock.advance(maintenance.OVERDUE_AFTER + 0.1)
    counts = []

    for pause in (0.0, 15.0, 15.0, maintenance.OVERDUE_AFTER + 0.1):
        backend.clock.advance(pause)
        counts.append(await sweeper(backend).sweep())

    assert counts == [1, 0, 0, 1]


async def test_a_turn_runs_once_when_many_processes_sweep_at_once(backend: fake_backend.FakeBackend) -> None:
    """Each of them may enqueue it, only one of these turns owns the job."""
    backend.clock.advance(maintenance.OVERDUE_AFTER + 0.1)
    await asyncio.gather(*(sweeper(backend).sweep() for _ in range(4)))

    begun = [
        await backend.jobs.begin_turn(turn.job_id, turn.number, now=backend.clock(), until=backend.clock() + 40)
        for turn in backend.queue.enqueued
    ]

    assert len([job for job in begun if job is not None]) == 1


async def test_an_ended_job_is_left_alone_when_it_is_old(backend: fake_backend.FakeBackend) -> None:
    """There is nothing to do."""
    job = await backend.get_job()
    await backend.jobs.save(job, dataclasses.replace(job, state=model.JobState.CANCELLED))
    backend.clock.advance(10_000)

    assert await sweeper(backend).sweep() == 0


async def test_the_most_overdue_come_first_when_very_many_are_lost(backend: fake_backend.FakeBackend) -> None:
    """After a loss of all queues the next sweeps take the rest."""
    for number in range(maintenance.BATCH_SIZE):
        late = backend.clock() - 1 - number
        await backend.jobs.create_or_join(values.job(f"{number:032x}", user_id=number + 1, next_turn_at=late))
    backend.clock.advance(maintenance.OVERDUE_AFTER + 0.1)

    first = await sweeper(backend).sweep()
    second = await sweeper(backend).sweep()

    assert (first, second) == (maintenance.BATCH_SIZE, 1)
    assert backend.queue.enqueued[0].job_id == f"{maintenance.BATCH_SIZE - 1:032x}"
    assert backend.queue.enqueued[-1].job_id == JOB


async def test_the_sweep_fails_when_redis_is_away(backend: fake_backend.FakeBackend) -> None:
    """The next sweep tries again."""
    backend.clock.advance(maintenance.OVERDUE_AFTER + 0.1)
    backend.queue.away = True
    with pytest.raises(errors.QueueUnavailable):
        await sweeper(backend).sweep()
    backend.queue.away = False
    backend.clock.advance(maintenance.REQUEUE_INTERVAL + maintenance.OVERDUE_AFTER + 0.1)

    assert await sweeper(backend).sweep() == 1


@pytest.fixture
async def guilds() -> fake_backend.FakeBackend:
    """Three guilds of one user, just fetched by their job."""
    made = fake_backend.make()
    await made.add_user([values.user_guild(guild_id) for guild_id in (10, 20, 30)])
    await made.start_job()
    await made.run_all_turns()
    made.discord.calls.clear()
    return made


def refresher(backend: fake_backend.FakeBackend) -> maintenance.Refresher:
    """Return the use case."""
    return maintenance.Refresher(backend.deps, backend.config, backend.metrics, backend.channel_fetcher)


async def schedule(backend: fake_backend.FakeBackend, guild_id: int) -> model.Schedule:
    """Return a guild's schedule."""
    return (await backend.guilds.get([guild_id]))[guild_id].schedule


async def test_guilds_are_fetched_again_when_they_are_due(guilds: fake_backend.FakeBackend) -> None:
    """Each once, charged to no user, in the lane of the lowest priority; then they are due later."""
    early = await refresher(guilds).refresh()
    guilds.clock.advance(freshness.TIERS[0].max_interval * 1.2)

    done = await refresher(guilds).refresh()
    again = await refresher(guilds).refresh()

    assert (early, done, again) == (0, 3, 0)
    assert sorted(call.what for call in guilds.discord.calls) == [10, 20, 30]  # type: ignore[type-var]  # ids only
    assert {(call.purpose.lane, call.purpose.user_id) for call in guilds.discord.calls} == {(model.Lane.REFRESH, None)}
    assert (await schedule(guilds, 10)).next_at > guilds.clock()


async def test_the_round_ends_when_quota_is_used_up(guilds: fake_backend.FakeBackend) -> None:
    """At the first refusal; guilds that were not fetched stay due."""
    guilds.clock.advance(freshness.TIERS[0].max_interval * 1.2)
    first = (await guilds.guilds.list_due(guilds.clock(), 9))[0].guild_id
    guilds.discord.fail(first, errors.RateLimited("global", retry_after=5.0, why="used up"))
    guilds.discord.latency = 0.1
    narrow = guilds.config.model_copy(update={"refresh_width": 1})

    done = await maintenance.Refresher(guilds.deps, narrow, guilds.metrics, guilds.channel_fetcher).refresh()

    assert (done, guilds.discord.calls) == (0, [])
    assert len(await guilds.guilds.list_due(guilds.clock(), 9)) == 3


async def test_the_interval_doubles_when_a_fetch_fails(guilds: fake_backend.FakeBackend) -> None:
    """Until one succeeds; stored channels stay."""
    before = await schedule(guilds, 10)
    intervals = []
    for _ in range(3):
        guilds.clock.advance((await schedule(guilds, 10)).interval * 1.2)
        guilds.discord.fail(10, errors.DiscordTransient("502"))
        await refresher(guilds).refresh()
        intervals.append((await schedule(guilds, 10)).interval / before.interval)

    assert intervals == [2, 4, 8]
    assert (await schedule(guilds, 10)).failures == 3
    assert len(await stored.list_channels(guilds.guilds, [10])) == 1


async def test_a_guild_is_unscheduled_when_nobody_viewed_it_for_a_month(guilds: fake_backend.FakeBackend) -> None:
    """Without a call; the next job of a member fetches it."""
    guilds.clock.advance(30 * 86_400 + 1)

    assert await refresher(guilds).refresh() == 0
    assert (guilds.discord.calls, await guilds.guilds.list_due(guilds.clock(), 9)) == ([], [])


async def test_a_guild_is_fetched_once_when_two_processes_refresh_at_once(guilds: fake_backend.FakeBackend) -> None:
    """The lease admits one of them, even if both believe to be elected."""
    guilds.clock.advance(freshness.TIERS[0].max_interval * 1.2)
    guilds.discord.latency = 0.2

    done = await asyncio.gather(*(refresher(guilds).refresh() for _ in range(3)))

    assert sum(done) == 3
    assert len(guilds.discord.calls) == 3


async def test_old_data_is_purged_when_the_retention_is_over(guilds: fake_backend.FakeBackend) -> None:
    """A hidden channel, and a guild without members; not a day sooner."""
    now = guilds.clock()
    await stored.guild_list(guilds.users, values.USER, [values.user_guild(10), values.user_guild(20)], now)
    fence = await guilds.guilds.acquire_lease(20, now=now, until=now + 5, fetched_before=now)
    assert fence is not None
    await stored.channels(guilds.guilds, 20, fence=fence, channels=[], now=now)
    purger = maintenance.Purger(guilds.deps, guilds.config)

    guilds.clock.advance(guilds.config.retention - 1)
    early = await purger.purge()
    guilds.clock.advance(2)
    erased = await purger.purge()

    assert early == 0
    assert erased == 2
    assert sorted(await guilds.guilds.get([10, 20, 30])) == [10, 20]
