"""Draws a dashboard from data in Prometheus, about as Grafana does: numbers by thresholds, graphs, legends."""

import dataclasses
import io
import math
import pathlib
import re
from collections.abc import Sequence
from typing import Any, TypeAlias

import matplotlib as mpl
from matplotlib import figure
from PIL import Image

from deploy.observability import panels, server

Line: TypeAlias = tuple[str, list[tuple[float, float]]]
"""Name, and (seconds since the start, value) pairs."""
STEP = 1.0
VARIABLES = {"$__rate_interval": "10s", "$namespace": ".*", "$pod": ".*"}
"""The window is short, because the run is. Grafana uses at least four scrapes."""
SHOWN = 6
"""Series in a legend; those with the highest values."""
WIDTH, UNIT = 15.0, 0.62
"""Inches of the picture's width, and of one unit of height."""
COLOURS_OF_FILE = 64
"""A palette makes the file a quarter as large."""
HEIGHTS = {"title": 0.7, "number": 1.7, "graph": 4.2}
GREEN, AMBER, RED, GREY = "#73bf69", "#ff9830", "#f2495c", "#9fa3ad"
COLOURS = ("#73bf69", "#5794f2", "#fade2a", "#b877d9", "#ff9830", "#8ab8ff", "#f2495c", "#ca95e5", "#96d98d", "#9fa3ad")
DARK: dict[Any, Any] = {
    "axes.facecolor": "#181b1f",
    "figure.facecolor": "#111217",
    "savefig.facecolor": "#111217",
    "text.color": "#ccccdc",
    "axes.edgecolor": "#2c3038",
    "xtick.color": GREY,
    "ytick.color": GREY,
    "grid.color": "#2c3038",
    "font.size": 7,
}


class Run:
    """Queries Prometheus for the data of a completed run."""

    def __init__(self, prometheus: server.Prometheus, start: float, end: float) -> None:
        self._prometheus = prometheus
        self._start = start
        self._end = end
        self.seconds = end - start

    def query_lines(self, panel: panels.Panel) -> list[Line]:
        """Return a panel's series. Of a query with several series, those that stay at 0 are left out, as in Grafana."""
        found: list[Line] = []
        for query in panel.queries:
            text = query.expanded()
            for variable, value in VARIABLES.items():
                text = text.replace(variable, value)
            for labels, pairs in self._prometheus.query_range(text, self._start, self._end, STEP):
                points = [(at - self._start, value) for at, value in pairs if math.isfinite(value)]
                if points and ("{{" not in query.legend or any(value for _, value in points)):
                    found.append((_legend(query.legend, labels), points))
        return found


@dataclasses.dataclass(frozen=True, slots=True)
class _Cell:
    """A place in the picture: left and width of 24 columns, top and height in units."""

    left: float
    top: float
    width: float
    height: float


def draw(run: Run, board: panels.Dashboard, title: str, path: pathlib.Path) -> None:
    """Draw a dashboard into a PNG file. Its numbers are the worst ones of the run."""
    places, height = _lay_out(board)
    with mpl.rc_context(DARK):
        whole = figure.Figure(figsize=(WIDTH, height * UNIT))
        for panel, cell in places:
            if isinstance(panel, str):
                whole.text(0.01, 1 - (cell.top + 0.45) / height, panel, fontsize=10, color="#ccccdc")
                continue
            inner = (0.25, 0.3, 0.15, 0.15) if panel.single else (0.9, 0.45, 0.2, 1.7)
            left, top, right, bottom = inner
            axes = whole.add_axes(
                (
                    (cell.left + left) / panels.WIDTH,
                    1 - (cell.top + cell.height - bottom) / height,
                    (cell.width - left - right) / panels.WIDTH,
                    (cell.height - top - bottom) / height,
                )
            )
            (_draw_number if panel.single else _draw_graph)(axes, panel, run)
        whole.suptitle(title, fontsize=11, y=1 - 0.3 / height, va="top")
        path.parent.mkdir(exist_ok=True)
        drawn = io.BytesIO()
        whole.savefig(drawn, dpi=90)
    Image.open(drawn).convert("RGB").quantize(COLOURS_OF_FILE).save(path, optimize=True)


def _lay_out(board: panels.Dashboard) -> tuple[list[tuple[panels.Panel | str, _Cell]], float]:
    """Return the places of the panels and of the rows' titles, and the height of all."""
    places: list[tuple[panels.Panel | str, _Cell]] = []
    top = 0.8
    for row in board.rows:
        places.append((row.title, _Cell(0, top, panels.WIDTH, HEIGHTS["title"])))
        top += HEIGHTS["title"]
        left, tallest = 0.0, 0.0
        for panel in row.panels:
            if left + panel.span > panels.WIDTH:
                left, top = 0.0, top + tallest
            tallest = HEIGHTS["number" if panel.single else "graph"]
            places.append((panel, _Cell(left, top, panel.span, tallest)))
            left += panel.span
        top += tallest
    return places, top


