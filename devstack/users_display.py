"""The live display of many users' jobs: one bar per user, and one for all."""

from collections.abc import Sequence

from rich import console, progress_bar, table, text

from devstack import job_runs
from indexer_client.cli import formatting, rendering, times
from indexer_service.v1 import indexer_pb2 as pb

RESERVED_LINES = 5
"""Lines above and below the users, plus one for the cursor."""
BAR_WIDTH = 24


class UsersDisplay:
    """Renders job runs; running ones are shown first when there is no room for all."""

    def __init__(self, shown: Sequence[job_runs.JobRun]) -> None:
        self._runs = shown

    def __rich_console__(self, screen: console.Console, options: console.ConsoleOptions) -> console.RenderResult:
        """Yield the parts that fit on the screen."""
        yield self._total(options.max_width)
        yield ""
        room = max(1, screen.size.height - RESERVED_LINES)
        shown = list(self._runs)
        if len(shown) > room:
            shown = sorted(shown, key=lambda run: run.ended_at is not None)[: room - 1]
        yield self._rows(shown)
        if len(shown) < len(self._runs):
            yield text.Text(f"  … {times.pluralize(len(self._runs) - len(shown), 'more user')}", style="dim")

    def _total(self, width: int) -> table.Table:
        done = sum(run.tracked.finished_count for run in self._runs)
        total = sum(len(run.tracked.guild_tasks) for run in self._runs)
        channels = sum(job_runs.channels_by_guild(self._runs).values())
        elapsed = max((run.elapsed() for run in self._runs), default=0.0)
        numbers = f"{done:,} of {times.pluralize(total, 'guild task')}, {times.pluralize(channels, 'channel')}"
        return rendering.progress_row(
            done, total, text.Text.assemble(numbers, ("  " + times.format_seconds(elapsed), "dim")), width=width
        )

    def _rows(self, shown: Sequence[job_runs.JobRun]) -> table.Table:
        grid = table.Table.grid(padding=(0, 1), expand=True)
        grid.add_column(no_wrap=True)
        grid.add_column(width=BAR_WIDTH)
        grid.add_column(justify="right", no_wrap=True)
        grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        for run in shown:
            tracked = run.tracked
            bar = progress_bar.ProgressBar(
                max(1, len(tracked.guild_tasks)), tracked.finished_count, complete_style="green"
            )
            grid.add_row(run.user, bar, f"{tracked.finished_count}/{len(tracked.guild_tasks)}", _state(run))
        return grid


def _state(run: job_runs.JobRun) -> text.Text:
    tracked = run.tracked
    if run.error:
        return text.Text(run.error, style="red")
    if run.ended_at is not None:
        good = tracked.job.state == pb.JOB_STATE_SUCCEEDED
        return text.Text(
            f"{formatting.JOB_STATES[tracked.job.state]} in {times.format_seconds(run.ended_at)}",
            style="green" if good else "red",
        )
    if tracked.throttled is not None:
        return text.Text(formatting.throttle_notice(tracked.throttled), style="yellow")
    return text.Text("fetching" if tracked.guild_tasks else "reading the guild list", style="cyan")
