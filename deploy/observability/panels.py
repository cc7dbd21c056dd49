"""Builds Grafana dashboards: the dashboard modules declare the contents of panels, this module their appearance."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models

REPOSITORY = "https://github.com/discord-channel-indexer/discord-channel-indexer/blob/main/"
RUNBOOK = REPOSITORY + "docs/runbook.md"
METRICS = REPOSITORY + "docs/metrics.md"
NS = 'namespace=~"$namespace"'
"""Matcher in every selector of a panel, written $ns."""
POD = 'pod=~"$pod"'
"""Further matcher in selectors of what processes export; series recorded by rules have no pod."""
RECORDED = re.compile(r"(\w+:[\w:]+\{)\$ns")
TAG = "discord-channel-indexer"
PROCESS = "{{pod}} {{instance}}"
"""Legend of series by pod and instance; a laptop's have no pod."""
SOURCE = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
WIDTH = 24
"""Columns of Grafana's grid."""
ALERTS = f'ALERTS{{alertname=~"Indexer.+",alertstate="firing",{NS}}}'
RELEASES = f"""count by (version) (indexer_build_info{{{NS}}})
unless on (version) count by (version) (indexer_build_info{{{NS}}} offset 5m)"""
"""Versions that did not run five minutes before."""
ALL_ZERO = models.MatcherConfig("byValue", {"reducer": "allIsZero", "op": "gte", "value": 0})
HIDDEN = models.DynamicConfigValue("custom.hideFrom", {"viz": True, "legend": True, "tooltip": True})


@dataclasses.dataclass(frozen=True, slots=True)
class Query:
    """A query with $ns in every selector, and the legend of its series, of which those that stay at 0 are not drawn."""

    expression: str
    legend: str = ""

    def expanded(self) -> str:
        """Return the query in Grafana's form."""
        return RECORDED.sub(rf"\1{NS}", self.expression).replace("$ns", f"{NS},{POD}")


@dataclasses.dataclass(frozen=True, slots=True)
class Panel:
    """
    One panel.

    Attributes:
        description: A sentence: what to look for.
        unit: Grafana's name of a unit.
        runbook: Alert that watches the panel, the name of its section in docs/runbook.md; empty without one.
        limits: Values at which the panel turns amber and red; descending when low values are bad.
        single: Whether to show one number instead of a graph.
        stacked: Whether the series add up to a total.
        most: Upper end of the axis.
        span: Width in columns.
    """

    title: str
    description: str
    unit: str
    queries: Sequence[Query]
    runbook: str = ""
    limits: tuple[float, float] | None = None
    single: bool = False
    stacked: bool = False
    most: float | None = None
    span: int = 8


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: Sequence[Panel]


@dataclasses.dataclass(frozen=True, slots=True)
class Dashboard:
    """A dashboard."""

    uid: str
    title: str
    description: str
    rows: Sequence[Row]


def rate(metric: str, by: str = "", more: str = "") -> str:
    """Return the rate of a counter, summed over processes. *more*: further matchers, each preceded by a comma."""
    total = f"sum by ({by})" if by else "sum"
    return f"{total} (rate({metric}{{$ns{more}}}[$__rate_interval]))"


def quantile(share: float, metric: str, by: str = "", more: str = "") -> str:
    """Return a quantile of a histogram, over all processes."""
    return f"histogram_quantile({share}, {rate(metric + '_bucket', f'le, {by}' if by else 'le', more)})"


def quantiles(metric: str, by: str = "", shares: Sequence[float] = (0.5, 0.95)) -> list[Query]:
    """Return queries for several quantiles, with legends p50 and so on."""
    label = f"{{{{{by}}}}} " if by else ""
    return [Query(quantile(share, metric, by), f"{label}p{share * 100:g}") for share in shares]


def share(counter: str, of: str) -> str:
    """Return the share of a counter's events of the last hour that match *of*; 0 when there were none."""
    every = f"sum(increase({counter}{{$ns}}[1h]))"
    return f"sum(increase({counter}{{$ns,{of}}}[1h])) / ({every} > 0) or vector(0)"


def build(board: Dashboard) -> models.Dashboard:
    """Return the dashboard in Grafana's types."""
    made = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .description(board.description)
        .tags([TAG])
        .readonly()
        .refresh("30s")
        .time("now-3h", "now")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .with_variable(_datasource())
        .with_variable(_choice("namespace", "Bot (its namespace)", "label_values(indexer_build_info, namespace)"))
        .with_variable(_choice("pod", "Pod", f"label_values(indexer_build_info{{{NS}}}, pod)"))
        .annotation(_annotation("Alerts", "orange", ALERTS, "{{alertname}}"))
        .annotation(_annotation("Releases", "blue", RELEASES, "release {{version}}"))
        .link(_boards())
        .link(_link("Runbook", RUNBOOK))
        .link(_link("Metrics", METRICS))
    )
    number = 0
    for row in board.rows:
        made = made.with_row(dashboard.Row(row.title))
        for panel in row.panels:
            number += 1
            made = made.with_panel(_single(panel, number) if panel.single else _graph(panel, number))
    return made.build()


