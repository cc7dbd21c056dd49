"""The live picture of many users' jobs: one bar each, and one for all."""

from collections.abc import Sequence

from rich import console, progress_bar, table, text

from devstack import job_runs
from indexer_client.cli import rendering, times
from indexer_client.cli import text as cli_text
from indexer_service.v1 import indexer_pb2 as pb

AROUND_THE_ROWS = 5
"""Lines above and below the users, and one for the cursor."""
BAR_WIDTH = 24


class CrowdPicture:
    """Renders runs; those that go on stand above those that have ended when there is no room for all."""

    def __init__(self, shown: Sequence[job_runs.Run]) -> None:
        self._runs = shown

    def __rich_console__(self, screen: console.Console, options: console.ConsoleOptions) -> console.RenderResult:
        """Draw what fits."""
        yield self._total(options.max_width)
        yield ""
        room = max(1, screen.size.height - AROUND_THE_ROWS)
        shown = list(self._runs)
        if len(shown) > room:
            shown = sorted(shown, key=lambda run: run.ended is not None)[: room - 1]
        yield self._rows(shown)
        if len(shown) < len(self._runs):
            yield text.Text(f"  … {times.counted(len(self._runs) - len(shown), 'more user')}", style="dim")

    def _total(self, width: int) -> table.Table:
        done = sum(run.board.done for run in self._runs)
        total = sum(len(run.board.rows) for run in self._runs)
        channels = sum(run.board.channels for run in self._runs)
        elapsed = max((run.elapsed() for run in self._runs), default=0.0)
        numbers = f"{done:,} of {times.counted(total, 'guild')}, {times.counted(channels, 'channel')}"
        return rendering.bar(done, total, text.Text.assemble(numbers, ("  " + times.span(elapsed), "dim")), width=width)

    def _rows(self, shown: Sequence[job_runs.Run]) -> table.Table:
        grid = table.Table.grid(padding=(0, 1), expand=True)
        grid.add_column(no_wrap=True)
        grid.add_column(width=BAR_WIDTH)
        grid.add_column(justify="right", no_wrap=True)
        grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        for run in shown:
            seen = run.board
            bar = progress_bar.ProgressBar(max(1, len(seen.rows)), seen.done, complete_style="green")
            grid.add_row(run.user, bar, f"{seen.done}/{len(seen.rows)}", _state(run))
        return grid


def _state(run: job_runs.Run) -> text.Text:
    seen = run.board
    if run.problem:
        return text.Text(run.problem, style="red")
    if run.ended is not None:
        good = seen.job.state == pb.JOB_STATE_SUCCEEDED
        return text.Text(
            f"{cli_text.JOBS[seen.job.state]} in {times.span(run.ended)}", style="green" if good else "red"
        )
    if seen.waits is not None:
        return text.Text(cli_text.waiting(seen.waits), style="yellow")
    return text.Text("fetching" if seen.rows else "reading the guild list", style="cyan")
