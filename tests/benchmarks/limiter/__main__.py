"""`python -m tests.benchmarks.limiter`: run all phases, print a table, write JSON and a picture."""

import json
import pathlib
import sys
import tempfile
from typing import Annotated

import matplotlib as mpl
import rich.console
import rich.progress
import rich.table
import typer

from tests import servers
from tests.benchmarks.limiter import figures, fleet, phases

CONSOLE = rich.console.Console(width=None if sys.stdout.isatty() else 120)


def table(found: list[figures.Figures]) -> rich.table.Table:
    """Return the figures as a table."""
    lines = rich.table.Table(title="The limiter: 4 processes, round trips 60-140 ms, 50/1 s and 5/5 s")
    for name in (
        "phase",
        "calls",
        "of limit",
        "rejected",
        "peak/s",
        "wait p50/p99 ms",
        "commands/call",
        "CPU ms/call",
        "also",
    ):
        lines.add_column(name, justify="left" if name in {"phase", "also"} else "right")
    for one in found:
        waits = "\n".join(f"{lane[0]} {wait['p50']:.0f}/{wait['p99']:.0f}" for lane, wait in one.waits.items())
        also = "\n".join(f"{name} {value:.2f}".removesuffix(".00") for name, value in one.extra.items())
        lines.add_row(
            one.phase, str(one.calls), f"{100 * one.ratio:.1f} %", str(one.rejections), str(one.peak), waits,
            f"{one.commands_per_call:.2f}", f"{one.cpu_ms_per_call:.1f}", also,
        )  # fmt: skip
    return lines


def draw(measured: list[fleet.Measured], path: pathlib.Path) -> None:
    """Draw the headroom of the global budget over time, phase by phase."""
    mpl.use("Agg")
    from matplotlib import pyplot  # noqa: PLC0415 -- after the choice of the backend

    figure, axes = pyplot.subplots(
        len(measured), 1, figsize=(9, 1.5 * len(measured)), squeeze=False, layout="constrained"
    )
    for axis, one in zip(axes[:, 0], measured, strict=True):
        seconds = figures.per_second(one)
        axis.fill_between([at for at, _ in seconds], [100 * free for _, free in seconds], step="post", color="#7aa6c2")
        for event in one.events:
            axis.axvline(event - one.began, color="#b03a2e", linewidth=1)
        axis.set_ylim(0, 100)
        axis.set_ylabel("free %")
        axis.set_title(f"{one.phase.name}: {one.phase.promise}", loc="left", fontsize=9)
    axes[-1, 0].set_xlabel("seconds; a red line: a fault or an event")
    figure.savefig(path, dpi=110)


def main(
    *,
    quick: Annotated[bool, typer.Option(help="Run each phase for 20 s: shows that everything runs.")] = False,
    only: Annotated[str, typer.Option(help="Only the phases whose name contains this.")] = "",
    out: Annotated[pathlib.Path, typer.Option(help="Folder for JSON and picture.")] = pathlib.Path("build/bench"),
) -> None:
    """Measure the limiter against the simulator."""
    chosen = [phase for phase in phases.all_phases(quick=quick) if only in phase.name]
    out.mkdir(parents=True, exist_ok=True)
    measured, found = [], []
    columns = (*rich.progress.Progress.get_default_columns(), rich.progress.TimeElapsedColumn())
    with servers.valkey() as url, rich.progress.Progress(*columns, console=CONSOLE) as progress:
        task = progress.add_task("", total=sum(phase.seconds + fleet.HOLD for phase in chosen))
        for phase in chosen:
            progress.update(task, description=phase.name)
            with tempfile.TemporaryDirectory() as folder:
                one = fleet.run(phase, url, pathlib.Path(folder), lambda: progress.advance(task))
            measured.append(one)
            found.append(figures.compute_figures(one))
            (out / "limiter.json").write_text(json.dumps(figures.summary(found), indent=1) + "\n", encoding="utf-8")
            draw(measured, out / "limiter.png")
    CONSOLE.print(table(found))
    CONSOLE.print(f"{out}/limiter.json, {out}/limiter.png")


if __name__ == "__main__":
    typer.run(main)