def _datasource() -> dashboard.DatasourceVariable:
    return dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")


def _choice(name: str, label: str, query: str) -> dashboard.QueryVariable:
    """Return a variable of several values; all of them match series without the label too, as those of a laptop."""
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query(query)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .include_all(include_all=True)
        .all_value(".*")
        .multi(multi=True)
        .current(models.VariableOption(text="All", value="$__all", selected=True))
    )


def _annotation(name: str, colour: str, query: str, title: str) -> dashboard.AnnotationQuery:
    """Return marks at the times at which a query has series."""
    return (
        dashboard.AnnotationQuery()
        .name(name)
        .datasource(SOURCE)
        .enable(enable=True)
        .icon_color(colour)
        .expr(query)
        .step("60s")
        .title_format(title)
    )


def _boards() -> dashboard.DashboardLink:
    """Return links to all boards of the product, which keep the chosen time and values."""
    return (
        dashboard.DashboardLink("Boards")
        .type(models.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .as_dropdown(as_dropdown=True)
        .keep_time(keep_time=True)
        .include_vars(include_vars=True)
    )


def _link(title: str, url: str) -> dashboard.DashboardLink:
    return dashboard.DashboardLink(title).type(models.DashboardLinkType.LINK).url(url).target_blank(target_blank=True)


def _thresholds(panel: Panel) -> dashboard.ThresholdsConfig:
    """Return the colours by value. A graph also shows the limits as lines."""
    steps = [models.Threshold(value=None, color="green")]
    if panel.limits is not None:
        amber, red = panel.limits
        colours = [("orange", amber), ("red", red)]
        if amber > red:
            steps = [models.Threshold(value=None, color="red")]
            colours = [("orange", red), ("green", amber)]
        steps += [models.Threshold(value=value, color=colour) for colour, value in colours]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)


def _targets(panel: Panel) -> list[Any]:
    found: list[Any] = []
    for name, query in zip("ABCDEFGH", panel.queries, strict=False):
        one = prometheus.Dataquery().expr(query.expanded()).ref_id(name).datasource(SOURCE).legend_format(query.legend)
        found.append(one.instant() if panel.single else one.range())
    return found


def _links(panel: Panel) -> list[Any]:
    return [_link("Runbook", f"{RUNBOOK}#{panel.runbook.lower()}")] if panel.runbook else []


def _single(panel: Panel, number: int) -> stat.Panel:
    made = (
        stat.Panel()
        .id(number)
        .title(panel.title)
        .description(panel.description)
        .datasource(SOURCE)
        .unit(panel.unit)
        .thresholds(_thresholds(panel))
        .links(_links(panel))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .graph_mode(common_models.BigValueGraphMode.NONE)
        .color_mode(common_models.BigValueColorMode.BACKGROUND)
        .no_value("no data")
        .height(4)
        .span(panel.span)
    )
    return made.targets(_targets(panel))


def _graph(panel: Panel, number: int) -> timeseries.Panel:
    made = (
        timeseries.Panel()
        .id(number)
        .title(panel.title)
        .description(panel.description)
        .datasource(SOURCE)
        .unit(panel.unit)
        .min(0)
        .links(_links(panel))
        .thresholds(_thresholds(panel))
        .line_width(1)
        .fill_opacity(25 if panel.stacked else 5)
        .show_points(common_models.VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions()
            .display_mode(common_models.LegendDisplayMode.TABLE)
            .calcs(["lastNotNull", "max"])
            .placement(common_models.LegendPlacement.BOTTOM)
            .show_legend(show_legend=True)
        )
        .height(8)
        .span(panel.span)
    )
    if any("{{" in query.legend for query in panel.queries):
        made = made.with_override(ALL_ZERO, [HIDDEN])
    most = 1.0 if panel.unit == "percentunit" and panel.most is None else panel.most
    if most is not None:
        made = made.max(most)
    if panel.limits is not None:
        line = common.GraphThresholdsStyleConfig().mode(common_models.GraphThresholdsStyleMode.DASHED)
        made = made.thresholds_style(line)
    if panel.stacked:
        made = made.stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL))
    return made.targets(_targets(panel))
