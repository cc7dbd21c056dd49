"""The sweeper: jobs whose next turn got lost."""

import asyncio
import dataclasses

import pytest

from indexing import errors, model, refresh, turns
from tests import values, worlds

pytestmark = pytest.mark.clockwork
JOB = "a" * 32


@pytest.fixture
async def world() -> worlds.World:
    """One job whose first turn is due now."""
    made = worlds.world()
    await made.jobs.start(values.job(JOB, next_turn_at=made.clock()))
    return made


def sweeper(world: worlds.World) -> refresh.Sweeper:
    """Return the use case."""
    return refresh.Sweeper(world.ports, world.rules)


async def test_nothing_is_enqueued_when_a_turn_is_hardly_late(world: worlds.World) -> None:
    """Queue and alarm need their time, too."""
    world.clock.advance(refresh.OVERDUE)

    assert await sweeper(world).sweep() == 0
    assert world.queue.enqueued == []


async def test_the_current_turn_is_enqueued_when_it_is_overdue(world: worlds.World) -> None:
    """Whatever had become of it."""
    await world.jobs.begin_turn(JOB, 0, now=world.clock(), until=world.clock() + 40)
    world.clock.advance(40 + refresh.OVERDUE + 0.1)

    assert await sweeper(world).sweep() == 1
    assert world.queue.enqueued == [turns.Turn(JOB, 1)]


async def test_a_turn_is_not_enqueued_at_every_sweep_when_the_queue_is_long(world: worlds.World) -> None:
    """It would only grow longer; after a while it counts as lost again."""
    world.clock.advance(refresh.OVERDUE + 0.1)
    counts = []

    for pause in (0.0, 15.0, 15.0, refresh.OVERDUE + 0.1):
        world.clock.advance(pause)
        counts.append(await sweeper(world).sweep())

    assert counts == [1, 0, 0, 1]


async def test_a_turn_runs_once_when_many_processes_sweep_at_once(world: worlds.World) -> None:
    """Each of them may enqueue it, only one of these turns owns the job."""
    world.clock.advance(refresh.OVERDUE + 0.1)
    await asyncio.gather(*(sweeper(world).sweep() for _ in range(4)))

    begun = [
        await world.jobs.begin_turn(turn.job_id, turn.number, now=world.clock(), until=world.clock() + 40)
        for turn in world.queue.enqueued
    ]

    assert len([job for job in begun if job is not None]) == 1


async def test_an_ended_job_is_left_alone_when_it_is_old(world: worlds.World) -> None:
    """There is nothing to do."""
    job = await world.job()
    await world.jobs.save(dataclasses.replace(job, state=model.JobState.CANCELLED))
    world.clock.advance(10_000)

    assert await sweeper(world).sweep() == 0


async def test_the_most_overdue_come_first_when_very_many_are_lost(world: worlds.World) -> None:
    """After a loss of all queues the next sweeps take the rest."""
    for number in range(refresh.MOST):
        late = world.clock() - 1 - number
        await world.jobs.start(values.job(f"{number:032x}", user_id=number + 1, next_turn_at=late))
    world.clock.advance(refresh.OVERDUE + 0.1)

    first = await sweeper(world).sweep()
    second = await sweeper(world).sweep()

    assert (first, second) == (refresh.MOST, 1)
    assert world.queue.enqueued[0].job_id == f"{refresh.MOST - 1:032x}"
    assert world.queue.enqueued[-1].job_id == JOB


async def test_the_failure_is_told_when_redis_is_away(world: worlds.World) -> None:
    """The next sweep tries again."""
    world.clock.advance(refresh.OVERDUE + 0.1)
    world.queue.away = True
    with pytest.raises(errors.QueueUnavailable):
        await sweeper(world).sweep()
    world.queue.away = False
    world.clock.advance(refresh.AGAIN + refresh.OVERDUE + 0.1)

    assert await sweeper(world).sweep() == 1
