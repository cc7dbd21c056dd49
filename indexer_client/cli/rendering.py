"""The live display of one job: a bar, its rate-limit wait, and as many guilds as fit on the terminal."""

from collections.abc import Callable, Iterable

from rich import console, progress_bar, table, text

from indexer_client.cli import escape, formatting, job_state, times
from indexer_service.v1 import indexer_pb2 as pb

SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
FRAMES_PER_SECOND = 10
STYLES = {
    pb.GUILD_STATE_QUEUED: ("·", "dim"),
    pb.GUILD_STATE_RUNNING: ("", "cyan"),
    pb.GUILD_STATE_SUCCEEDED: ("✓", "green"),
    pb.GUILD_STATE_SKIPPED: ("-", "dim"),
    pb.GUILD_STATE_FAILED: ("✗", "red"),
    pb.GUILD_STATE_CANCELLED: ("-", "dim"),
}
RESERVED_LINES = 7
"""Lines above and below the guilds, plus one for the cursor."""
NUMBERS_WIDTH = 46
"""Columns for the numbers beside a bar, such as `1,140 of 1,200 guilds, 30,000 channels  1:02`."""
SHORTEST_BAR = 10
STATE_WIDTH = 30
COUNT_WIDTH = 9


class JobDisplay:
    """Renders a job; `elapsed` returns the seconds since its start."""

    def __init__(self, tracked: job_state.TrackedJob, elapsed: Callable[[], float]) -> None:
        self._tracked = tracked
        self._elapsed = elapsed

    def __rich_console__(self, screen: console.Console, options: console.ConsoleOptions) -> console.RenderResult:
        """Yield the parts that fit on the screen."""
        yield self._heading()
        yield self._bar(options.max_width)
        yield self._status()
        if not self._tracked.guild_tasks or self._tracked.ended:
            return
        yield ""
        rows = self._tracked.tasks_by_activity()
        room = max(1, screen.size.height - RESERVED_LINES)
        shown = rows if len(rows) <= room else rows[: room - 1]
        yield self._rows(shown)
        if len(shown) < len(rows):
            yield text.Text(f"  … {len(rows) - len(shown)} more: {_state_counts(rows[len(shown) :])}", style="dim")

    def _heading(self) -> text.Text:
        job = self._tracked.job
        known = escape.visible(f"  job {job.job_id}") if job.job_id else ""
        return text.Text.assemble(
            ("Indexing ", "bold"), escape.visible(job.user_id), (known, "dim"), no_wrap=True, overflow="ellipsis"
        )

    def _bar(self, width: int) -> table.Table:
        tracked = self._tracked
        total = len(tracked.guild_tasks)
        style = {pb.JOB_STATE_FAILED: "red", pb.JOB_STATE_CANCELLED: "dim"}.get(tracked.job.state, "green")
        numbers = f"{tracked.finished_count} of {times.pluralize(total, 'guild')}"
        numbers += f", {times.pluralize(tracked.channel_count, 'channel')}"
        beside = text.Text.assemble(numbers, ("  " + times.format_seconds(self._elapsed()), "dim"))
        return progress_row(tracked.finished_count, total, beside, width=width, style=style)

    def _status(self) -> text.Text:
        throttled = self._tracked.throttled
        if throttled is not None:
            return text.Text(formatting.throttle_notice(throttled), style="yellow", no_wrap=True, overflow="ellipsis")
        if not self._tracked.job.guilds_listed and not self._tracked.ended:
            return text.Text("reading the guild list", style="cyan")
        return text.Text(formatting.skipped_summary(self._tracked), style="dim", no_wrap=True, overflow="ellipsis")

    def _rows(self, rows: Iterable[pb.JobGuild]) -> table.Table:
        grid = table.Table.grid(padding=(0, 1), expand=True)
        grid.add_column(width=1)
        grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        grid.add_column(width=STATE_WIDTH, no_wrap=True, overflow="ellipsis")
        grid.add_column(width=COUNT_WIDTH, justify="right", no_wrap=True)
        spinner = SPINNER[int(self._elapsed() * FRAMES_PER_SECOND) % len(SPINNER)]
        for row in rows:
            mark, style = STYLES.get(row.state, ("·", "dim"))
            count = f"{row.channel_count:,} ch" if row.HasField("channel_count") else ""
            retries = row.state == pb.GUILD_STATE_QUEUED and row.HasField("retry_time")
            cells = (mark or spinner, formatting.guild_name(row), formatting.guild_state(row), count)
            grid.add_row(*(text.Text(cell) for cell in cells), style="yellow" if retries else style)
        return grid


def progress_row(done: int, total: int, beside: text.Text, *, width: int, style: str = "green") -> table.Table:
    """Return a bar with numbers beside it, *width* columns wide."""
    grid = table.Table.grid(padding=(0, 1))
    grid.add_column(width=max(SHORTEST_BAR, width - NUMBERS_WIDTH))
    grid.add_column(no_wrap=True)
    grid.add_row(progress_bar.ProgressBar(max(1, total), done, complete_style=style, finished_style=style), beside)
    return grid


def _state_counts(rows: Iterable[pb.JobGuild]) -> str:
    """Return the number of guild tasks by state."""
    names = {
        pb.GUILD_STATE_QUEUED: "queued",
        pb.GUILD_STATE_RUNNING: "running",
        pb.GUILD_STATE_SUCCEEDED: "indexed",
        pb.GUILD_STATE_SKIPPED: "skipped",
        pb.GUILD_STATE_FAILED: "failed",
        pb.GUILD_STATE_CANCELLED: "cancelled",
    }
    states = [row.state for row in rows]
    return ", ".join(f"{states.count(state)} {name}" for state, name in names.items() if state in states)
