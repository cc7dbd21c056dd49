"""Three ways to show a running job: a live display, plain lines, and messages."""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Protocol

from rich import console
from rich import live as rich_live

from indexer_client.cli import formatting, job_state, output, rendering, times
from indexer_service.v1 import indexer_pb2 as pb

REFRESH = 0.1
"""Seconds between two refreshes of a live display."""


class View(Protocol):
    """Shows responses and events of a job, after they were merged into its TrackedJob."""

    def show_start(self, answer: pb.StartIndexingResponse) -> None:
        """Show StartIndexing's response."""

    def show_event(self, message: pb.WatchProgressResponse, changed: list[pb.JobGuild]) -> None:
        """Show a WatchProgress event and the guild tasks that it changed."""


class MessageView:
    """Prints each message, as JSON or YAML: StartIndexing's response, then each WatchProgressResponse."""

    def __init__(self, form: output.Form) -> None:
        self._form = form

    def show_start(self, answer: pb.StartIndexingResponse) -> None:
        """Print the message."""
        output.print_message(answer, self._form)

    def show_event(self, message: pb.WatchProgressResponse, changed: list[pb.JobGuild]) -> None:  # noqa: ARG002 -- a View
        """Print the message."""
        output.print_message(message, self._form)


class LineView:
    """Prints a line per finished or retried guild task, and per rate-limit wait."""

    def __init__(self, tracked: job_state.TrackedJob) -> None:
        self._tracked = tracked
        self._last_wait = ""

    def show_start(self, answer: pb.StartIndexingResponse) -> None:
        """Print the job's id and how it started."""
        output.print_sentence(f"job {answer.job.job_id} {formatting.DISPOSITIONS.get(answer.disposition, '')}")
        self._print_changes(list(answer.guilds))

    def show_event(self, message: pb.WatchProgressResponse, changed: list[pb.JobGuild]) -> None:  # noqa: ARG002 -- a View
        """Print the changes."""
        self._print_changes(changed)

    def _print_changes(self, changed: list[pb.JobGuild]) -> None:
        for row in changed:
            if row.state in job_state.FINISHED_GUILD_STATES or row.HasField("retry_time"):
                count = f", {times.pluralize(row.channel_count, 'channel')}" if row.HasField("channel_count") else ""
                output.print_sentence(
                    f"{formatting.guild_name(row)} ({row.guild_id}): {formatting.guild_state(row)}{count}"
                )
        wait = formatting.throttle_notice(self._tracked.throttled) if self._tracked.throttled else ""
        if wait and wait != self._last_wait:
            output.print_sentence(wait)
        self._last_wait = wait


class LiveView:
    """Leaves everything to the live display, which reads the TrackedJob."""

    def show_start(self, answer: pb.StartIndexingResponse) -> None:
        """Do nothing."""

    def show_event(self, message: pb.WatchProgressResponse, changed: list[pb.JobGuild]) -> None:
        """Do nothing."""


@contextlib.asynccontextmanager
async def live_display(display: console.RenderableType, screen: console.Console) -> AsyncIterator[None]:
    """Redraw *display* until the block ends; the last state stays on the screen, unless the block fails."""
    with (
        _hidden_interrupt(),
        rich_live.Live(display, console=screen, auto_refresh=False, vertical_overflow="crop") as drawn,
    ):
        task = asyncio.create_task(_redraw(drawn))
        try:
            yield
        except Exception:
            drawn.transient = True  # leave only the error's line
            raise
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            drawn.refresh()


@contextlib.contextmanager
def _hidden_interrupt() -> Iterator[None]:
    """Keep the terminal from showing Ctrl-C as `^C`, which moves a full-width display down by a line."""
    if os.name != "posix" or not sys.stdin.isatty() or _in_background():
        yield
        return
    import termios  # noqa: PLC0415 -- missing on Windows
    import tty  # noqa: PLC0415 -- as above

    before = termios.tcgetattr(sys.stdin)
    hidden = [*before]
    hidden[tty.LFLAG] &= ~termios.ECHOCTL
    termios.tcsetattr(sys.stdin, termios.TCSADRAIN, hidden)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _in_background() -> bool:
    """Return whether the shell runs the command in the background, where changing the terminal would stop it."""
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) != os.getpgrp()
    except OSError:  # another session's terminal
        return False


async def _redraw(drawn: rich_live.Live) -> None:
    # Not in rich's own thread, because the displayed data changes in this event loop.
    while True:
        drawn.refresh()
        await asyncio.sleep(REFRESH)


@contextlib.asynccontextmanager
async def open_view(
    tracked: job_state.TrackedJob, screen: console.Console, *, form: output.Form
) -> AsyncIterator[View]:
    """Yield a view: messages if requested, a live display on a terminal, else lines."""
    if form.structured:
        yield MessageView(form)
    elif output.supports_live_display(screen):
        async with live_display(rendering.JobDisplay(tracked, elapsed_timer()), screen):
            yield LiveView()
    else:
        yield LineView(tracked)


def elapsed_timer() -> Callable[[], float]:
    """Return a function that returns the seconds since this call."""
    began = time.monotonic()
    return lambda: time.monotonic() - began
