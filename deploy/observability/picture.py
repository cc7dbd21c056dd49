"""Draws the main panels of the headroom dashboard from data in Prometheus."""

import dataclasses
import math
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import matplotlib as mpl
from matplotlib import figure

from deploy.observability import headroom, panels, server

Line: TypeAlias = tuple[str, list[tuple[float, float]]]
"""Name, and (seconds since the start, value) pairs."""
SHOWN = (
    (headroom.GLOBAL, "Permits taken against the limit"),
    (headroom.GLOBAL, "Headroom"),
    (headroom.GLOBAL, "User headroom"),
    (headroom.GLOBAL, "Left right after a permit was taken"),
    (headroom.WAITS, "Wait for a permit, by lane"),
    (headroom.WAITS, "Permits refused, by reason"),
    (headroom.DISCORD, "Calls by status"),
    (headroom.DISCORD, "429s by scope"),
    (headroom.DISCORD, "Invalid-request limit used"),
)
COLUMNS = 3
UNITS = {"reqps": "a second", "percentunit": "share", "s": "seconds", "short": ""}
STEP = 1.0
WINDOW = "5s"
"""Short, because the run is short. Grafana uses at least four scrapes."""
GREEN, AMBER, RED = "#73bf69", "#ff9830", "#f2495c"
COLOURS = {
    "interactive": "#fade2a",
    "background": "#5794f2",
    "refresh": "#b877d9",
    "permitted": RED,
    "global": GREEN,
    "headroom": GREEN,
    "user": "#5794f2",
    "route": "#b877d9",
    "10th": "#5794f2",
    "minimum": "#8ab8ff",
    "used": GREEN,
    "200": GREEN,
    "403": AMBER,
    "429": RED,
}
"""Colour by the first word of a series, the same in all panels. Other series get those of `OTHERS`."""
OTHERS = ("#b877d9", "#8ab8ff", "#ca95e5", "#9fa3ad")
STYLES = {"p5": "-", "p50": ":", "p95": "--", "p99": "-"}
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
    "font.size": 9,
    "svg.hashsalt": "indexer",
}


class Run:
    """Queries Prometheus for the data of a completed run."""

    def __init__(self, prometheus: server.Prometheus, start: float, end: float) -> None:
        self._prometheus = prometheus
        self._start = start
        self._end = end
        self.seconds = end - start

    def query_lines(self, panel: panels.Panel) -> list[Line]:
        """Return a panel's series: those that were above 0 at some time, and the only series of a query."""
        found: list[Line] = []
        for query in panel.queries:
            text = query.expanded().replace("$__rate_interval", WINDOW).replace("$namespace", ".*")
            rows = self._prometheus.query_range(text, self._start, self._end, STEP)
            for labels, pairs in rows:
                points = [(at - self._start, value) for at, value in pairs if not math.isnan(value)]
                if points and (len(rows) == 1 or any(value > 0 for _, value in points)):
                    found.append((_format_legend(query.legend, labels), points))
        return found


def draw(run: Run, title: str, path: pathlib.Path) -> None:
    """Draw into an SVG file: the worst value of each single-number panel, and the graphs below."""
    with mpl.rc_context(DARK):
        whole = figure.Figure(figsize=(12, 11), layout="constrained")
        whole.suptitle(title, fontsize=11)
        rows = math.ceil(len(SHOWN) / COLUMNS)
        parts: Any = whole.subfigures(2, 1, height_ratios=(1, 2.2 * rows))
        upper, lower = parts
        _draw_numbers(upper, run)
        for place, (row, name) in enumerate(SHOWN, start=1):
            (panel,) = [one for one in row.panels if one.title == name]
            _draw_graph(lower.add_subplot(rows, COLUMNS, place), panel, run)
        whole.savefig(path, metadata={"Date": None})


def _draw_numbers(whole: Any, run: Run) -> None:  # noqa: ANN401 -- matplotlib is untyped here
    first, *others = headroom.NOW.panels
    # The recorded series has a window of a minute, which is longer than the run.
    (shorter_window,) = [panel for panel in headroom.GLOBAL.panels if panel.title == "Headroom"]
    shown = [dataclasses.replace(shorter_window, title=first.title), *others]
    for place, panel in enumerate(shown, start=1):
        axes = whole.add_subplot(1, len(shown), place, xticks=[], yticks=[])
        values = [value for _, points in run.query_lines(panel) for _, value in points]
        falling = "headroom" in panel.title.lower()
        worst = min(values) if falling else max(values)
        text = f"{worst:.0%}" if panel.unit == "percentunit" else f"{worst:g}{' s' * (panel.unit == 's')}"
        axes.text(0.5, 0.45, text, ha="center", va="center", fontsize=22, color=_colour_of_value(panel, worst))
        axes.text(0.5, 0.1, "minimum" if falling else "maximum", ha="center", fontsize=7, color="#9fa3ad")
        axes.set_title(panel.title, fontsize=8)


def _colour_of_value(panel: panels.Panel, value: float) -> str:
    """Return the colour that Grafana uses for a value."""
    if panel.limits is None:
        return "#ccccdc"
    amber, red = panel.limits
    sign = 1 if red > amber else -1
    return RED if sign * value >= sign * red else AMBER if sign * value >= sign * amber else GREEN


def _draw_graph(axes: Any, panel: panels.Panel, run: Run) -> None:  # noqa: ANN401 -- as above
    lines = run.query_lines(panel)
    axes.set_title(panel.title, loc="left", fontsize=9)
    axes.set_ylabel(UNITS.get(panel.unit, panel.unit), fontsize=8)
    axes.set_xlabel("seconds since the start", fontsize=7)
    axes.grid(visible=True, linewidth=0.5)
    stacked = [line for line in lines if line[0] != "permitted"] if panel.unit == "reqps" else []
    colours = dict(zip((name for name, _ in lines), _colours_of_series(name for name, _ in lines), strict=True))
    if stacked:
        _draw_stack(axes, stacked, [colours[name] for name, _ in stacked])
    for name, points in lines:
        if (name, points) not in stacked:
            style = "--" if name == "permitted" else STYLES.get(name.rpartition(" ")[2], "-")
            axes.plot(*zip(*points, strict=True), label=name, linewidth=1.2, color=colours[name], linestyle=style)
    for limit, colour in zip(panel.limits or (), (AMBER, RED), strict=False):
        axes.axhline(limit, color=colour, linestyle="--", linewidth=0.8)
    top = panel.most or max([*((limit * 1.2) for limit in panel.limits or ()), 0.0]) or None
    axes.set_ylim(0, top)
    axes.set_xlim(0, run.seconds)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncol=COLUMNS, fontsize=7, frameon=False)


def _draw_stack(axes: Any, lines: Sequence[Line], colours: Sequence[str]) -> None:  # noqa: ANN401 -- as above
    times = sorted({at for _, points in lines for at, _ in points})
    rows = [[dict(points).get(at, 0.0) for at in times] for _, points in lines]
    axes.stackplot(times, rows, labels=[name for name, _ in lines], colors=colours, alpha=0.7)


def _colours_of_series(names: Iterable[str]) -> list[str]:
    found, left = [], list(OTHERS)
    for name in names:
        known = COLOURS.get(name.split(" ")[0].rstrip(":"))
        found.append(known or (left.pop(0) if left else OTHERS[-1]))
    return found


def _format_legend(legend: str, labels: dict[str, str]) -> str:
    for name, value in labels.items():
        legend = legend.replace(f"{{{{{name}}}}}", value)
    return legend
