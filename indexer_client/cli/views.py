"""Three ways to show a job while it runs: a live display, plain lines, and JSON."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from rich import console
from rich import live as rich_live

from indexer_client.cli import formatting, job_state, output, rendering, times
from indexer_service.v1 import indexer_pb2 as pb

REFRESH = 0.1
"""Seconds between two pictures."""


class View(Protocol):
    """Shows what was show_event of a job; the board has it already."""

    def show_start(self, answer: pb.StartIndexingResponse) -> None:
        """Show the answer of StartIndexing."""

    def show_event(self, message: pb.WatchProgressResponse, changed: list[pb.JobGuild]) -> None:
        """Show a message of the watch, and the rows that it changed."""


class JsonView:
    """One line of JSON a message: first the answer of StartIndexing, then each WatchProgressResponse."""

    def show_start(self, answer: pb.StartIndexingResponse) -> None:
        """Print it."""
        output.print_json(answer)

    def show_event(self, message: pb.WatchProgressResponse, changed: list[pb.JobGuild]) -> None:  # noqa: ARG002 -- a View
        """Print it."""
        output.print_json(message)


class LineView:
    """A line for each guild that is done or has to wait, and for each wait for quota."""

    def __init__(self, tracked: job_state.TrackedJob) -> None:
        self._tracked = tracked
        self._last_wait = ""

    def show_start(self, answer: pb.StartIndexingResponse) -> None:
        """Say how the job began."""
        output.print_line(f"job {answer.job.job_id} {formatting.DISPOSITIONS.get(answer.disposition, '')}")
        self._print_changes(list(answer.guilds))

    def show_event(self, message: pb.WatchProgressResponse, changed: list[pb.JobGuild]) -> None:  # noqa: ARG002 -- a View
        """Say what is new."""
        self._print_changes(changed)

    def _print_changes(self, changed: list[pb.JobGuild]) -> None:
        for row in changed:
            if row.state in job_state.FINISHED_GUILD_STATES or row.HasField("retry_at"):
                count = f", {times.pluralize(row.channel_count, 'channel')}" if row.HasField("channel_count") else ""
                output.print_line(
                    f"{formatting.guild_name(row)} ({row.guild_id}): {formatting.guild_state(row)}{count}"
                )
        wait = formatting.throttle_notice(self._tracked.throttled) if self._tracked.throttled else ""
        if wait and wait != self._last_wait:
            output.print_line(wait)
        self._last_wait = wait


class LiveView:
    """A display that is drawn over and over; the board is all it needs."""

    def show_start(self, answer: pb.StartIndexingResponse) -> None:
        """Leave it to the next display."""

    def show_event(self, message: pb.WatchProgressResponse, changed: list[pb.JobGuild]) -> None:
        """Leave it to the next display."""


@contextlib.asynccontextmanager
async def live_display(display: console.RenderableType, screen: console.Console) -> AsyncIterator[None]:
    """Draw *display* over and over until the block ends; the last one stays, unless the block fails."""
    with rich_live.Live(display, console=screen, auto_refresh=False, vertical_overflow="crop") as drawn:
        task = asyncio.create_task(_redraw(drawn))
        try:
            yield
        except Exception:
            drawn.transient = True  # the error's line stands alone
            raise
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            drawn.refresh()


async def _redraw(drawn: rich_live.Live) -> None:
    # Here and not in rich's thread: what is drawn changes in this loop.
    while True:
        drawn.refresh()
        await asyncio.sleep(REFRESH)


@contextlib.asynccontextmanager
async def open_view(tracked: job_state.TrackedJob, screen: console.Console, *, as_json: bool) -> AsyncIterator[View]:
    """Yield the view that fits: JSON if asked for, a display on a terminal, else lines."""
    if as_json:
        yield JsonView()
    elif output.supports_live_display(screen):
        async with live_display(rendering.JobDisplay(tracked, elapsed_timer()), screen):
            yield LiveView()
    else:
        yield LineView(tracked)


def elapsed_timer() -> Callable[[], float]:
    """Return what tells the seconds since now."""
    began = time.monotonic()
    return lambda: time.monotonic() - began
