"""A light caller beside one with 80 users of 60 guilds each: what it notices, on a clock that jumps."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from tests import fleet, values

pytestmark = pytest.mark.clockwork
HEAVY_USERS, HEAVY_GUILDS, LIGHT_USER = 80, 60, 999
SETTLED = 3.0
"""Seconds for which the heavy caller works before the light one begins."""


@contextlib.asynccontextmanager
async def busy(running: fleet.Fleet, caller: str) -> AsyncIterator[None]:
    """Start the jobs of the heavy caller's users, all at once."""
    users = range(1, HEAVY_USERS + 1)
    for user in users:
        await running.backend.add_user(
            [values.user_guild(user * 1000 + number) for number in range(HEAVY_GUILDS)], user
        )
    starts = [asyncio.create_task(running.start(user, caller=caller)) for user in users]
    await asyncio.sleep(SETTLED)
    yield
    await asyncio.gather(*starts)


async def light_job(guilds: int, *, heavy: str) -> tuple[float, float, list[float]]:
    """Return the seconds of the light caller's job alone and beside *heavy*, and the waits of its turns there."""
    took, waits = [], []
    for beside in (False, True):
        async with fleet.running(latency=0.1) as running, contextlib.AsyncExitStack() as stack:
            await running.backend.add_user(
                [values.user_guild(900_000 + number) for number in range(guilds)], LIGHT_USER
            )
            if beside:
                await stack.enter_async_context(busy(running, heavy))
            began = running.backend.clock()
            started = await running.start(LIGHT_USER, caller="light")
            await fleet.ended(running, started.job.job_id)
            took.append(running.backend.clock() - began)
            waits = running.queue.waits["light"]
    return took[0], took[1], list(waits)


@pytest.mark.parametrize("guilds", [4, 12])
async def test_a_job_takes_hardly_longer_when_another_caller_has_many(guilds: int) -> None:
    """At most 1.2 times as long as alone, or half a second more where alone it takes less than five."""
    alone, beside, waits = await light_job(guilds, heavy="heavy")

    assert beside <= (1.2 * alone if alone >= 5.0 else alone + 0.5)
    # A turn holds a worker for two seconds, the longest wait for a permit, while all workers are busy.
    assert max(waits, default=0.0) <= 2.0


async def test_a_job_takes_longer_when_both_callers_have_one_name() -> None:
    """Otherwise the test above could not fail: the names make the difference."""
    alone, beside, _ = await light_job(12, heavy="light")

    assert beside > 1.2 * alone
