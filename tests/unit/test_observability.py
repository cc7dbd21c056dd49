"""Consistency of dashboards, rules and runbook: they refer to existing metrics and to each other."""

import copy
import json
import pathlib
import re
from collections.abc import Callable
from typing import Any

import pytest

from deploy.observability import lint, make, panels, verify
from docs import make_metrics
from indexing.telemetry import fleet_metrics, metric_types

RULES = "\n".join(path.read_text() for path in make.RULES)
DASHBOARDS: dict[str, dict[str, Any]] = {name: json.loads(make.page(board)) for name, board in make.DASHBOARDS.items()}
RUNBOOK = pathlib.Path(make.HERE.parents[1], "docs", "runbook.md").read_text()
ALERTS = re.findall(r"- alert: (\w+)", RULES)
RECORDED = set(re.findall(r"- record: (\S+)", RULES))
NAME = re.compile(r"\b(?:indexer|grpc_server)[_:][a-z0-9_:]+")
CLIENT = {"process_cpu_seconds_total", "process_resident_memory_bytes"}
"""Served by Prometheus' own client in each process."""


def declared() -> dict[str, metric_types.Declared]:
    """Return all metrics by each name under which Prometheus stores them."""
    found = {}
    for group in make_metrics.groups():
        for one in group.declared:
            ends = ("_bucket", "_sum", "_count") if one.kind == "histogram" else ("",)
            found.update({one.name + end: one for end in ends})
    return found


def queries() -> list[str]:
    """Return all queries of the dashboards, and the text of the rules without what is not a query."""
    panels = [panel for board in DASHBOARDS.values() for panel in board["panels"]]
    asked = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    rules = "\n".join(line for line in RULES.splitlines() if not re.search(r"name:|url:|#", line))
    return [*asked, re.sub(r"record: \S+", "", rules)]


def test_every_metric_exists_when_a_dashboard_or_rule_names_it() -> None:
    """As a declared metric or a recorded series."""
    named = {name for query in queries() for name in NAME.findall(query)}

    assert named
    assert named - set(declared()) - RECORDED == set()


def test_every_label_value_exists_when_a_dashboard_or_rule_selects_it() -> None:
    """A misspelt value would silently select nothing."""
    known = declared()
    for query in queries():
        for name, matchers in lint.SELECTOR.findall(query):
            metric = known.get(name) or known.get("indexer_" + name.split(":")[1] if ":" in name else "")
            for label, wanted in re.findall(r'(\w+)(?:=|!=|=~)"([^"]*)"', matchers):
                if label in {"namespace", "pod", "le"} or metric is None:
                    continue
                (bound,) = [one for one in metric.labels if one.name == label]
                assert set(wanted.split("|")) <= set(bound.values), (name, label)


def test_every_recorded_series_is_used_when_a_rule_records_it() -> None:
    """By a panel or another rule."""
    asked = " ".join(queries())

    unused = {"indexer:budget_window_seconds:max"}  # for those who look by hand
    assert {name for name in RECORDED if name not in asked} == unused


def test_every_metric_is_used_when_it_is_declared() -> None:
    """By a panel or a rule: an unused metric need not be counted."""
    asked = " ".join(queries())
    names = {one.name for one in declared().values()}

    assert {name for name in names if not re.search(rf"\b{name}(_bucket|_count|_sum)?\b", asked)} == set()


def test_exporter_metrics_are_queried_through_their_maximum_when_a_panel_shows_them() -> None:
    """A second exporter during a rollout changes nothing; metrics of the exporter itself are its own."""
    (fleet,) = [group for group in make_metrics.groups() if isinstance(group, fleet_metrics.FleetMetrics)]
    shared = {one.name for one in fleet.declared} - {"indexer_exporter_read_seconds"}
    *panels, _ = queries()
    looks = [line for line in RULES.splitlines() if not re.search(r"name:|url:|#|record:", line)]

    for name in shared:
        assert f"indexer:{name.removeprefix('indexer_')}:max" in RECORDED
        assert not [query for query in panels if re.search(rf"\b{name}\b", query)]
        found = [line for line in looks if re.search(rf"\b{name}\b", line)]
        assert all(re.search(rf"(max by \([a-z, ]+\) \(|absent\(){name}\b", line) for line in found), found


def test_every_silent_panel_exists_when_the_verification_lists_it() -> None:
    """A renamed panel takes its explanation along."""
    titles = {panel.title for board in make.DASHBOARDS.values() for row in board.rows for panel in row.panels}

    assert set(verify.SILENT) <= titles


def test_every_alert_has_a_runbook_section_when_it_is_declared() -> None:
    """
    Meaning, first look, commands, remedy and what not to do, at the link's target; none is about a removed alert.

    The slow one of a pair points to the section of the fast one.
    """
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", RUNBOOK, re.MULTILINE | re.DOTALL))

    assert list(sections) == ALERTS
    for name, text in sections.items():
        refers = text.partition("**First look.** ")[2].startswith("As for [")
        parts = ["Meaning", "First look", "Remedy", "Not"][: 3 if refers and "**Not.**" not in text else 4]
        assert re.findall(r"^\*\*(.+?)\.\*\*", text, re.MULTILINE) == parts, name
        assert refers or text.count("```") >= len(("begin", "end")), name
        assert f"docs/runbook.md#{name.lower()}\n" in RULES


