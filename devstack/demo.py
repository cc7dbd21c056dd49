"""The main job before your eyes: index every user of a stack at once, watch it, and sum up what it took."""

import asyncio
import contextlib
import http.client
import json
import time
import urllib.parse
from collections.abc import AsyncIterator, Sequence

from rich import console

from devstack import counts, crowd, job_runs, probes, stack, summary, supervisor
from indexer_client.cli import connection, output, rendering, text, times, views

LINES_APART = 10.0
"""Seconds between two lines where no picture can be drawn."""
LOOK = 0.2
"""Seconds between two looks whether the stack still stands."""


def run(running: stack.Stack, on: console.Console, faults: Sequence[str]) -> summary.Summary:
    """
    Index all users of a started stack.

    Args:
        running: The stack.

        on: Where to show it.

        faults: Rules for the simulator, each a JSON object.

    Raises:
        supervisor.StackFailed: The stack broke down, or does not accept the rules.
    """
    running.put_credentials()
    for rule in faults:
        _post(f"{running.simulator_url}/_sim/faults", rule)
    found = asyncio.run(_index_all(running, on))
    try:
        cost = counts.collect(running.simulator_url, running.metrics_urls.values())
    except OSError as error:
        died = running.wait(LOOK)  # that a process has died is noticed a moment later
        raise died or supervisor.StackFailed(f"the counters cannot be read: {error}") from error
    return summary.Summary(found, cost, bool(faults))


async def _index_all(running: stack.Stack, on: console.Console) -> list[job_runs.Run]:
    found = [job_runs.Run(user.id, time.monotonic) for user in running.users]
    async with connection.connected(connection.Way(running.address)) as stub, _showing(found, on):
        working = asyncio.create_task(_run_all(found, stub))
        while not working.done():
            await asyncio.wait([working], timeout=LOOK)
            if running.failure is not None:
                working.cancel()
                await asyncio.wait([working])
                raise running.failure
        await working
    return found


async def _run_all(found: list[job_runs.Run], stub: connection.Stub) -> None:
    async with asyncio.TaskGroup() as together:
        for one in found:
            together.create_task(one.run(stub, users=len(found)))


@contextlib.asynccontextmanager
async def _showing(found: list[job_runs.Run], on: console.Console) -> AsyncIterator[None]:
    """Show the runs: live on a terminal, and as a line for each that has ended elsewhere."""
    if output.draws(on):
        picture = (
            rendering.JobPicture(found[0].board, found[0].elapsed) if len(found) == 1 else crowd.CrowdPicture(found)
        )
        on.print()
        async with views.drawing(picture, on):
            yield
        on.print()
        return
    on.print(f"indexing {times.counted(len(found), 'user')}")
    telling = asyncio.create_task(_tell(found, on))
    try:
        yield
    finally:
        telling.cancel()
    for one in found:
        on.print(f"user {one.user}: {one.problem or text.summary(one.board, one.elapsed())}", soft_wrap=True)


async def _tell(found: list[job_runs.Run], on: console.Console) -> None:
    while True:
        await asyncio.sleep(LINES_APART)
        done, total = sum(one.board.done for one in found), sum(len(one.board.rows) for one in found)
        elapsed = max(one.elapsed() for one in found)
        on.print(f"{times.span(elapsed)}: {done:,} of {times.counted(total, 'guild')}")


def _post(url: str, document: str) -> None:
    parts = urllib.parse.urlsplit(url)
    asking = http.client.HTTPConnection(parts.hostname or probes.HOST, parts.port, timeout=probes.PATIENCE)
    with contextlib.closing(asking):
        asking.request("POST", parts.path, document)
        answer = asking.getresponse()
        if answer.status != http.client.OK:
            refused = json.loads(answer.read()).get("error", answer.status)
            raise supervisor.StackFailed(f"--fault: the simulator refuses {document}: {refused}")
