"""The display of a starting stack, and a line for each later event of its programs."""

import contextlib
import sys
import threading
import time
from collections.abc import Iterator, Sequence

from rich import console, table, text
from rich import live as rich_live

from devstack import supervisor
from indexer_client.cli import output, rendering

REFRESHES = 10
SYMBOLS = {supervisor.State.READY: ("✓", "green"), supervisor.State.ENDED: ("✗", "red")}


class StartupView:
    """Collects reports; shows a live display on a terminal, one line per report elsewhere."""

    def __init__(self, screen: console.Console) -> None:
        self._screen = screen
        self._lock = threading.Lock()
        self._latest: dict[str, supervisor.Report] = {}
        self._names: Sequence[str] = ()
        self._drawing = False

    def __call__(self, report: supervisor.Report) -> None:
        """Handle a report, from any thread."""
        with self._lock:
            before = self._latest.get(report.name)
            self._latest[report.name] = report
        if self._drawing:
            return
        if report.state is supervisor.State.ENDED:
            self._screen.print(text.Text(f"{report.name} {report.detail}", style="yellow"))
        elif report.state is supervisor.State.READY:
            again = "again " if before and self._names == () else ""
            self._screen.print(text.Text(f"{report.name} is {again}ready at {report.detail} ({report.seconds:.1f} s)"))

    @contextlib.contextmanager
    def display_start(self, names: Sequence[str]) -> Iterator[None]:
        """Show the start of the programs *names* until the block ends."""
        self._names = names
        if output.supports_live_display(self._screen):
            self._drawing = True
            with rich_live.Live(self, console=self._screen, refresh_per_second=REFRESHES):
                yield
            self._drawing = False
        else:
            yield
        self._names = ()

    def __rich__(self) -> table.Table:
        """Return a table with one row per program."""
        grid = table.Table.grid(padding=(0, 1))
        with self._lock:
            latest = dict(self._latest)
        spinner = rendering.SPINNER[int(time.monotonic() * rendering.FRAMES_PER_SECOND) % len(rendering.SPINNER)]
        for name in self._names:
            report = latest.get(name)
            if report is None:
                grid.add_row("·", name, "", style="dim")
                continue
            symbol, style = SYMBOLS.get(report.state, (spinner, "cyan"))
            took = f"{report.seconds:.1f} s" if report.state is supervisor.State.READY else ""
            grid.add_row(text.Text(symbol, style=style), name, text.Text(report.detail, style="dim"), took)
        return grid


def print_failure(problem: supervisor.StackFailed) -> None:
    """Print the failure and the last log lines of the failed program to standard error."""
    output.print_error(str(problem))
    for line in problem.tail:
        output.print_error(f"  {line}")


def progress_console(*, as_json: bool) -> console.Console:
    """Return the console for progress: standard error if standard output is reserved for JSON."""
    return output.make_console(sys.stderr if as_json else sys.stdout)