def test_every_panel_exists_when_the_runbook_names_it() -> None:
    """In italics: a panel, a row or a board. A renamed panel is renamed there too."""
    boards = make.DASHBOARDS.values()
    rows = [row for board in boards for row in board.rows]
    known = {board.title.partition(" / ")[2] for board in boards} | {row.title for row in rows}
    known |= {panel.title for row in rows for panel in row.panels}

    named = set(re.findall(r"(?<!\*)\*([A-Z][^*\n]*)\*(?!\*)", RUNBOOK))

    assert named
    assert named - known == set()


def test_every_alert_is_tested_when_it_fires_and_when_it_does_not() -> None:
    """By promtool, see make check-monitoring."""
    tests = "".join(path.read_text() for path in (make.HERE / "rules").glob("*.test.yaml"))

    for name in ALERTS:
        assert f"- name: {name} fires" in tests
        assert f"- name: {name} is silent" in tests


def test_every_runbook_link_has_a_target_when_a_panel_has_one() -> None:
    """The section of an alert."""
    for board in DASHBOARDS.values():
        for panel in board["panels"]:
            for link in panel.get("links", []):
                assert link["url"].rpartition("#")[2] in {name.lower() for name in ALERTS}, panel["title"]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_passes_the_lint_rules_when_it_is_generated(name: str) -> None:
    """No field is lost on its way through Grafana's types."""
    text = make.page(make.DASHBOARDS[name])

    assert lint.problems(json.loads(text)) == []
    assert make.list_unknown_fields(text) == []
    assert (make.HERE / "dashboards" / f"{name}.json").read_text() == text


def _panel(board: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next(panel for panel in board["panels"] if panel["type"] == "timeseries")
    return found


def _share(board: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next(
        panel
        for panel in board["panels"]
        if panel["type"] == "timeseries" and panel["fieldConfig"]["defaults"]["unit"] == "percentunit"
    )
    return found


def _query(text: str) -> Callable[[dict[str, Any]], None]:
    return lambda board: _panel(board)["targets"][0].update(expr=text)


NS = 'namespace=~"$namespace"'


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda board: board.update(editable=True), "editable"),
        (lambda board: board["templating"]["list"].pop(0), "data source"),
        (lambda board: board["templating"]["list"][1].update(refresh=1), "namespaces"),
        (lambda board: board.update(links=[]), "runbook"),
        (lambda board: _panel(board).update(title=""), "no title"),
        (lambda board: _panel(board).update(description="Calls"), "description"),
        (lambda board: _panel(board)["fieldConfig"]["defaults"].pop("unit"), "unit"),
        (lambda board: _panel(board).update(datasource={"uid": "abc"}), "data source"),
        (lambda board: _panel(board).update(targets=[]), "no query"),
        (lambda board: _panel(board)["targets"][0].update(legendFormat=""), "no legend"),
        (lambda board: board["annotations"]["list"].pop(), "releases"),
        (lambda board: board["panels"].pop(0), "three to six numbers"),
        (lambda board: board["panels"].insert(1, _panel(board)), "three to six numbers"),
        (lambda board: _share(board)["fieldConfig"]["defaults"].pop("max"), "end at 100"),
        (lambda board: _panel(board)["fieldConfig"].update(overrides=[]), "stay at 0"),
        (lambda board: _panel(board)["options"]["legend"].update(calcs=["max"]), "last value"),
        (_query("sum(rate(indexer_calls_saved_total[$__rate_interval]))"), "without a matcher"),
        (_query('sum(rate(indexer_calls_saved_total{a="b"}[$__rate_interval]))'), "not limited"),
        (_query(f"sum(indexer_calls_saved_total{{{NS}}})"), "is a counter"),
        (_query(f"sum(rate(indexer_calls_saved_total{{{NS}}}[1m]))"), "shorter than two scrapes"),
    ],
)
def test_a_dashboard_is_rejected_when_it_breaks_a_rule(spoil: Callable[[dict[str, Any]], None], said: str) -> None:
    """With a line that names the problem."""
    board = copy.deepcopy(DASHBOARDS["headroom"])

    spoil(board)

    assert any(said in problem for problem in lint.problems(board))


def test_a_chosen_pod_limits_what_processes_export_and_not_what_rules_record() -> None:
    """Recorded series have no pod: limited by one, they would be empty."""
    query = panels.Query('sum(indexer_up{$ns,lane="a"}) / max(indexer:up:max{$ns})')

    assert query.expanded() == (
        'sum(indexer_up{namespace=~"$namespace",pod=~"$pod",lane="a"}) / max(indexer:up:max{namespace=~"$namespace"})'
    )


def test_a_field_is_reported_when_grafana_does_not_know_it() -> None:
    """A misspelt field would be dropped silently."""
    board = copy.deepcopy(DASHBOARDS["headroom"])
    _panel(board)["descriptoin"] = "x"

    assert make.list_unknown_fields(json.dumps(board)) == ["$.panels[].descriptoin"]
