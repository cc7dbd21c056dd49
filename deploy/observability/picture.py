"""The main panels of the headroom dashboard, drawn from what Prometheus answers."""

import pathlib
from typing import Any

import matplotlib as mpl
from matplotlib import figure

from deploy.observability import headroom, panels, server

SHOWN = [
    (headroom.GLOBAL, "Permits taken against the limit"),
    (headroom.GLOBAL, "Headroom"),
    (headroom.GLOBAL, "Left right after a permit was taken"),
    (headroom.WAITS, "Wait for a permit, by lane"),
    (headroom.WAITS, "Who was sent away, and why"),
    (headroom.DISCORD, "Calls by status"),
    (headroom.DISCORD, "429s by scope"),
    (headroom.DISCORD, "Ban line used"),
]
UNITS = {"reqps": "a second", "percentunit": "share", "s": "seconds", "short": ""}
STEP = 1.0
WINDOW = "5s"
"""Short, because the run is; Grafana takes at least four scrapes."""
DARK: dict[Any, Any] = {
    "axes.facecolor": "#181b1f",
    "figure.facecolor": "#111217",
    "savefig.facecolor": "#111217",
    "text.color": "#ccccdc",
    "axes.labelcolor": "#ccccdc",
    "axes.edgecolor": "#2c3038",
    "xtick.color": "#9fa3ad",
    "ytick.color": "#9fa3ad",
    "grid.color": "#2c3038",
    "font.size": 8,
    "svg.hashsalt": "indexer",
}


def draw(asked: server.Prometheus, start: float, end: float, path: pathlib.Path) -> None:
    """Draw into an SVG file."""
    with mpl.rc_context(DARK):
        whole = figure.Figure(figsize=(13, 11), layout="constrained")
        whole.suptitle("Rate-limit headroom, one run of make check-monitoring", fontsize=11)
        for place, (row, title) in enumerate(SHOWN, start=1):
            (panel,) = [one for one in row.panels if one.title == title]
            _panel(whole.add_subplot(4, 2, place), panel, asked, (start, end))
        whole.savefig(path, metadata={"Date": None})


def _panel(axes: Any, panel: panels.Panel, asked: server.Prometheus, span: tuple[float, float]) -> None:  # noqa: ANN401 -- matplotlib is untyped here
    start, end = span
    axes.set_title(panel.title, loc="left", fontsize=9)
    axes.set_ylabel(UNITS.get(panel.unit, panel.unit))
    axes.grid(visible=True, linewidth=0.5)
    lines = []
    for query in panel.queries:
        text = query.expanded().replace("$__rate_interval", WINDOW).replace("$namespace", ".*")
        for labels, points in asked.ranges(text, start, end, STEP):
            if any(value > 0 for _, value in points):
                lines.append((_name(query.legend, labels), points))
    stacked = [line for line in lines if line[0] != "permitted"] if panel.unit == "reqps" else []
    if stacked:
        _stack(axes, stacked, start)
    for name, points in lines:
        if (name, points) not in stacked:
            axes.plot([at - start for at, _ in points], [value for _, value in points], label=name, linewidth=1)
    if panel.most is not None:
        axes.set_ylim(0, panel.most)
    elif panel.title == "Ban line used":
        axes.set_ylim(0, 0.12)
        axes.axhline(0.05, color="orange", linestyle="--", linewidth=0.8)
        axes.axhline(0.1, color="red", linestyle="--", linewidth=0.8)
    else:
        axes.set_ylim(bottom=0)
    axes.set_xlim(0, end - start)
    if lines:
        axes.legend(loc="upper right", fontsize=7, framealpha=0.6, facecolor="#181b1f", labelcolor="#ccccdc")
    else:
        axes.text(0.5, 0.5, "0 throughout", transform=axes.transAxes, ha="center")


def _stack(axes: Any, lines: list[tuple[str, list[Any]]], start: float) -> None:  # noqa: ANN401 -- as above
    times = sorted({at for _, points in lines for at, _ in points})
    rows = []
    for _, points in lines:
        known = dict(points)
        rows.append([known.get(at, 0.0) for at in times])
    axes.stackplot([at - start for at in times], rows, labels=[name for name, _ in lines], alpha=0.6)


def _name(legend: str, labels: dict[str, str]) -> str:
    for name, value in labels.items():
        legend = legend.replace(f"{{{{{name}}}}}", value)
    return legend