def _draw_number(axes: Any, panel: panels.Panel, run: Run) -> None:  # noqa: ANN401 -- matplotlib is untyped here
    values = [value for _, points in run.query_lines(panel) for _, value in points]
    falling = panel.limits is not None and panel.limits[0] > panel.limits[1]
    worst = (min if falling else max)(values) if values else math.nan
    axes.set(xticks=[], yticks=[])
    axes.set_facecolor(_colour(panel, worst) if panel.limits else "#181b1f")
    text = "no data" if math.isnan(worst) else _value(panel.unit, worst)
    axes.text(0.5, 0.5, text, ha="center", va="center", fontsize=17, color="#ffffff", transform=axes.transAxes)
    axes.set_title(panel.title, fontsize=7.5, loc="left", pad=3)


def _colour(panel: panels.Panel, value: float) -> str:
    """Return the colour that Grafana uses for a value, darkened for a background."""
    amber, red = panel.limits or (math.inf, math.inf)
    sign = 1 if red > amber else -1
    dark = {GREEN: "#37872d", AMBER: "#b5560b", RED: "#ad1f30"}
    return dark[RED if sign * value >= sign * red else AMBER if sign * value >= sign * amber else GREEN]


def _draw_graph(axes: Any, panel: panels.Panel, run: Run) -> None:  # noqa: ANN401 -- as above
    lines = run.query_lines(panel)
    colours = {name: COLOURS[number % len(COLOURS)] for number, (name, _) in enumerate(lines)}
    axes.set_title(panel.title, loc="left", fontsize=8, pad=3)
    axes.grid(visible=True, linewidth=0.4)
    if panel.stacked and lines:
        times = sorted({at for _, points in lines for at, _ in points})
        rows = [[dict(points).get(at, 0.0) for at in times] for _, points in lines]
        axes.stackplot(times, rows, colors=[colours[name] for name, _ in lines], alpha=0.6)
    for name, points in lines:
        axes.plot(*zip(*points, strict=True), linewidth=0 if panel.stacked else 1.1, color=colours[name])
    for limit, colour in zip(panel.limits or (), (AMBER, RED), strict=False):
        axes.axhline(limit, color=colour, linestyle="--", linewidth=0.7)
    highest = max([*(value for _, points in lines for _, value in points), 0.0])
    share = 1.0 if panel.unit == "percentunit" else None
    axes.set_xlim(0, run.seconds)
    axes.set_ylim(0, panel.most or share or (None if panel.stacked else highest * 1.1) or (None if highest else 1.0))
    plain = panel.unit if panel.unit in {"s", "percentunit", "bytes"} else "short"
    axes.yaxis.set_major_formatter(lambda value, _: _value(plain, value))
    axes.tick_params(labelsize=6, length=2)
    if not lines:
        axes.text(0.5, 0.5, "none above 0", ha="center", color=GREY, transform=axes.transAxes)
    _draw_legend(axes, panel, lines, colours)


def _draw_legend(axes: Any, panel: panels.Panel, lines: Sequence[Line], colours: dict[str, str]) -> None:  # noqa: ANN401 -- as above
    ordered = sorted(lines, key=lambda line: -max(value for _, value in line[1]))[:SHOWN]
    for number, (name, points) in enumerate(ordered):
        last, most = points[-1][1], max(value for _, value in points)
        text = f"{name[:34]}   last {_value(panel.unit, last)}   max {_value(panel.unit, most)}"
        place = {"xycoords": "axes fraction", "textcoords": "offset points", "xytext": (0, -18 - 8 * number)}
        axes.annotate(text, (0, 0), fontsize=5.8, color=colours[name], annotation_clip=False, **place)


def _value(unit: str, value: float) -> str:
    """Return a value with its unit, as Grafana writes it."""
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    if unit == "s":
        return f"{value * 1000:.3g} ms" if abs(value) < 1 and value else f"{value:.3g} s"
    if unit == "bytes":
        return f"{value / 2**20:.4g} MiB"
    suffix = {"reqps": " req/s", "short": ""}.get(unit, f" {unit.removeprefix('suffix: ')}")
    return f"{value:.4g}{suffix}"


def _legend(legend: str, labels: dict[str, str]) -> str:
    for name, value in labels.items():
        legend = legend.replace(f"{{{{{name}}}}}", value)
    return re.sub(r"\{\{\w+\}\}", "", legend).strip()
