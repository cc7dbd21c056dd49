"""`indexer limits`: the rate-limit budgets and their free permits."""

import asyncio
import sys
from collections.abc import Sequence

from google.protobuf import timestamp_pb2
from rich import console, progress_bar, table, text

from indexer_client.cli import connection, escape, fitting, output, times, views
from indexer_service.v1 import indexer_pb2 as pb

INTERVAL = 1.0
"""Seconds between two calls with --watch, the window of the global budget."""
LOW_SHARE = 0.05
"""Free share of a budget at which its bar turns red; our guess."""
BAR_WIDTH = 12
LEAST_FOLDED = 3
"""Routes with all permits free that are shown as one line."""
WIDE = 72
"""Columns of a terminal on which all columns of the table fit."""
LEAST_NAME = 18
"""Characters of a budget's name, at least."""
END_SHARE = 2 / 3
"""Share of the end in a name that is cut: there is a guild's id."""


def folded(budgets: Sequence[pb.Budget]) -> list[pb.Budget]:
    """Return the budgets with those routes as one that have all their permits free and no pause."""
    calm = [one for one in budgets if one.kind == "route" and one.free == one.capacity and not _is_paused(one)]
    if len(calm) < LEAST_FOLDED:
        return list(budgets)
    together = pb.Budget(
        key=f"{len(calm)} routes, all free",
        capacity=sum(one.capacity for one in calm),
        free=sum(one.free for one in calm),
        window=calm[0].window,
    )
    return [*(one for one in budgets if one not in calm), together]


class LimitsDisplay:
    """Renders the latest response, one bar per budget."""

    def __init__(self) -> None:
        self.budgets: Sequence[pb.Budget] = ()

    def __rich_console__(self, _screen: console.Console, options: console.ConsoleOptions) -> console.RenderResult:
        """Yield the table, with fewer columns on a narrow terminal."""
        wide = options.max_width >= WIDE
        drawn = table.Table(box=None, pad_edge=False, header_style="bold dim", expand=wide)
        drawn.add_column("budget", no_wrap=True)
        if wide:
            drawn.add_column("", width=BAR_WIDTH)
        drawn.add_column("free", justify="right", no_wrap=True)
        if wide:
            drawn.add_column("window", justify="right", no_wrap=True)
            drawn.add_column("next free", no_wrap=True, overflow="ellipsis", min_width=len("12:34:56.789"))
        rows = folded(self.budgets)
        room = options.max_width - (BAR_WIDTH + len("10000/10000") + len("window") + len("12:34:56.789") + 8)
        width = max(LEAST_NAME, room if wide else options.max_width - len("10000/10000") - 2)
        for budget in rows:
            share = budget.free / budget.capacity if budget.capacity else 0.0
            style = "red" if share <= LOW_SHARE or _is_paused(budget) else "green"
            bar = progress_bar.ProgressBar(
                max(1, budget.capacity), budget.free, complete_style=style, finished_style=style
            )
            name, free, window, following, note = _cells(budget)
            shown = text.Text(fitting.cut_in_the_middle(name, width, end_share=END_SHARE))
            if wide:
                drawn.add_row(shown, bar, free, window, following)
            else:
                drawn.add_row(shown, text.Text(free, style))
                note = "\n".join(filter(None, (following and f"next free {following}", note)))
            for line in note.splitlines():
                for part in fitting.wrap(line, width - 2, indent=2):
                    drawn.add_row(text.Text(f"  {part}", "yellow"))
        yield drawn


async def show_limits(client: connection.Client, users: Sequence[str], *, watch: bool, form: output.Form) -> int:
    """Show the budgets once, or every second until interrupted."""
    request = pb.GetRateLimitsRequest(user_ids=users)
    screen = output.make_console(sys.stdout)
    display = LimitsDisplay()
    display.budgets = await _fetch_budgets(client, request)
    if watch and output.supports_live_display(screen) and not form.structured:
        async with views.live_display(display, screen):
            while True:
                await asyncio.sleep(INTERVAL)
                display.budgets = await _fetch_budgets(client, request)
    _print_budgets(display, form=form)
    while watch:
        await asyncio.sleep(INTERVAL)
        display.budgets = await _fetch_budgets(client, request)
        _print_budgets(display, form=form)
    return 0


async def _fetch_budgets(client: connection.Client, request: pb.GetRateLimitsRequest) -> Sequence[pb.Budget]:
    answer = await client.api.GetRateLimits(request)
    return answer.budgets


def _print_budgets(display: LimitsDisplay, *, form: output.Form) -> None:
    screen = output.make_console(sys.stdout)
    if form.structured:
        for budget in display.budgets:
            output.print_message(budget, form)
    elif screen.is_terminal:
        screen.print(display)
    else:
        output.print_table([], [_cells(budget) for budget in display.budgets])


def _cells(budget: pb.Budget) -> tuple[str, str, str, str, str]:
    """Return the cells of one row: name, free permits, window, time of the next free permit, pause."""
    name = f"{budget.kind} {budget.key}".strip()
    window = f"{budget.window.ToMilliseconds() / 1000:g} s"
    note = ""
    if _is_paused(budget):
        note = f"paused until {times.time_of_day(budget.pause_end_time)}: {_pause_reason(budget)}"
    following = _time_with_milliseconds(budget.next_free_time) if budget.HasField("next_free_time") else ""
    return escape.visible(name), f"{budget.free}/{budget.capacity}", window, following, escape.visible(note)


def _pause_reason(budget: pb.Budget) -> str:
    if budget.pause_reason not in pb.PauseReason.values() or not budget.pause_reason:
        return "no reason given"
    return pb.PauseReason.Name(budget.pause_reason).removeprefix("PAUSE_REASON_").lower()


def _is_paused(budget: pb.Budget) -> bool:
    return budget.HasField("pause_end_time") and not times.has_passed(budget.pause_end_time)


def _time_with_milliseconds(stamp: timestamp_pb2.Timestamp) -> str:
    return times.local_time(stamp).strftime("%H:%M:%S.%f")[:-3]
