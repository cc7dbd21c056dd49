"""Three ways to show a job while it runs: a live picture, plain lines, and JSON."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from rich import console
from rich import live as rich_live

from indexer_client.cli import job_state, output, rendering, text, times
from indexer_service.v1 import indexer_pb2 as pb

REFRESH = 0.1
"""Seconds between two pictures."""


class View(Protocol):
    """Shows what was heard of a job; the board has it already."""

    def answered(self, answer: pb.StartIndexingResponse) -> None:
        """Show the answer of StartIndexing."""

    def heard(self, message: pb.WatchProgressResponse, changed: list[pb.JobGuild]) -> None:
        """Show a message of the watch, and the rows that it changed."""


class JsonView:
    """One line of JSON a message: first the answer of StartIndexing, then each WatchProgressResponse."""

    def answered(self, answer: pb.StartIndexingResponse) -> None:
        """Print it."""
        output.json(answer)

    def heard(self, message: pb.WatchProgressResponse, changed: list[pb.JobGuild]) -> None:  # noqa: ARG002 -- a View
        """Print it."""
        output.json(message)


class LineView:
    """A line for each guild that is done or has to wait, and for each wait for quota."""

    def __init__(self, seen: job_state.Board) -> None:
        self._seen = seen
        self._waits = ""

    def answered(self, answer: pb.StartIndexingResponse) -> None:
        """Say how the job began."""
        output.line(f"job {answer.job.job_id} {text.DISPOSITIONS.get(answer.disposition, '')}")
        self._tell(list(answer.guilds))

    def heard(self, message: pb.WatchProgressResponse, changed: list[pb.JobGuild]) -> None:  # noqa: ARG002 -- a View
        """Say what is new."""
        self._tell(changed)

    def _tell(self, changed: list[pb.JobGuild]) -> None:
        for row in changed:
            if row.state in job_state.DONE or row.HasField("retry_at"):
                count = f", {times.counted(row.channel_count, 'channel')}" if row.HasField("channel_count") else ""
                output.line(f"{text.guild_name(row)} ({row.guild_id}): {text.guild_state(row)}{count}")
        waits = text.waiting(self._seen.waits) if self._seen.waits else ""
        if waits and waits != self._waits:
            output.line(waits)
        self._waits = waits


class LiveView:
    """A picture that is drawn over and over; the board is all it needs."""

    def answered(self, answer: pb.StartIndexingResponse) -> None:
        """Leave it to the next picture."""

    def heard(self, message: pb.WatchProgressResponse, changed: list[pb.JobGuild]) -> None:
        """Leave it to the next picture."""


@contextlib.asynccontextmanager
async def drawing(picture: console.RenderableType, on: console.Console) -> AsyncIterator[None]:
    """Draw *picture* over and over until the block ends; the last one stays, unless the block fails."""
    with rich_live.Live(picture, console=on, auto_refresh=False, vertical_overflow="crop") as drawn:
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
async def showing(seen: job_state.Board, on: console.Console, *, as_json: bool) -> AsyncIterator[View]:
    """Yield the view that fits: JSON if asked for, a picture on a terminal, else lines."""
    if as_json:
        yield JsonView()
    elif output.draws(on):
        async with drawing(rendering.JobPicture(seen, stopwatch()), on):
            yield LiveView()
    else:
        yield LineView(seen)


def stopwatch() -> Callable[[], float]:
    """Return what tells the seconds since now."""
    began = time.monotonic()
    return lambda: time.monotonic() - began
