"""
A rush: 500 new users start at once, with 26 unshared guilds each, 13,000 calls.

The real use cases run with the real limiter and in-memory budgets, on simulated time. Halfway, one more user starts
and waits for their first five guilds, as the API's callers do.
"""

import asyncio
import dataclasses

from indexing.usecases import start_job
from tests import clockwork, fleet, values

GUILDS = 26
LATER = 501
"""The user who starts halfway."""
CAPACITY = 50.0
"""The global budget, in calls per second."""
OWN = 5
"""Burst of a user's own budget; after it, one call per second."""


@dataclasses.dataclass(frozen=True, slots=True)
class Rush:
    """
    The results, in seconds of simulated time.

    Attributes:
        calls: Calls until the last guild of the initial users was read, including a few of the later user.
        drain: When that guild was read.
        least: Duration of the calls at exactly the rates of the budgets.
        first_least: 95th percentile of first guilds if only lists and first guilds were read, one after the other
            at the budget's rate.
        middle_first: When the later user had their first guild, from their start.
        middle_five: When the later user had their first five guilds.
    """

    users: int
    calls: int
    lists_are_known: bool
    first_p50: float
    first_p95: float
    first_last: float
    first_least: float
    middle_first: float
    middle_five: float
    drain: float
    least: float
    drain_over_least: float


def simulate_rush(users: int = 500, *, latency: float = 0.1, lists_are_known: bool = False) -> Rush:
    """Simulate the rush; with *lists_are_known*, guild lists cost no calls."""
    with asyncio.Runner(loop_factory=clockwork.Loop) as runner:
        return runner.run(_simulate(users, latency, lists_are_known=lists_are_known))


async def _simulate(users: int, latency: float, *, lists_are_known: bool) -> Rush:
    async with fleet.running(threads=256, latency=latency) as running:
        all_users = [*range(1, users + 1), LATER]
        for user in all_users:
            rows = [values.user_guild(user * 1_000 + number) for number in range(GUILDS)]
            await running.backend.add_user(rows, user)
        await running.backend.bot_guilds.store(frozenset(running.discord.installed), running.backend.clock())
        if lists_are_known:
            running.discord.free = {"list"}
        began = running.backend.clock()
        middle = users * (GUILDS + 1) / CAPACITY / 2
        started, (later, at) = await asyncio.gather(
            asyncio.gather(*(running.start(user) for user in all_users[:-1])), _later(running, middle)
        )
        for one in [*started, later]:
            await fleet.ended(running, one.job.job_id)
        return _figures(running, began, at, lists_are_known=lists_are_known)


async def _later(running: fleet.Fleet, after: float) -> tuple[start_job.StartResult, float]:
    await asyncio.sleep(after)
    at = running.backend.clock()
    return await running.start(LATER), at


def _figures(running: fleet.Fleet, began: float, at: float, *, lists_are_known: bool) -> Rush:
    done: dict[int, list[float]] = {}
    for what, moment in running.discord.answered:
        if isinstance(what, int):
            done.setdefault(what // 1_000, []).append(moment)
    first = sorted(moments[0] - began for user, moments in done.items() if user != LATER)
    drained = max(moments[-1] for user, moments in done.items() if user != LATER)
    calls = sum(what not in running.discord.free and moment <= drained for what, moment in running.discord.answered)
    least, drain = max(calls / CAPACITY, GUILDS - OWN), drained - began
    p95 = int(len(first) * 0.95) - 1
    own = 1 if lists_are_known else 2
    return Rush(
        users=len(first),
        calls=calls,
        lists_are_known=lists_are_known,
        first_p50=first[len(first) // 2],
        first_p95=first[p95],
        first_last=first[-1],
        first_least=(p95 + 1) * own / CAPACITY,
        middle_first=done[LATER][0] - at,
        middle_five=done[LATER][4] - at,
        drain=drain,
        least=least,
        drain_over_least=drain / least - 1,
    )
