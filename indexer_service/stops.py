"""
`python -m indexer_service stops`: prints what stops the whole fleet; `stops lift` lifts it.

A lift is recorded in the audit log with the name of the operator's account. Jobs that wait for the end of the stop
begin at once. A turn that met the stop may store its wait only after the lift, when its last call has ended; for as
long as a call takes, the command looks for such waits and ends them as well.
"""

import asyncio
import contextlib
import getpass
import math
import sys
import time
import uuid
from collections.abc import Awaitable, Callable

from indexing import settings, wiring
from indexing.messaging import queue, redis_client
from indexing.ratelimit import limits, stops
from indexing.store import database, jobs
from indexing.telemetry import audit

WAITS_FOR = ("global", "egress")
"""Budgets that a job waits for while the fleet is stopped."""
LOOK_AGAIN = 1.0
"""Seconds between two looks for waits of turns that were under way when the stop was lifted."""


async def show(config: settings.StopsConfig) -> int:
    """Print the stops in force. Raises errors.QueueUnavailable, errors.LimiterUnavailable."""
    async with redis_client.open_redis(config.redis) as client:
        found = await stops.read(client, *_names(config))
    lines = [f"{stop.name}: {stops.MEANINGS[stop.name]}; ends in {stop.seconds:.0f} s" for stop in found.stops]
    lines = lines or ["nothing is stopped"]
    lines.append(
        f"invalid requests in the last ten minutes: {found.invalid} of {limits.INVALID_REQUEST_LIMIT.capacity}"
    )
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


async def lift(config: settings.StopsConfig, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> int:
    """
    Lift all stops, and have the jobs that wait for their end begin; returns 1 when it is refused.

    Raises:
        errors.StoreUnavailable, errors.QueueUnavailable, errors.LimiterUnavailable: Lifting again is safe.
    """
    audit.configure(config.audit.log, config.audit.max_bytes, config.audit.files)
    async with (
        redis_client.open_redis(config.redis) as client,
        database.open_database(config.mongo) as opened,
    ):
        found = await stops.lift(client, *_names(config))
        refused = bool(found.stops) and found.invalid > stops.MOST_INVALID
        names = ",".join(stop.name for stop in found.stops)
        audit.record(
            caller=f"operator:{_account()}",
            method="stops lift",
            stops=names,
            outcome="TOO_MANY_INVALID_REQUESTS" if refused else "OK",
            request_id=uuid.uuid4().hex,
        )
        if refused:
            sys.stderr.write(
                f"not lifted: {found.invalid} invalid requests in the last ten minutes, and Discord bans the address "
                f"at {limits.INVALID_REQUEST_LIMIT.capacity}; try again when they are below {stops.MOST_INVALID}\n"
            )
            return 1
        lifted_at = time.time()  # noqa: TID251 -- the one clock of this process
        waiting = await jobs.end_waits(opened, WAITS_FOR, lifted_at)
        await queue.request_sweep(client)
        for _ in range(math.ceil((config.discord.timeout + config.mongo.timeout) / LOOK_AGAIN) if found.stops else 0):
            await sleep(LOOK_AGAIN)
            late = await jobs.end_waits(opened, WAITS_FOR, lifted_at, began_before=lifted_at)
            if late:
                await queue.request_sweep(client)
            waiting += late
    # Standard output may be the audit log's.
    sys.stderr.write(f"lifted: {names or 'nothing was stopped'}; {waiting} waiting jobs begin\n")
    return 0


def _names(config: settings.StopsConfig) -> tuple[str, limits.LimiterParameters]:
    return (
        wiring.application_name(config.discord),
        limits.LimiterParameters.from_settings(config.limiter, config.discord.timeout),
    )


def _account() -> str:
    with contextlib.suppress(KeyError, OSError):
        return getpass.getuser()
    return "unknown"
