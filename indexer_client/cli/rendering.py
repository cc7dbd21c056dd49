"""The live display of one job: a bar, its rate-limit wait, and as many guilds as fit on the terminal."""

from collections.abc import Callable, Iterable

from rich import console, progress_bar, table, text

from indexer_client.cli import escape, fitting, formatting, job_state, times
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
NARROW_LINES = RESERVED_LINES + 3
"""The same on a narrow terminal, where heading, numbers and wait may take a line more each."""
NUMBERS_WIDTH = 46
"""Columns for the numbers beside a bar, such as `1,140 of 1,200 guilds, 30,000 channels  1:02`."""
SHORTEST_BAR = 10
WIDE = NUMBERS_WIDTH + SHORTEST_BAR
"""Columns from which numbers have room beside a bar, and whole states beside names."""
STATE_WIDTH = 30
NARROW_STATE = 17
"""As long as `bot not installed`."""
COUNT_WIDTH = 9


class JobDisplay:
    """Renders a job; `elapsed` returns the seconds since its start."""

    def __init__(self, tracked: job_state.TrackedJob, elapsed: Callable[[], float]) -> None:
        self._tracked = tracked
        self._elapsed = elapsed

    def __rich_console__(self, screen: console.Console, options: console.ConsoleOptions) -> console.RenderResult:
        """Yield the parts that fit on the screen."""
        yield from self._heading(options.max_width)
        yield self._bar(options.max_width)
        yield self._status()
        if not self._tracked.guild_tasks or self._tracked.ended:
            return
        yield ""
        rows = self._tracked.tasks_by_activity()
        room = max(1, screen.size.height - (RESERVED_LINES if options.max_width >= WIDE else NARROW_LINES))
        shown = rows if len(rows) <= room else rows[: room - 1]
        yield self._rows(shown, options.max_width)
        if len(shown) < len(rows):
            yield text.Text(f"  … {len(rows) - len(shown)} more: {_state_counts(rows[len(shown) :])}", style="dim")

    def _heading(self, width: int) -> list[text.Text]:
        """Return a line with user and job, or two where these have no room beside each other."""
        job = self._tracked.job
        first = text.Text.assemble(("Indexing ", "bold"), escape.visible(job.user_id), no_wrap=True)
        known = text.Text(escape.visible(f"job {job.job_id}") if job.job_id else "", "dim", no_wrap=True)
        if not job.job_id or first.cell_len + len("  ") + known.cell_len > width:
            return [first, known] if job.job_id else [first]
        return [text.Text.assemble(first, "  ", known, no_wrap=True)]

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
            return text.Text(formatting.throttle_notice(throttled), style="yellow")
        if not self._tracked.job.guilds_listed and not self._tracked.ended:
            return text.Text("reading the guild list", style="cyan")
        return text.Text(formatting.skipped_summary(self._tracked), style="dim")

    def _rows(self, rows: Iterable[pb.JobGuild], width: int) -> table.Table:
        wide = width >= WIDE
        grid = table.Table.grid(padding=(0, 1), expand=True)
        grid.add_column(width=1)
        grid.add_column(ratio=1)
        grid.add_column(width=STATE_WIDTH if wide else NARROW_STATE)
        grid.add_column(width=COUNT_WIDTH if wide else None, justify="right", no_wrap=True)
        spinner = SPINNER[int(self._elapsed() * FRAMES_PER_SECOND) % len(SPINNER)]
        for row in rows:
            mark, style = STYLES.get(row.state, ("·", "dim"))
            count = f"{row.channel_count:,} ch" if row.HasField("channel_count") else ""
            retries = row.state == pb.GUILD_STATE_QUEUED and row.HasField("retry_time")
            name, state = fitting.Cut(formatting.guild_name(row)), fitting.Cut(formatting.guild_state(row))
            grid.add_row(
                text.Text(mark or spinner), name, state, text.Text(count), style="yellow" if retries else style
            )
        return grid


def progress_row(done: int, total: int, beside: text.Text, *, width: int, style: str = "green") -> table.Table:
    """Return a bar with numbers beside it, *width* columns wide; below it on a narrow terminal."""
    bar = progress_bar.ProgressBar(max(1, total), done, complete_style=style, finished_style=style)
    grid = table.Table.grid(padding=(0, 1))
    if width < WIDE:
        grid.add_column(width=width)
        grid.add_row(bar)
        grid.add_row(beside)
        return grid
    grid.add_column(width=width - NUMBERS_WIDTH)
    grid.add_column(no_wrap=True)
    grid.add_row(bar, beside)
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
