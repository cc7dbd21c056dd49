"""The demo: index every user of a stack at once, show the progress, and print a summary."""

import asyncio
import contextlib
import http.client
import json
import time
import urllib.parse
from collections.abc import AsyncIterator, Sequence

from rich import console

from devstack import counts, job_runs, probes, stack, summary, supervisor, users_display
from indexer_client.cli import connection, formatting, output, rendering, times, views

LINE_INTERVAL = 10.0
"""Seconds between two progress lines where no live display is possible."""
POLL_INTERVAL = 0.2
"""Seconds between two checks for a failure of the stack."""


FED_WAIT = 120.0
"""Longest wait for the first session of the Gateway to be stored, in seconds."""


def wait_until_fed(running: stack.Stack, screen: console.Console) -> None:
    """
    Wait until the Gateway's process has stored all guilds.

    Raises:
        supervisor.StackFailed: It takes too long.
    """
    began, before = time.monotonic(), 0.0
    while time.monotonic() - began < FED_WAIT:
        found = {
            (sample.name, sample.labels.get("event", "")): sample.value
            for sample in counts.parse_samples(counts.read_page(running.metrics_urls["gateway"]))
        }
        told = found.get(("indexer_gateway_events_total", "GUILD_CREATE"), 0)
        if told and told == before == found.get(("indexer_gateway_guilds_stored_total", "")):
            screen.print(f"fed {told:,.0f} guilds in {times.format_seconds(time.monotonic() - began)}")
            return
        before = told
        time.sleep(POLL_INTERVAL)
    raise supervisor.StackFailed("the Gateway's guilds were not stored in time")


def run_demo(running: stack.Stack, screen: console.Console, faults: Sequence[str]) -> summary.Summary:
    """
    Index all users of a started stack.

    Args:
        running: The stack.

        screen: Console for the progress.

        faults: Fault rules for the simulator, each a JSON object.

    Raises:
        supervisor.StackFailed: The stack failed, or the simulator rejects a rule.
    """
    running.put_credentials()
    for rule in faults:
        post_fault(f"{running.simulator_url}/_sim/faults", rule)
    found = asyncio.run(_index_all(running, screen))
    try:
        cost = counts.collect(running.simulator_url, running.metrics_urls.values())
    except OSError as error:
        failure = running.wait(POLL_INTERVAL)  # the end of a process is detected with a short delay
        raise failure or supervisor.StackFailed(f"the counters cannot be read: {error}") from error
    return summary.Summary(found, cost, bool(faults))


async def _index_all(running: stack.Stack, screen: console.Console) -> list[job_runs.JobRun]:
    found = [job_runs.JobRun(user.id, time.monotonic) for user in running.users]
    address = connection.Endpoint(running.address)
    async with connection.open_client(address, job_runs.PATIENCE) as client, _display_runs(found, screen):
        working = asyncio.create_task(_run_all(found, client))
        while not working.done():
            await asyncio.wait([working], timeout=POLL_INTERVAL)
            if running.failure is not None:
                working.cancel()
                await asyncio.wait([working])
                raise running.failure
        await working
    return found


async def _run_all(found: list[job_runs.JobRun], client: connection.Client) -> None:
    async with asyncio.TaskGroup() as together:
        for one in found:
            together.create_task(one.run_to_end(client, users=len(found)))


@contextlib.asynccontextmanager
async def _display_runs(found: list[job_runs.JobRun], screen: console.Console) -> AsyncIterator[None]:
    """Show the runs: a live display on a terminal, else one line per ended run."""
    if output.supports_live_display(screen):
        display = (
            rendering.JobDisplay(found[0].tracked, found[0].elapsed)
            if len(found) == 1
            else users_display.UsersDisplay(found)
        )
        screen.print()
        async with views.live_display(display, screen):
            yield
        screen.print()
        return
    screen.print(f"indexing {times.pluralize(len(found), 'user')}")
    printing = asyncio.create_task(_print_progress(found, screen))
    try:
        yield
    finally:
        printing.cancel()
    for one in found:
        screen.print(
            f"user {one.user}: {one.error or formatting.job_summary(one.tracked, one.elapsed())}", soft_wrap=True
        )


async def _print_progress(found: list[job_runs.JobRun], screen: console.Console) -> None:
    while True:
        await asyncio.sleep(LINE_INTERVAL)
        done, total = (
            sum(one.tracked.finished_count for one in found),
            sum(len(one.tracked.guild_tasks) for one in found),
        )
        elapsed = max(one.elapsed() for one in found)
        counted = times.pluralize(total, "guild task" if len(found) > 1 else "guild")
        screen.print(f"{times.format_seconds(elapsed)}: {done:,} of {counted}")


def post_fault(url: str, document: str) -> None:
    """Post a fault to the simulator. Raises supervisor.StackFailed when it rejects it."""
    parts = urllib.parse.urlsplit(url)
    asking = http.client.HTTPConnection(parts.hostname or probes.HOST, parts.port, timeout=probes.PROBE_TIMEOUT)
    with contextlib.closing(asking):
        asking.request("POST", parts.path, document)
        answer = asking.getresponse()
        if answer.status != http.client.OK:
            refused = json.loads(answer.read()).get("error", answer.status)
            raise supervisor.StackFailed(f"--fault: the simulator rejects {document}: {refused}")
